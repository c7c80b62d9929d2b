//! The names: which types of keys there are, and which algorithms sign with them (RFC 4253 §6.6, RFC 5656 §6.2, RFC 8332, RFC 8709,
//! PROTOCOL.u2f, PROTOCOL.certkeys). `ssh-rsa` as an algorithm (SHA-1), `ssh-dss` and `webauthn-sk-…` are left out on purpose.

/// A type of key: the first field of its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RFC 8709.
    Ed25519,
    /// RFC 5656, nistp256.
    EcdsaP256,
    /// RFC 5656, nistp384.
    EcdsaP384,
    /// RFC 5656, nistp521.
    EcdsaP521,
    /// RFC 4253 §6.6, of 2048 to 8192 bits.
    Rsa,
    /// Ed25519 inside a security key (PROTOCOL.u2f).
    SkEd25519,
    /// nistp256 inside a security key (PROTOCOL.u2f).
    SkEcdsaP256,
}

/// An algorithm that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Algorithm {
    pub(crate) name: &'static str,
    /// Its name where a certificate is presented instead of the key.
    certificate: &'static str,
    pub(crate) key: KeyType,
}

/// What is presented: the second half of what an algorithm's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Certificate,
}

/// What we take, best first.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm { name: "ssh-ed25519", certificate: "ssh-ed25519-cert-v01@openssh.com", key: KeyType::Ed25519 },
    Algorithm { name: "sk-ssh-ed25519@openssh.com", certificate: "sk-ssh-ed25519-cert-v01@openssh.com", key: KeyType::SkEd25519 },
    Algorithm { name: "ecdsa-sha2-nistp256", certificate: "ecdsa-sha2-nistp256-cert-v01@openssh.com", key: KeyType::EcdsaP256 },
    Algorithm { name: "ecdsa-sha2-nistp384", certificate: "ecdsa-sha2-nistp384-cert-v01@openssh.com", key: KeyType::EcdsaP384 },
    Algorithm { name: "ecdsa-sha2-nistp521", certificate: "ecdsa-sha2-nistp521-cert-v01@openssh.com", key: KeyType::EcdsaP521 },
    Algorithm {
        name: "sk-ecdsa-sha2-nistp256@openssh.com",
        certificate: "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        key: KeyType::SkEcdsaP256,
    },
    Algorithm { name: "rsa-sha2-512", certificate: "rsa-sha2-512-cert-v01@openssh.com", key: KeyType::Rsa },
    Algorithm { name: "rsa-sha2-256", certificate: "rsa-sha2-256-cert-v01@openssh.com", key: KeyType::Rsa },
];

/// The names of the algorithms that `PublicKey::verify` takes, best first: what `server-sig-algs` says (RFC 8308 §3.1).
pub const SIGNATURE_ALGORITHMS: [&str; 8] = {
    let [a, b, c, d, e, f, g, h] = ALGORITHMS;
    [a.name, b.name, c.name, d.name, e.name, f.name, g.name, h.name]
};

impl Algorithm {
    /// The algorithm of this name, and what is presented under it. `None`: we do not know it or do not take it.
    pub(crate) fn named(name: &str) -> Option<(Self, Form)> {
        ALGORITHMS.into_iter().find_map(|algorithm| {
            if algorithm.name == name {
                Some((algorithm, Form::Plain))
            } else if algorithm.certificate == name {
                Some((algorithm, Form::Certificate))
            } else {
                None
            }
        })
    }
}

/// The algorithm of the signature that is made under this name of a public-key or host-key algorithm: itself, or the plain one of a
/// certificate's (RFC 8332 §3, PROTOCOL.certkeys). `None`: an algorithm that we do not take.
#[must_use]
pub fn signature_algorithm(name: &str) -> Option<&'static str> {
    Algorithm::named(name).map(|(algorithm, _)| algorithm.name)
}

impl KeyType {
    pub(super) const ALL: [Self; 7] =
        [Self::Ed25519, Self::EcdsaP256, Self::EcdsaP384, Self::EcdsaP521, Self::Rsa, Self::SkEd25519, Self::SkEcdsaP256];

    /// What the blob of such a key begins with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// What the blob of a certificate of such a key begins with.
    #[must_use]
    pub fn certificate_name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            Self::Rsa => "ssh-rsa-cert-v01@openssh.com",
            Self::SkEd25519 => "sk-ssh-ed25519-cert-v01@openssh.com",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        }
    }

    /// The algorithms by which such a key signs, best first.
    #[must_use]
    pub fn algorithms(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["ssh-ed25519"],
            Self::EcdsaP256 => &["ecdsa-sha2-nistp256"],
            Self::EcdsaP384 => &["ecdsa-sha2-nistp384"],
            Self::EcdsaP521 => &["ecdsa-sha2-nistp521"],
            Self::Rsa => &["rsa-sha2-512", "rsa-sha2-256"],
            Self::SkEd25519 => &["sk-ssh-ed25519@openssh.com"],
            Self::SkEcdsaP256 => &["sk-ecdsa-sha2-nistp256@openssh.com"],
        }
    }

    /// The same where its certificate is presented.
    #[must_use]
    pub fn certificate_algorithms(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["ssh-ed25519-cert-v01@openssh.com"],
            Self::EcdsaP256 => &["ecdsa-sha2-nistp256-cert-v01@openssh.com"],
            Self::EcdsaP384 => &["ecdsa-sha2-nistp384-cert-v01@openssh.com"],
            Self::EcdsaP521 => &["ecdsa-sha2-nistp521-cert-v01@openssh.com"],
            Self::Rsa => &["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com"],
            Self::SkEd25519 => &["sk-ssh-ed25519-cert-v01@openssh.com"],
            Self::SkEcdsaP256 => &["sk-ecdsa-sha2-nistp256-cert-v01@openssh.com"],
        }
    }

    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    pub(crate) fn of_certificate(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.certificate_name().as_bytes() == name)
    }
}
