//! TLS on both sides, with one provider (rustls on aws-lc-rs): the certificate that a listener shows, and how an upstream's is verified.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use keyward_config::{ListenAddress, ServerTls, TlsMode, UpstreamTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsAcceptor;

use crate::ca::{Leaf, LocalCa};

/// What a listener shows to its clients.
#[derive(Clone)]
pub struct ServerIdentity {
    /// Accepts TLS with it.
    pub acceptor: TlsAcceptor,
    /// `tls-server-end-point` of its certificate (RFC 5929 §4), where it has one.
    pub binding: Option<Arc<[u8]>>,
}

impl ServerIdentity {
    /// The admin's certificate, or one from the local CA.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn open(tls: Option<&ServerTls>, address: &ListenAddress, ca: &LocalCa, alpn: &[&[u8]]) -> Result<Self, String> {
        let leaf = match given(tls)? {
            Some(leaf) => leaf,
            None => ca.leaf(&own_names(tls, address))?,
        };
        Self::showing(leaf, alpn)
    }

    /// Whether the admin's certificate, if there is one, can be used. Makes nothing.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn check(tls: &ServerTls) -> Result<(), String> {
        given(Some(tls))?.map_or(Ok(()), |leaf| Self::showing(leaf, &[]).map(drop))
    }

    fn showing(leaf: Leaf, alpn: &[&[u8]]) -> Result<Self, String> {
        let first = leaf.chain.first().ok_or("no certificate")?;
        let binding = end_point(first).map(Into::into);
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .map_err(|error| format!("certificate and key: {error}"))?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), binding })
    }
}

fn given(tls: Option<&ServerTls>) -> Result<Option<Leaf>, String> {
    let files = tls.and_then(|tls| tls.certificate.as_deref().zip(tls.private_key.as_deref()));
    files.map(|(certificate, key)| Ok(Leaf { chain: certificates(certificate)?, key: private_key(key)? })).transpose()
}

fn own_names(tls: Option<&ServerTls>, address: &ListenAddress) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Ok(host) = rustix::system::uname().nodename().to_str() {
        names.push(host.to_owned());
    }
    if let ListenAddress::Tcp(address) = address
        && !address.ip().is_unspecified()
    {
        names.push(address.ip().to_string());
    }
    names.extend(tls.into_iter().flat_map(|tls| tls.names.iter().cloned()));
    names.sort();
    names.dedup();
    names
}

/// How the server of an upstream is verified, ready to use.
#[derive(Clone)]
pub struct UpstreamVerification {
    /// `None`: by the resolved address, `disable` on loopback and unix sockets and `verify-full` elsewhere.
    pub mode: Option<TlsMode>,
    /// Whether a pinned key verifies the server by itself.
    pub pinned: bool,
    /// Asked for and verified instead of the host in the address.
    pub server_name: Option<String>,
    /// The client half.
    pub config: Arc<ClientConfig>,
}

impl UpstreamVerification {
    /// Reads the files that the connection names.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn open(tls: Option<&UpstreamTls>, alpn: &[&[u8]], roots: &Roots) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mode = tls.map(|tls| tls.mode);
        let pin = tls.and_then(|tls| tls.pinned_key.as_deref()).map(parse_pin).transpose()?;
        let verifier: Arc<dyn ServerCertVerifier> = match (mode, pin) {
            (_, Some(pin)) => Arc::new(Pinned { pin, provider: Arc::clone(&provider) }),
            (Some(TlsMode::Require | TlsMode::Disable), None) => Arc::new(Unchecked { provider: Arc::clone(&provider) }),
            (Some(TlsMode::VerifyCa), None) => Arc::new(ChainOnly(chain(tls, roots, &provider)?)),
            (Some(TlsMode::VerifyFull) | None, None) => chain(tls, roots, &provider)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let own = tls.and_then(|tls| tls.certificate.as_deref().zip(tls.private_key.as_deref()));
        let mut config = match own {
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| format!("client certificate and key: {error}"))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let server_name = tls.and_then(|tls| tls.server_name.clone());
        Ok(Self { mode, pinned: tls.is_some_and(|tls| tls.pinned_key.is_some()), server_name, config: Arc::new(config) })
    }
}

/// The system's authorities, read once, when the first connection needs them.
#[derive(Default)]
pub struct Roots(OnceLock<Arc<RootCertStore>>);

impl Roots {
    fn system(&self) -> Arc<RootCertStore> {
        let read = || {
            let mut roots = RootCertStore::empty();
            // What cannot be read or parsed verifies nothing; without any, every server is refused.
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        };
        Arc::clone(self.0.get_or_init(read))
    }
}

fn chain(tls: Option<&UpstreamTls>, roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let roots = match tls.and_then(|tls| tls.ca.as_deref()) {
        Some(path) => {
            let mut own = RootCertStore::empty();
            for certificate in certificates(path)? {
                own.add(certificate).map_err(|_| format!("{}: not a certificate of an authority", path.display()))?;
            }
            Arc::new(own)
        }
        None => roots.system(),
    };
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|_| "the system has no certificate of an authority: name one with `tls: { ca: … }`".to_owned())
}

/// Certificates of a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = |error: rustls_pki_types::pem::Error| format!("{}: {error}", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(shown)?.collect::<Result<_, _>>().map_err(shown)?;
    if all.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(all) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// `tls-server-end-point` (RFC 5929 §4.1): the hash of the certificate, by the hash of its signature; MD5 and SHA-1 count as SHA-256.
/// `None` where the signature has no hash of its own (Ed25519, RSA-PSS): libpq and PostgreSQL cannot bind to those either.
#[must_use]
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 WithRSAEncryption; ecdsa-with-SHA1 and -SHA256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &SHA512,
        _ => return None,
    };
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn parse_pin(text: &str) -> Result<[u8; 32], String> {
    use base64::Engine;
    const FORM: &str = "pinned_key: `sha256:` and the base64 of the SHA-256 of the server's public key";
    let encoded = text.strip_prefix("sha256:").ok_or(FORM)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| FORM)?;
    bytes.try_into().map_err(|_| FORM.to_owned())
}

macro_rules! signatures_by {
    ($field:ident) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, cert, dss, &self.$field.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, cert, dss, &self.$field.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$field.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// `require`: no check. What comes of it is `Unverified` and gets no secret unless the connection says `insecure`.
#[derive(Debug)]
struct Unchecked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(provider);
}

/// The server's public key is the one that the admin pinned.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (_, parsed) = x509_parser::parse_x509_certificate(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let seen = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
        if seen.as_ref() == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    signatures_by!(provider);
}

/// `verify-ca`: the chain, not the name. webpki checks the chain first, so that a wrong name is an error of a good chain.
#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
