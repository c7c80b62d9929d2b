//! How the store's server is verified.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::settings::Settings;
use crate::tls::{SystemRoots, Trust, certificates, own_roots, private_key};

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
    let own = match (&settings.ca_cert, &settings.ca_cert_base64) {
        (Some(_), Some(_)) => return Err("give either ca_cert or ca_cert_base64".to_owned()),
        (Some(path), None) => certificates(path).map_err(|text| format!("ca_cert {text}"))?,
        (None, Some(text)) => from_base64(text)?,
        (None, None) if settings.insecure.is_some() => return Ok(Trust::Nothing),
        (None, None) => return Ok(Trust::Name(SystemRoots::default().get())),
    };
    let own = own_roots(own).map_err(|text| format!("ca_cert: {text}"))?;
    Ok(if settings.insecure.is_some() { Trust::Nothing } else { Trust::Name(own) })
}

fn from_base64(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|_| "ca_cert_base64 is not base64")?;
    let pem: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    Ok(if pem.is_empty() { vec![CertificateDer::from(bytes)] } else { pem })
}
