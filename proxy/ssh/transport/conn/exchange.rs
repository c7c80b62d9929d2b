//! Exchanging keys (RFC 4253 section 7 to 9). Rules 5 to 10 and 13.
//!
//! ```text
//! Idle → Offered → Halves → (client: HostKey →) NewKeys → Idle
//!        KEXINIT   KEXINIT  both halves are there  NEWKEYS from the peer
//!        from us   from it  we sent NEWKEYS
//! ```

use super::extensions::ext_info;
use super::receive::Step;
use super::{Conn, Demand, Event, Keys, Login, Role, Strictness};
use crate::cipher::{Opening, Sealing};
use crate::error::Fatal;
use crate::kex::{self, ClientHalf, SharedSecret, Transcript};
use crate::key::algorithm::{Algorithm, Form};
use crate::key::{PublicKey, SkPolicy};
use crate::message;
use crate::negotiate::{self, Agreed, COOKIE, Kexinit, Side, Which};
use crate::wire::{Put, Reader};

/// Key exchanges that a peer may cause before it is known: the first, and one that an impatient client begins.
const BEFORE_LOGIN: u32 = 2;

/// How far an exchange is.
pub(super) enum Exchange {
    /// None is under way.
    Idle,
    /// We sent this KEXINIT.
    Offered(Vec<u8>),
    /// The peer sent its own as well; its half comes next.
    Halves(Box<Halves>),
    /// A client has both halves; the caller has to say whether the server is known.
    HostKey(Box<Proof>),
    /// We sent NEWKEYS; behind the peer's, these keys hold.
    NewKeys(Box<Opening>),
}

/// What both sides said so far.
pub(super) struct Halves {
    ours: Vec<u8>,
    theirs: Vec<u8>,
    agreed: Agreed,
    /// A client's half, which has been sent.
    pub(super) client: Option<ClientHalf>,
}

/// How a server says that it is who it is.
pub(super) struct Proof {
    agreed: Agreed,
    blob: Vec<u8>,
    signature: Vec<u8>,
    hash: Vec<u8>,
    secret: SharedSecret,
}

impl Exchange {
    /// Nothing of the layers above may be sent.
    pub(super) fn holds(&self) -> bool {
        !matches!(self, Self::Idle | Self::NewKeys(_))
    }

    /// Nothing of the layers above may come.
    pub(super) fn peer_began(&self) -> bool {
        !matches!(self, Self::Idle | Self::Offered(_))
    }
}

impl Conn {
    /// Sends our KEXINIT.
    pub(super) fn begin_exchange(&mut self) -> Result<(), Fatal> {
        let mut cookie = [0; COOKIE];
        self.outbound.random(&mut cookie)?;
        let which = if self.session_id.is_none() { Which::First } else { Which::Later };
        let kexinit = self.offer.kexinit(self.side, which, cookie);
        self.outbound.seal(&kexinit)?;
        self.exchange = Exchange::Offered(kexinit);
        self.exchange_since = None;
        Ok(())
    }

    /// The peer's KEXINIT: ours is sent if it was not, and it follows what both do.
    pub(super) fn on_kexinit(&mut self, theirs: Vec<u8>, sequence: u32) -> Result<(), Fatal> {
        if self.exchange.peer_began() {
            return Err(Fatal::Protocol("a KEXINIT inside a key exchange"));
        }
        if self.login == Login::Awaited && self.exchanges >= BEFORE_LOGIN {
            return Err(Fatal::TooMuch("too many key exchanges before the login"));
        }
        self.exchanges = self.exchanges.saturating_add(1);
        if matches!(self.exchange, Exchange::Idle) {
            self.begin_exchange()?;
        }
        let Exchange::Offered(ours) = std::mem::replace(&mut self.exchange, Exchange::Idle) else {
            return Err(Fatal::Internal("a key exchange was lost"));
        };
        let kexinit = Kexinit::parse(&theirs)?;
        if self.keys == Keys::None {
            self.begin_strictness(&Kexinit::parse(&ours)?, &kexinit, sequence)?;
        }
        let agreed = negotiate::agree(self.side, &self.offer, &kexinit)?;
        self.guess = agreed.guess;
        self.agreed = Some(agreed);
        let client = match self.side {
            Side::Server => None,
            Side::Client => {
                let half = ClientHalf::begin(agreed.method)?;
                let mut message = vec![message::KEX_INIT];
                message.put_string(half.public());
                self.outbound.seal(&message)?;
                Some(half)
            }
        };
        self.exchange = Exchange::Halves(Box::new(Halves { ours, theirs, agreed, client }));
        Ok(())
    }

