//! The client: us, towards an upstream whose host key is verified already: the session's identifier, without which there is no client, comes
//! from the key exchange that verified it. Rules 25 and 26.
//!
//! It asks with `none` what the server takes, then shows each credential at most once: keys, then the password, and only by a method that the
//! server has listed.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::MESSAGE_MAX;
use super::banner::Banner;
use super::ended::Ended;
use super::message;
use super::prompts::Echo;
use crate::key::signature_algorithm;
use crate::message::SERVICE_ACCEPT;
use crate::shown::Shown;
use crate::sign::Signer;
use crate::wire::Put;

/// Banners of one server.
const BANNERS_MAX: u32 = 16;
/// Requests for prompts of one login: a text without a prompt may come before and behind the one for the password.
const ROUNDS_MAX: u32 = 8;

/// What we can prove ourselves with.
#[derive(Default)]
pub struct Credentials {
    /// Keys, or certificates with their keys, the best first.
    pub signers: Vec<Arc<dyn Signer>>,
    /// A password, for `password`, or for `keyboard-interactive` where the server has no `password`.
    pub password: Option<Zeroizing<Vec<u8>>>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this payload.
    Send(Payload),
    /// The server shows this before the login.
    Banner(Banner),
    /// We are in. The next messages are not for user authentication any more.
    Success(Method),
    /// We are not, and have nothing left to show. The connection is of no use.
    Refused(Refused),
}

/// A message to send, wiped when it goes: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Zeroizing<Vec<u8>>);

/// How the server was satisfied, or how we tried to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// It wanted no proof.
    None,
    /// A signature.
    PublicKey,
    /// `password`.
    Password,
    /// The password, at a prompt.
    Interactive,
}

/// Why we are not in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it comes down to.
    pub why: Why,
    /// The methods that the server listed at last.
    pub listed: Vec<Shown>,
}

/// What it comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The server refused all that we have.
    Rejected,
    /// The server lists no method for which we have a credential, or no RSA algorithm by which our key signs.
    NothingFits,
    /// The server took what we have, and wants more (RFC 4252 section 5.1, partial success).
    MoreNeeded,
    /// The password has expired: the server wants a new one.
    PasswordExpired,
    /// The server asks something that is not the password: a second time, for several things at once, or for something that is shown.
    OtherPrompt,
}

/// One login.
pub struct Client {
    session_id: Vec<u8>,
    user: String,
    signers: Vec<Arc<dyn Signer>>,
    /// Made of `signers` when it is first needed: what the server says of its algorithms may come late.
    keys: Option<VecDeque<Key>>,
    server_algorithms: Option<Vec<String>>,
    password: Option<Zeroizing<Vec<u8>>>,
    /// Whether anything was shown, and whether anything was enough.
    shown: Shows,
    banners: u32,
    state: State,
}

/// A key and the algorithm that it will sign by.
type Key = (Arc<dyn Signer>, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    Nothing,
    Something,
    SomethingThatCounted,
}

enum State {
    New,
    /// The service was asked for.
    Service,
    /// A request was sent.
    Waiting(Attempt),
    /// It is decided, or something went wrong.
    Over,
}

enum Attempt {
    None,
    PublicKey,
    Password,
    /// With the password, until it was given.
    Interactive {
        password: Option<Zeroizing<Vec<u8>>>,
        rounds: u32,
    },
}

impl Client {
    /// `session_id` is the connection's: the hash of its first key exchange. A signature is good for no other.
    #[must_use]
    pub fn new(session_id: &[u8], user: &str, credentials: Credentials) -> Self {
        Self {
            session_id: session_id.to_vec(),
            user: user.to_owned(),
            signers: credentials.signers,
            keys: None,
            server_algorithms: None,
            password: credentials.password,
            shown: Shows::Nothing,
            banners: 0,
            state: State::New,
        }
    }

    /// The algorithms of the server's `server-sig-algs`, if it has sent any; before the login or between its messages (RFC 8308 section 2.4).
    pub fn learn(&mut self, server_algorithms: &[&str]) {
        self.server_algorithms = Some(server_algorithms.iter().map(|&name| name.to_owned()).collect());
    }

    /// The first message.
    ///
    /// # Errors
    /// It was sent already.
    pub fn start(&mut self) -> Result<Payload, Ended> {
        match mem::replace(&mut self.state, State::Over) {
            State::New => {
                self.state = State::Service;
                Ok(message::service_request(message::USERAUTH_SERVICE).into())
            }
            _ => Err(Ended::internal("a login that began already")),
        }
    }

    /// Takes the next message from the server.
    ///
    /// # Errors
    /// The connection must end: the server broke the protocol, or a key of ours could not sign.
    pub fn receive(&mut self, message: &[u8]) -> Result<Step, Ended> {
        // Whatever fails below leaves a machine that takes nothing any more.
        let state = mem::replace(&mut self.state, State::Over);
        let number = *message.first().ok_or(Ended::protocol("an empty message"))?;
        if message.len() > MESSAGE_MAX {
            return Err(Ended::too_much("a message of a login is too long"));
        }
        match (state, number) {
            (State::Service, SERVICE_ACCEPT) => self.accepted(message),
            (State::Waiting(attempt), message::BANNER) => self.banner(message, attempt),
            (State::Waiting(attempt), message::SUCCESS) => {
                message::read_success(message)?;
                Ok(Step::Success(attempt.method()))
            }
            (State::Waiting(attempt), message::FAILURE) => self.failed(message, &attempt),
            (State::Waiting(Attempt::Password), message::METHOD) => Ok(Self::refused(Why::PasswordExpired, &[message::PASSWORD])),
            (State::Waiting(Attempt::Interactive { password, rounds }), message::METHOD) => self.prompted(message, password, rounds),
            _ => Err(Ended::protocol("a message that may not come at this point of a login")),
        }
    }

