//! How the store's server is verified.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::settings::Settings;

/// The TLS rules of a store.
///
/// # Errors
/// A file that cannot be read or holds none of what it should; the text names the file.
pub(super) fn config(settings: &Settings) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = if settings.insecure.is_some() {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        let roots = Arc::new(roots(settings)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|error| error.to_string())?;
        builder.with_webpki_verifier(verifier)
    };
    let mut config = match (&settings.client_cert, &settings.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(chain), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("client_key {}: {error}", key.display()))?;
            builder.with_client_auth_cert(certificates("client_cert", chain)?, key_der).map_err(|error| format!("client_cert: {error}"))?
        }
        _ => return Err("client_cert and client_key belong together".to_owned()),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(settings: &Settings) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let own = match (&settings.ca_cert, &settings.ca_cert_base64) {
        (Some(_), Some(_)) => return Err("give either ca_cert or ca_cert_base64".to_owned()),
        (Some(path), None) => certificates("ca_cert", path)?,
        (None, Some(text)) => from_base64(text)?,
        (None, None) => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            // A store on plain http to this machine needs no roots; a handshake without any fails by itself.
            return Ok(roots_or_none(roots));
        }
    };
    for certificate in own {
        roots.add(certificate).map_err(|error| format!("ca_cert: {error}"))?;
    }
    Ok(roots)
}

/// A verifier needs at least one root to be built; a machine without any trusts nobody.
fn roots_or_none(mut roots: RootCertStore) -> RootCertStore {
    if roots.is_empty() {
        roots.roots.push(rustls_pki_types::TrustAnchor {
            subject: Vec::new().into(),
            subject_public_key_info: Vec::new().into(),
            name_constraints: None,
        });
    }
    roots
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let say = |error: &dyn std::fmt::Display| format!("{key} {}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| say(&error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| say(&error))?;
    if found.is_empty() { Err(say(&"there is no PEM certificate in it")) } else { Ok(found) }
}

fn from_base64(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|_| "ca_cert_base64 is not base64")?;
    let pem: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    Ok(if pem.is_empty() { vec![CertificateDer::from(bytes)] } else { pem })
}

/// `insecure`: whoever answers is believed, since the file says why.
#[derive(Debug)]
struct Unverified(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