    /// Rule 5: what the first KEXINIT says holds for the whole connection, and it has to be the peer's very first packet.
    fn begin_strictness(&mut self, ours: &Kexinit<'_>, theirs: &Kexinit<'_>, sequence: u32) -> Result<(), Fatal> {
        let peer = match self.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        if ours.is_strict(self.side) && theirs.is_strict(peer) {
            self.strictness = Strictness::Strict;
            if sequence != 0 {
                return Err(Fatal::Protocol("something came before the first KEXINIT of a strict key exchange"));
            }
        } else if self.limits.strict == Demand::Required {
            return Err(Fatal::NotStrict);
        }
        self.takes_ext_info = theirs.takes_ext_info();
        Ok(())
    }

    /// The peer's half.
    pub(super) fn on_half(&mut self, message: &[u8]) -> Result<Option<Step>, Fatal> {
        let unexpected = Fatal::Protocol("a message of a key exchange out of turn");
        let Exchange::Halves(halves) = std::mem::replace(&mut self.exchange, Exchange::Idle) else { return Err(unexpected) };
        let mut reader = Reader::new(message);
        match (self.role.clone(), reader.u8()?) {
            (Role::Server(config), message::KEX_INIT) => {
                let init = reader.string()?;
                reader.end()?;
                let algorithm = halves.agreed.host_key;
                let key = config.host_keys.iter().find(|key| key.algorithms().contains(&algorithm));
                let key = key.ok_or(Fatal::Internal("a host key was lost"))?;
                let (reply, secret) = kex::answer(halves.agreed.method, init)?;
                let hash = self.hash(&halves, key.blob(), [init, &reply], &secret)?;
                let signature = key.sign(algorithm, &hash).map_err(|_| Fatal::Internal("a host key could not sign"))?;
                let mut message = vec![message::KEX_REPLY];
                message.put_string(key.blob()).put_string(&reply).put_string(&signature);
                self.outbound.seal(&message)?;
                self.host_blob = Some(key.blob().to_vec());
                self.use_keys(&halves.agreed, &secret, &hash).map(|()| None)
            }
            (Role::Client(_), message::KEX_REPLY) => {
                let (blob, reply, signature) = (reader.string()?, reader.string()?, reader.string()?);
                reader.end()?;
                self.on_reply(*halves, blob, reply, signature)
            }
            _ => Err(unexpected),
        }
    }

    /// A client: the server's half, with its host key and its signature over everything that was said. Rule 9.
    fn on_reply(&mut self, mut halves: Halves, blob: &[u8], reply: &[u8], signature: &[u8]) -> Result<Option<Step>, Fatal> {
        if !fits(halves.agreed.host_key, blob) {
            return Err(Fatal::HostKey("the host key is not of the type that was agreed on"));
        }
        if self.host_blob.as_ref().is_some_and(|known| known != blob) {
            return Err(Fatal::HostKey("the host key changed during the connection"));
        }
        let client = halves.client.take().ok_or(Fatal::Internal("our half of a key exchange was lost"))?;
        let init = client.public().to_vec();
        let secret = client.finish(reply)?;
        let hash = self.hash(&halves, blob, [&init, reply], &secret)?;
        let proof = Proof { agreed: halves.agreed, blob: blob.to_vec(), signature: signature.to_vec(), hash, secret };
        self.exchange = Exchange::HostKey(Box::new(proof));
        match self.trusted.clone() {
            None => Ok(Some(Step::HostKey)),
            Some(key) => self.prove_host(&key).map(|()| None),
        }
    }

