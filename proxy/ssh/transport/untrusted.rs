//! Why a key, a signature or a certificate does not count. The log is told which; the peer only ever hears that it was not enough.

use std::fmt;

use crate::key::BadKey;
use crate::shown::Shown;

/// The reason. Whatever a peer chose in it is escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untrusted {
    /// The key itself, or the one inside the certificate.
    Key(BadKey),
    /// An algorithm that we do not know or do not take any more: `ssh-rsa` with its SHA-1, `ssh-dss`.
    Algorithm(Shown),
    /// The algorithm is one of another type of key, or one of certificates where there is none (RFC 8332 §3).
    AlgorithmOfAnotherKey,
    /// The signature says of itself that it was made by another algorithm than the one agreed on.
    SignatureOfAnotherAlgorithm,
    /// The signature cannot be read, or something is behind it.
    SignatureMalformed,
    /// The signature was not made by this key over these bytes.
    SignatureWrong,
    /// A security key signed without being touched (PROTOCOL.u2f, flag 0x01).
    NoTouch,
    /// A security key signed without the PIN or fingerprint of its owner (PROTOCOL.u2f, flag 0x04).
    NoVerification,
    /// The certificate cannot be read; what is wrong with it.
    CertificateMalformed(&'static str),
    /// A host's certificate where a user's is needed, or the other way round.
    CertificateForAnotherRole,
    /// Nobody whom we trust signed the certificate.
    UnknownAuthority,
    /// The certificate's time has not come.
    NotYetValid,
    /// The certificate's time is over.
    Expired,
    /// The certificate names no principal; OpenSSH would take it for everybody's.
    NoPrincipals,
    /// The certificate is for others.
    AnotherPrincipal,
    /// A critical option that we do not honour, `force-command` among them.
    CriticalOption(Shown),
    /// The certificate may not be used from the peer's address.
    SourceAddress,
    /// The key, the certificate or its authority is on the revocation list, or marked `@revoked`.
    Revoked,
    /// Nothing is known of this host.
    UnknownHost,
    /// This host is known by other keys.
    AnotherHostKey,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Key(bad) => return bad.fmt(f),
            Self::Algorithm(name) => return write!(f, "the algorithm \"{name}\" is not allowed"),
            Self::CertificateMalformed(what) => return write!(f, "the certificate is malformed: {what}"),
            Self::CriticalOption(name) => return write!(f, "the certificate demands \"{name}\", which is not supported"),
            Self::AlgorithmOfAnotherKey => "the algorithm does not fit the type of the key",
            Self::SignatureOfAnotherAlgorithm => "the signature was made by another algorithm than the one agreed on",
            Self::SignatureMalformed => "the signature is malformed",
            Self::SignatureWrong => "the signature is wrong",
            Self::NoTouch => "the security key was not touched",
            Self::NoVerification => "the security key did not verify its owner",
            Self::CertificateForAnotherRole => "the certificate is for the other role: a host's for a user, or a user's for a host",
            Self::UnknownAuthority => "the certificate is not signed by a trusted authority",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::Expired => "the certificate has expired",
            Self::NoPrincipals => "the certificate names no principal",
            Self::AnotherPrincipal => "the certificate is for other principals",
            Self::SourceAddress => "the certificate may not be used from this address",
            Self::Revoked => "the key or the certificate is revoked",
            Self::UnknownHost => "no key of this host is known",
            Self::AnotherHostKey => "the host is known by other keys",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Untrusted {}

impl From<BadKey> for Untrusted {
    fn from(bad: BadKey) -> Self {
        Self::Key(bad)
    }
}
