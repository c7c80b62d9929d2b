//! What the server side of a login asks its owner, what the owner may answer, and what comes of it.

use std::fmt;

use super::message::{INTERACTIVE, PASSWORD, PUBLICKEY};
use super::prompts::Prompts;
use super::typed::Typed;
use crate::certificate::Presented;
use crate::key::{SIGNATURE_ALGORITHMS, SkPolicy};
use crate::shown::Shown;
use crate::untrusted::Untrusted;
use crate::wire::Reader;

/// A question about the user that the client says to be.
#[derive(Debug, Clone)]
pub enum Question {
    /// May they come without a proof? Only asked where `Offers` has it.
    Nothing,
    /// Would this key or certificate be taken, once it has signed? The client has shown nothing: this is no proof of anything.
    Query(Presented),
    /// Whoever holds this key has just signed this very request: may they be this user? Of a certificate only its key is known to have signed;
    /// that the certificate counts is for the owner to find out.
    Proof(Presented, Option<Seen>),
    /// Is it theirs? An empty one is asked about like any other.
    Password(Typed),
    /// What shall be asked of them? The same whether there is such a user or not.
    Interactive,
    /// The answers, as many as there were prompts.
    Responses(Vec<Typed>),
}

/// The owner's answer.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// No. The client hears the same whatever the reason.
    Refused,
    /// Yes. No answer to `Proof`.
    Accepted,
    /// Yes, if a security key saw what this wants: the options of the key (`AuthorizedKey::policy`), or its certificate
    /// (`Granted::policy`). An answer to `Query` and to `Proof`, which takes no other, so that nobody forgets it.
    AcceptedUnder(SkPolicy),
    /// Ask this; an answer to `Interactive` and to `Responses`.
    Ask(Prompts),
}

/// What a security key says that it saw when it signed, for the record; that it was enough is checked when the owner accepts (rule 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// 0x01: it was touched; 0x04: it verified its owner (PROTOCOL.u2f).
    pub flags: u8,
    /// How often it has signed; some always say 0.
    pub counter: u32,
}

impl Seen {
    /// Reads what is behind the signature in the blob of a security key. Of another key's there is nothing.
    pub(super) fn read(signature: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(signature);
        reader.string().ok()?;
        reader.string().ok()?;
        Some(Self { flags: reader.u8().ok()?, counter: reader.u32().ok()? })
    }
}

/// How the user proved itself.
#[derive(Debug, Clone)]
pub enum By {
    /// Not at all; the owner did not ask for it.
    Nothing,
    /// A signature by this key, or by the key of this certificate.
    Key(Presented, Option<Seen>),
    /// A password.
    Password,
    /// Answers to prompts.
    Interactive,
}

/// The user is who it says. Only the server's machine makes this.
#[derive(Debug)]
pub struct Proven {
    user: String,
    by: By,
}

impl Proven {
    pub(super) fn new(user: String, by: By) -> Self {
        Self { user, by }
    }

    /// The user name, as the client sent it.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The proof.
    #[must_use]
    pub fn by(&self) -> &By {
        &self.by
    }
}

/// Is a method to be had?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is.
    Yes,
    /// It fails without a question.
    No,
}

/// Which proofs are taken.
#[derive(Debug, Clone)]
pub struct Offers {
    keys: Vec<&'static str>,
    password: Offer,
    interactive: Offer,
    none: Offer,
}

impl Offers {
    /// Signatures by these algorithms, those of `ServerConfig::signature_algorithms` (what is not one of `SIGNATURE_ALGORITHMS` is left out),
    /// from keys and from certificates alike; a password; what the user types at prompts.
    #[must_use]
    pub fn new(keys: &[&str], password: Offer, interactive: Offer) -> Self {
        let keys = SIGNATURE_ALGORITHMS.into_iter().filter(|known| keys.contains(known)).collect();
        Self { keys, password, interactive, none: Offer::No }
    }

    /// All that, and no proof at all if the owner does not want one: for who has proven itself to us in another way already.
    #[must_use]
    pub fn or_nothing(self) -> Self {
        Self { none: Offer::Yes, ..self }
    }

    /// The algorithms of signatures that are taken, best first: what `server-sig-algs` must say, neither more nor less (rule 19).
    #[must_use]
    pub fn signature_algorithms(&self) -> &[&'static str] {
        &self.keys
    }

    pub(super) fn has_password(&self) -> bool {
        self.password == Offer::Yes
    }

    pub(super) fn has_interactive(&self) -> bool {
        self.interactive == Offer::Yes
    }

    pub(super) fn has_none(&self) -> bool {
        self.none == Offer::Yes
    }

    /// What a failure lists. `none` is never listed (RFC 4252 section 5.2).
    pub(super) fn listed(&self) -> Vec<&'static str> {
        let offered = [(PUBLICKEY, !self.keys.is_empty()), (PASSWORD, self.has_password()), (INTERACTIVE, self.has_interactive())];
        offered.into_iter().filter_map(|(name, offered)| offered.then_some(name)).collect()
    }
}

/// Why a request failed. For the log: the client only hears that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The owner said no.
    Refused,
    /// The method is unknown or not offered.
    Method(Shown),
    /// What is wrong with the key, the certificate or the signature.
    Untrusted(Untrusted),
    /// The request is bound to a host key that is not ours: somebody may have passed it on (rule 20).
    AnotherHostKey,
    /// It wants to change a password.
    PasswordChange,
    /// A password or an answer of more than `TYPED_MAX` bytes.
    TooLong,
    /// Not as many answers as there were prompts.
    WrongNumberOfResponses,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method(name) => return write!(f, "the method \"{name}\" is not offered"),
            Self::Untrusted(untrusted) => return untrusted.fmt(f),
            Self::Refused => "refused",
            Self::AnotherHostKey => "the request is bound to another host key than ours",
            Self::PasswordChange => "passwords cannot be changed here",
            Self::TooLong => "a password or an answer is too long",
            Self::WrongNumberOfResponses => "there are not as many answers as prompts",
        })
    }
}

impl From<Untrusted> for Why {
    fn from(untrusted: Untrusted) -> Self {
        Self::Untrusted(untrusted)
    }
}
