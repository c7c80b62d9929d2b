//! How a server that we connect to proves who it is: one mechanism for stores and, in the proxy, for upstreams.

mod authority_as_server;
#[cfg(test)]
mod tests;
mod verification;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use keyward_config::read_file;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, client};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

pub use verification::UpstreamVerification;

/// The longest file of certificates or keys, in bytes.
const MAX_PEM: u64 = 1024 * 1024;

/// By what a server is believed.
pub enum Trust {
    /// A chain to one of these authorities, and the name.
    Name(Arc<RootCertStore>),
    /// A chain to one of these authorities, whatever the name. The server may show an authority's certificate as its own, if one of these
    /// signed it itself.
    Chain(Arc<RootCertStore>),
    /// The SHA-256 of its public key (SubjectPublicKeyInfo), whatever the certificate says.
    Key([u8; 32]),
    /// Nothing. Whoever uses this answers for what is sent there.
    Nothing,
}

impl Trust {
    /// The client half of TLS that believes a server by this, up to the question of a certificate of our own.
    ///
    /// # Errors
    /// rustls's own.
    pub fn client(self) -> Result<ConfigBuilder<ClientConfig, client::WantsClientCert>, String> {
        let provider = Arc::new(default_provider());
        let webpki = |roots: Arc<RootCertStore>| WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let by = match self {
            // webpki wants at least one authority; a machine without any believes nobody.
            Self::Name(roots) | Self::Chain(roots) if roots.is_empty() => By::Nobody,
            Self::Name(roots) => By::Name(webpki(roots).map_err(|error| error.to_string())?),
            Self::Chain(roots) => By::Chain { webpki: webpki(Arc::clone(&roots)).map_err(|error| error.to_string())?, roots },
            Self::Key(pin) => By::Key(pin),
            Self::Nothing => By::Nothing,
        };
        let verifier = Arc::new(Verifier { by, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier))
    }
}

/// The system's authorities, read when somebody first needs them.
#[derive(Default)]
pub struct SystemRoots(Mutex<Option<Arc<RootCertStore>>>);

impl SystemRoots {
    /// The authorities; none where there are none. What cannot be read or parsed verifies nothing, and is logged.
    #[must_use]
    pub fn get(&self) -> Arc<RootCertStore> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = &*kept {
            return Arc::clone(roots);
        }
        let read = rustls_native_certs::load_native_certs();
        for error in &read.errors {
            tracing::info!(%error, "the system's certificate authorities");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(read.certs);
        let roots = Arc::new(roots);
        // An empty set may be a bundle that is being written at this moment: the next one looks again.
        *kept = Some(Arc::clone(&roots)).filter(|roots| !roots.is_empty());
        roots
    }
}

/// Authorities of one's own, and no others.
///
/// # Errors
/// One of them is no certificate of an authority.
pub fn own_roots(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|_| "not a certificate of an authority")?;
    }
    Ok(Arc::new(roots))
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// A text that names the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let say = |error: PemError| format!("{}: {error}", path.display());
    let bytes = read_file(path, MAX_PEM)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(say)?;
    if all.is_empty() { Err(format!("{}: no PEM certificate in it", path.display())) } else { Ok(all) }
}

/// The private key of a PEM file.
///
/// # Errors
/// A text that names the file, and never holds a part of it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read_file(path, MAX_PEM)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| format!("{}: no PEM private key in it", path.display()))
}

#[derive(Debug)]
struct Verifier {
    by: By,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum By {
    Name(Arc<WebPkiServerVerifier>),
    Chain { webpki: Arc<WebPkiServerVerifier>, roots: Arc<RootCertStore> },
    Key([u8; 32]),
    Nothing,
    Nobody,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::Error::InvalidCertificate;
        match &self.by {
            By::Name(webpki) => webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            By::Chain { roots, .. } if authority_as_server::is_one(end_entity) => {
                authority_as_server::verify(end_entity, roots, &self.provider.signature_verification_algorithms, now)?;
                Ok(ServerCertVerified::assertion())
            }
            // webpki checks the chain first, so that a wrong name is the fault of a good chain.
            By::Chain { webpki, .. } => match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Err(InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                    Ok(ServerCertVerified::assertion())
                }
                other => other,
            },
            By::Key(pin) => {
                let parsed = x509_parser::parse_x509_certificate(end_entity);
                let (_, parsed) = parsed.map_err(|_| InvalidCertificate(CertificateError::BadEncoding))?;
                if digest(&SHA256, parsed.tbs_certificate.subject_pki.raw).as_ref() == pin {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(InvalidCertificate(CertificateError::ApplicationVerificationFailure))
                }
            }
            By::Nothing => Ok(ServerCertVerified::assertion()),
            By::Nobody => Err(InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    // Whatever the certificate is believed by: the server has to hold its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
