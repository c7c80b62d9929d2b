//! How the server of an upstream, or of a store that is one, is verified: what `tls:` says, ready to use.

use std::sync::Arc;

use keyward_config::{TlsMode, UpstreamTls};
use rustls::ClientConfig;

use super::{SystemRoots, Trust, certificates, own_roots, private_key};

const NO_ROOTS: &str = "this machine has no certificate of an authority: name one with `tls: { ca: … }`";

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
    pub fn open(tls: Option<&UpstreamTls>, alpn: &[&[u8]], system: &SystemRoots) -> Result<Self, String> {
        let mode = tls.map(|tls| tls.mode);
        let roots = || match tls.and_then(|tls| tls.ca.as_deref()) {
            Some(path) => own_roots(certificates(path)?).map_err(|text| format!("{}: {text}", path.display())),
            None => Some(system.get()).filter(|roots| !roots.is_empty()).ok_or_else(|| NO_ROOTS.to_owned()),
        };
        let trust = match (mode, tls.and_then(|tls| tls.pinned_key.as_deref())) {
            (_, Some(pin)) => Trust::Key(parse_pin(pin)?),
            (Some(TlsMode::Require | TlsMode::Disable), None) => Trust::Nothing,
            (Some(TlsMode::VerifyCa), None) => Trust::Chain(roots()?),
            (Some(TlsMode::VerifyFull) | None, None) => Trust::Name(roots()?),
        };
        let builder = trust.client()?;
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

fn parse_pin(text: &str) -> Result<[u8; 32], String> {
    use base64::Engine;
    const FORM: &str = "pinned_key: `sha256:` and the base64 of the SHA-256 of the server's public key";
    let encoded = text.strip_prefix("sha256:").ok_or(FORM)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| FORM)?;
    bytes.try_into().map_err(|_| FORM.to_owned())
}
