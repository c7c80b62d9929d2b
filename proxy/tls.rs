//! TLS on both sides, with one provider (rustls on aws-lc-rs): the certificate that a listener shows. How an upstream's is verified, auth/ says: a
//! store may be one.

use std::io;
use std::sync::Arc;

pub use keyward_auth::tls::UpstreamVerification;
use keyward_auth::tls::{certificates, private_key};
use keyward_config::{ListenAddress, ServerTls};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::ca::{Leaf, LocalCa};
use crate::read_ahead::ReadAhead;

/// What a listener shows to its clients.
#[derive(Clone)]
pub struct ServerIdentity {
    acceptor: TlsAcceptor,
    /// `tls-server-end-point` of its certificate (RFC 5929 §4), where it has one.
    pub binding: Option<Arc<[u8]>>,
    /// The admin's certificate and those behind it; none where the local CA makes one at every start and reload.
    pub given: Option<Arc<[CertificateDer<'static>]>>,
}

impl ServerIdentity {
    /// The server's half of a TLS handshake.
    ///
    /// # Errors
    /// The client's, or the socket's.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<ReadAhead>> {
        self.acceptor.accept(ReadAhead::new(socket)).await
    }

    /// The admin's certificate, or one from the local CA.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn open(tls: Option<&ServerTls>, address: &ListenAddress, ca: &LocalCa, alpn: &[&[u8]]) -> Result<Self, String> {
        let given = given(tls)?;
        let chain = given.as_ref().map(|leaf| leaf.chain.as_slice().into());
        let leaf = given.map_or_else(|| ca.leaf(&own_names(tls, address)), Ok)?;
        Ok(Self { given: chain, ..Self::showing(leaf, alpn)? })
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
        // Hardly a client of a database takes a session up again, and each ticket costs its login an encryption and a place in our memory.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), binding, given: None })
    }
}

fn given(tls: Option<&ServerTls>) -> Result<Option<Leaf>, String> {
    let files = tls.and_then(|tls| tls.certificate.as_deref().zip(tls.private_key.as_deref()));
    files.map(|(certificate, key)| Ok(Leaf { chain: certificates(certificate)?, key: private_key(key)? })).transpose()
}

fn own_names(tls: Option<&ServerTls>, address: &ListenAddress) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    // A certificate holds no other letters.
    if let Some(host) = rustix::system::uname().nodename().to_str().ok().filter(|host| host.is_ascii()) {
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