    fn accepted(&mut self, message: &[u8]) -> Result<Step, Ended> {
        if message::read_service_accept(message)? != message::USERAUTH_SERVICE {
            return Err(Ended::protocol("another service than the one that was asked for"));
        }
        Ok(self.send(message::none_request(&self.user), Attempt::None))
    }

    fn banner(&mut self, message: &[u8], attempt: Attempt) -> Result<Step, Ended> {
        self.banners = self.banners.saturating_add(1);
        if self.banners > BANNERS_MAX {
            return Err(Ended::too_much("a server sends too many banners"));
        }
        let banner = Banner::new(message::read_banner(message)?);
        self.state = State::Waiting(attempt);
        Ok(Step::Banner(banner))
    }

    fn failed(&mut self, message: &[u8], attempt: &Attempt) -> Result<Step, Ended> {
        let (listed, partial) = message::read_failure(message)?;
        let tried = !matches!(attempt, Attempt::None);
        self.shown = match self.shown {
            _ if partial && tried => Shows::SomethingThatCounted,
            Shows::Nothing if tried => Shows::Something,
            shown => shown,
        };
        self.next(&listed)
    }

    /// The next credential for which the server has a method.
    fn next(&mut self, listed: &[&str]) -> Result<Step, Ended> {
        if listed.contains(&message::PUBLICKEY)
            && let Some((signer, algorithm)) = self.keys().pop_front()
        {
            return self.sign(&*signer, algorithm);
        }
        if listed.contains(&message::PASSWORD)
            && let Some(password) = self.password.take()
        {
            return Ok(self.send(message::password_request(&self.user, &password), Attempt::Password));
        }
        // Not where `password` was there and did not help: it is the same password, and counts as a second failure.
        if listed.contains(&message::INTERACTIVE)
            && let Some(password) = self.password.take()
        {
            let attempt = Attempt::Interactive { password: Some(password), rounds: 0 };
            return Ok(self.send(message::interactive_request(&self.user), attempt));
        }
        let why = match self.shown {
            Shows::Nothing => Why::NothingFits,
            Shows::Something => Why::Rejected,
            Shows::SomethingThatCounted => Why::MoreNeeded,
        };
        Ok(Self::refused(why, listed))
    }

    /// Each key by one algorithm. Only RSA keys have several, and only there a server is asked: old ones list nothing else (rule 26). One that
    /// lists nothing is shown all of them.
    fn keys(&mut self) -> &mut VecDeque<Key> {
        let (signers, server) = (&self.signers, &self.server_algorithms);
        self.keys.get_or_insert_with(|| {
            let mut keys = VecDeque::new();
            for signer in signers {
                let algorithms = signer.algorithms();
                let takes = |name: &&str| {
                    let plain = signature_algorithm(name).unwrap_or(name);
                    server.as_ref().is_none_or(|server| server.iter().any(|known| known == plain))
                };
                match (algorithms, server) {
                    ([only], _) => keys.push_back((Arc::clone(signer), *only)),
                    (several, None) => keys.extend(several.iter().map(|&name| (Arc::clone(signer), name))),
                    (several, Some(_)) => keys.extend(several.iter().copied().find(takes).map(|name| (Arc::clone(signer), name))),
                }
            }
            keys
        })
    }

    fn sign(&mut self, signer: &dyn Signer, algorithm: &str) -> Result<Step, Ended> {
        let mut request = message::key_request(&self.user, algorithm, signer.blob());
        let data = message::signed_data(&self.session_id, &request);
        let signature = signer.sign(algorithm, &data).map_err(|failed| Ended::internal(failed.0))?;
        request.put_string(signature);
        Ok(self.send(request, Attempt::PublicKey))
    }

    /// The password goes to the first prompt, if that is the only one and hides what is typed. A text without a prompt is acknowledged.
    fn prompted(&mut self, message: &[u8], mut password: Option<Zeroizing<Vec<u8>>>, rounds: u32) -> Result<Step, Ended> {
        let rounds = rounds.saturating_add(1);
        if rounds > ROUNDS_MAX {
            return Err(Ended::too_much("a server asks without an end"));
        }
        let payload = match (message::read_prompts(message)?.as_slice(), password.take()) {
            ([], unused) => {
                password = unused;
                Payload::from(message::no_responses())
            }
            ([Echo::Hidden], Some(given)) => message::one_response(&given).into(),
            _ => return Ok(Self::refused(Why::OtherPrompt, &[message::INTERACTIVE])),
        };
        Ok(self.send(payload, Attempt::Interactive { password, rounds }))
    }

    fn send(&mut self, payload: impl Into<Payload>, attempt: Attempt) -> Step {
        self.state = State::Waiting(attempt);
        Step::Send(payload.into())
    }

    fn refused(why: Why, listed: &[&str]) -> Step {
        Step::Refused(Refused { why, listed: listed.iter().map(|name| Shown::new(name.as_bytes())).collect() })
    }
}

impl Attempt {
    fn method(&self) -> Method {
        match self {
            Self::None => Method::None,
            Self::PublicKey => Method::PublicKey,
            Self::Password => Method::Password,
            Self::Interactive { .. } => Method::Interactive,
        }
    }
}

impl Payload {
    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<Zeroizing<Vec<u8>>> for Payload {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:?}, {} bytes)", self.0.first(), self.0.len())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("signers", &self.signers).field("password", &self.password.as_ref().map(|_| "…")).finish()
    }
}

#[cfg(test)]
mod tests;