    pub(super) fn host_key_event(&self) -> Event<'_> {
        match &self.exchange {
            Exchange::HostKey(proof) => Event::HostKey { blob: &proof.blob, algorithm: proof.agreed.host_key },
            // Only a proof makes the step that leads here; an empty key is nobody's.
            _ => Event::HostKey { blob: &[], algorithm: "" },
        }
    }

    /// A client: the server must have signed with the key that it is known by.
    pub(super) fn prove_host(&mut self, key: &PublicKey) -> Result<(), Fatal> {
        let Exchange::HostKey(proof) = std::mem::replace(&mut self.exchange, Exchange::Idle) else {
            return Err(Fatal::Internal("no host key is to be accepted"));
        };
        let (algorithm, _) = Algorithm::named(proof.agreed.host_key).ok_or(Fatal::Internal("a host-key algorithm is not known"))?;
        key.verify(algorithm.name, &proof.hash, &proof.signature, SkPolicy::TOUCH)
            .map_err(|_| Fatal::HostKey("the server did not prove that it has its host key"))?;
        self.trusted = Some(key.clone());
        self.host_blob = Some(proof.blob);
        self.use_keys(&proof.agreed, &proof.secret, &proof.hash)
    }

    /// Rule 7.
    pub(super) fn hash(&self, halves: &Halves, host_key: &[u8], both: [&[u8]; 2], secret: &SharedSecret) -> Result<Vec<u8>, Fatal> {
        let theirs = self.peer_ident.as_deref().ok_or(Fatal::Internal("the peer has not identified itself"))?;
        let ours = self.role.ident().as_bytes();
        let (idents, kexinits) = match self.side {
            Side::Client => ([ours, theirs], [&halves.ours[..], &halves.theirs[..]]),
            Side::Server => ([theirs, ours], [&halves.theirs[..], &halves.ours[..]]),
        };
        Ok(Transcript { idents, kexinits, host_key, halves: both }.hash(secret))
    }

    /// Everything is known: NEWKEYS, and from there on our new keys. The peer's hold from its NEWKEYS on.
    fn use_keys(&mut self, agreed: &Agreed, secret: &SharedSecret, hash: &[u8]) -> Result<(), Fatal> {
        let first = self.session_id.is_none();
        // Rule 8: the first hash, for good.
        let session = self.session_id.get_or_insert_with(|| hash.to_vec()).clone();
        let of_client = kex::derive(secret, hash, &session, Side::Client, agreed.ciphers.to_server);
        let of_server = kex::derive(secret, hash, &session, Side::Server, agreed.ciphers.to_client);
        let (ours, theirs) = match self.side {
            Side::Client => (of_client, of_server),
            Side::Server => (of_server, of_client),
        };
        self.outbound.seal(&[message::NEWKEYS])?;
        self.outbound.rekey(Sealing::new(&ours)?, self.strictness);
        self.exchange = Exchange::NewKeys(Box::new(Opening::new(&theirs)?));
        if let Role::Server(config) = &self.role
            && first
            && self.takes_ext_info
        {
            self.outbound.seal(&ext_info(&config.signature_algorithms))?;
        }
        while let Some(message) = self.held.pop() {
            self.outbound.seal(&message)?;
        }
        Ok(())
    }

    pub(super) fn on_newkeys(&mut self, length: usize) -> Result<Option<Step>, Fatal> {
        let Exchange::NewKeys(opening) = std::mem::replace(&mut self.exchange, Exchange::Idle) else {
            return Err(Fatal::Protocol("NEWKEYS out of turn"));
        };
        if length != 1 {
            return Err(Fatal::Protocol("NEWKEYS with something behind it"));
        }
        self.inbound.rekey(*opening, self.strictness);
        self.keyed_at = None;
        let step = (self.keys == Keys::None).then_some(Step::Ready);
        self.keys = Keys::InUse;
        Ok(step)
    }
}

/// Whether a blob is of the type that goes with a host-key algorithm (RFC 8332 section 3: `rsa-sha2-256` with `ssh-rsa`).
fn fits(algorithm: &str, blob: &[u8]) -> bool {
    let Some((algorithm, form)) = Algorithm::named(algorithm) else { return false };
    let kind = match form {
        Form::Plain => algorithm.key.name(),
        Form::Certificate => algorithm.key.certificate_name(),
    };
    Reader::new(blob).string() == Ok(kind.as_bytes())
}
