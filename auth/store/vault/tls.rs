//! How the store's server is verified.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward_config::read_file;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::settings::Settings;
use crate::tls::{SystemRoots, Trust, certificates, own_roots, private_key};

/// The longest file of certificates, in bytes, and how many of them a folder may have.
const MAX_FILE: u64 = 1024 * 1024;
const MOST_FILES: usize = 1000;

/// The TLS rules of a store.
///
/// # Errors
/// A file that cannot be read or holds none of what it should; the text names the file.
pub(super) fn config(settings: &Settings) -> Result<ClientConfig, String> {
    let builder = trust(settings)?.client()?;
    let mut config = match (&settings.client_cert, &settings.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(chain), Some(key)) => {
            let chain = certificates(chain).map_err(|text| format!("client_cert {text}"))?;
            let key = private_key(key).map_err(|text| format!("client_key {text}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("client_cert: {error}"))?
        }
        _ => return Err("client_cert and client_key belong together".to_owned()),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn trust(settings: &Settings) -> Result<Trust, String> {
    let own = match (&settings.ca_cert, &settings.ca_cert_base64, &settings.ca_path) {
        (Some(path), None, None) => certificates(path).map_err(|text| format!("ca_cert {text}"))?,
        (None, Some(text), None) => from_base64(text)?,
        (None, None, Some(folder)) => of_folder(folder).map_err(|text| format!("ca_path {text}"))?,
        (None, None, None) if settings.insecure.is_some() => return Ok(Trust::Nothing),
        (None, None, None) => return Ok(Trust::Name(SystemRoots::default().get())),
        _ => return Err("give one of ca_cert, ca_cert_base64 and ca_path".to_owned()),
    };
    let own = own_roots(own).map_err(|text| format!("ca_cert: {text}"))?;
    Ok(if settings.insecure.is_some() { Trust::Nothing } else { Trust::Name(own) })
}

/// The certificates of every file in a folder, less the hidden ones: what else lies there, holds none.
fn of_folder(folder: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    let paths = std::fs::read_dir(folder).map_err(say)?.take(MOST_FILES).map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(say)?;
    let shown = |path: &PathBuf| path.is_file() && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    paths.retain(shown);
    let mut all = Vec::new();
    for path in paths {
        let bytes = read_file(&path, MAX_FILE)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        all.extend(certificates.map_err(|error| format!("{}: {error}", path.display()))?);
    }
    if all.is_empty() { Err(format!("{}: no PEM certificate in any of its files", folder.display())) } else { Ok(all) }
}

fn from_base64(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|_| "ca_cert_base64 is not base64")?;
    let pem: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    Ok(if pem.is_empty() { vec![CertificateDer::from(bytes)] } else { pem })
}
