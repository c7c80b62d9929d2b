//! The user's proof (RFC 4252, RFC 4256): who it is, on a link of his own or inside a jump of his. The state machine is the transport's; what
//! it asks is answered here.

use std::sync::Arc;

use keyward_auth::{AuthFailure, Identity, KeyTrust, Secret};
use keyward_ssh_transport::auth::question::{By, Offer, Offers, Question, Verdict, Why};
use keyward_ssh_transport::auth::server::{Limits, Server, Step};
use keyward_ssh_transport::auth::{Ended, Prompts, Typed};
use keyward_ssh_transport::certificate::Presented;
use keyward_ssh_transport::key::{SIGNATURE_ALGORITHMS, Untrusted};

use super::settings::{JumpLogin, ListenerSettings, LoginMethod};
use super::visitor::Visitor;
use super::wire::{Heard, Wire};
use crate::asked::Asked;
use crate::error::{Party, SessionError, Stage};
use crate::link::Link;
use crate::refusal::Refusal;
use crate::stream::Stream;

/// Who is on a link.
pub(super) struct Who {
    /// Who he proved to be.
    pub(super) identity: Arc<Identity>,
    /// The key or the certificate that he proved it by, if it was one: neither counts for ever, and links may live for long.
    shown: Option<Presented>,
}

#[cfg(test)]
impl Who {
    /// Whom a password proved.
    pub(super) fn by_password(identity: Identity) -> Self {
        Self { identity: Arc::new(identity), shown: None }
    }
}

/// A user who is who he says to be, and does not know yet that we believe him.
pub(super) struct Proven {
    /// Who.
    pub(super) who: Who,
    /// The name of the login, as it came.
    pub(super) login: String,
    /// Gives the message that lets him in.
    pub(super) machine: Server,
}

/// Asks for the proof. `visitor`: the link is inside a jump, of a user who is known.
pub(super) async fn prove(
    link: &mut Link,
    client: &mut Stream,
    wire: &mut Wire,
    visitor: Option<&Visitor>,
) -> Result<Proven, SessionError> {
    let door = Arc::clone(&link.door);
    let settings = ListenerSettings::of(&door)?;
    let conn = &wire.conn;
    let (session_id, host_key) = (conn.session_id().unwrap_or_default(), conn.host_key().unwrap_or_default());
    let machine = Server::new(session_id, host_key, offers(settings, visitor), Limits::default(), None);
    let proof = Proof { link, client, wire, settings, visitor, machine, trust: Trust::Unread, found: None, failure: None };
    proof.run().await
}

/// Which proofs are taken.
fn offers(settings: &ListenerSettings, visitor: Option<&Visitor>) -> Offers {
    let offer = |method| if settings.login.contains(&method) { Offer::Yes } else { Offer::No };
    // A rule that wants a key of a jump gets one, also where the listener takes passwords only.
    let by_key = visitor.is_some() || settings.login.contains(&LoginMethod::PublicKey);
    let keys = if by_key { SIGNATURE_ALGORITHMS.as_slice() } else { &[] };
    let offers = Offers::new(keys, offer(LoginMethod::Password), offer(LoginMethod::KeyboardInteractive));
    if visitor.is_some_and(Visitor::may_pass) { offers.or_nothing() } else { offers }
}

/// What the listener says of keys: read when the first key is shown.
enum Trust {
    Unread,
    Read(KeyTrust),
    /// It cannot be read: then no key counts.
    Unreadable,
}

/// One proof under way.
struct Proof<'a> {
    link: &'a mut Link,
    client: &'a mut Stream,
    wire: &'a mut Wire,
    settings: &'a ListenerSettings,
    visitor: Option<&'a Visitor>,
    machine: Server,
    trust: Trust,
    /// Whom a password proved.
    found: Option<Identity>,
    /// The last proof that failed: what a client that gives up was refused for.
    failure: Option<SessionError>,
}

impl Proof<'_> {
    async fn run(mut self) -> Result<Proven, SessionError> {
        loop {
            let message = match self.wire.hear(self.client).await {
                Ok(Heard::Message(message)) => message,
                Ok(Heard::Ready | Heard::HostKey(_)) => continue,
                Err(silent) => return Err(self.failure.take().unwrap_or_else(|| silent.of_client(Stage::Login))),
            };
            match self.receive(&message).await? {
                Answer::Say(messages) => self.say(&messages).await?,
                Answer::Proven { who, login } => return Ok(Proven { who, login, machine: self.machine }),
            }
        }
    }

    /// What the machine makes of a message, with all that it asks about it answered.
    async fn receive(&mut self, message: &[u8]) -> Result<Answer, SessionError> {
        let mut step = self.machine.receive(message);
        // Also of one who only asks what there is, and then waits until the time is over.
        if let Some(login) = self.machine.user().filter(|_| self.link.claimed.user.is_none()).map(ToOwned::to_owned) {
            self.user(&login);
        }
        loop {
            match step.map_err(|ended| self.ended(ended))? {
                Step::Nothing => return Ok(Answer::Say(Vec::new())),
                Step::Send(messages) => return Ok(Answer::Say(messages)),
                Step::Refuse { messages, why } => {
                    tracing::debug!(%why, "a proof that does not count");
                    self.failure.get_or_insert_with(|| AuthFailure::NotAuthenticated.into());
                    if let Why::Untrusted(Untrusted::SignatureWrong | Untrusted::NoTouch | Untrusted::NoVerification) = why {
                        missigned(self.link).await;
                    }
                    return Ok(Answer::Say(messages));
                }
                Step::Ask { user, question } => {
                    let verdict = self.ask(&user, question).await?;
                    step = self.machine.answer(verdict);
                }
                Step::Proven(proven) => {
                    let identity = self.identity(&proven).await?;
                    let shown = if let By::Key(shown, _) = proven.by() { Some(shown.clone()) } else { None };
                    return Ok(Answer::Proven { who: Who { identity, shown }, login: proven.user().to_owned() });
                }
            }
        }
    }

    /// Who the login says to be: by its name, or, inside a jump, whoever the jump is of.
    fn user(&mut self, login: &str) -> String {
        let (user, connection) = match self.visitor {
            Some(visitor) => (visitor.who.identity.user().to_string(), Some(visitor.target.clone())),
            None => {
                let asked = Asked::of(self.link.door.connection.as_ref(), login, None);
                (asked.user, asked.connection)
            }
        };
        (self.link.claimed.user, self.link.claimed.connection) = (Some(user.clone()), connection);
        user
    }

    async fn ask(&mut self, login: &str, question: Question) -> Result<Verdict, SessionError> {
        let user = self.user(login);
        let key_wanted = self.visitor.is_some_and(|visitor| visitor.wanted(self.link, login) == JumpLogin::Key);
        match question {
            Question::Nothing if !key_wanted && self.may_pass(&user).await => Ok(Verdict::Accepted),
            Question::Nothing => Ok(Verdict::Refused),
            Question::Query(key) => {
                let (gate, source) = (Arc::clone(&self.link.proxy.gate), self.link.source);
                let policy = self.trust().await.and_then(|trust| gate.would_accept(&user, &key, source, trust));
                Ok(policy.map_or(Verdict::Refused, Verdict::AcceptedUnder))
            }
            Question::Proof(key, _) => {
                let (gate, source) = (Arc::clone(&self.link.proxy.gate), self.link.source);
                let Some(trust) = self.trust().await else { return Ok(self.refused(AuthFailure::NotAuthenticated)) };
                let counted = gate.signed(&user, &key, source, trust).await;
                Ok(counted.map_or_else(|failure| self.refused(failure), Verdict::AcceptedUnder))
            }
            Question::Password(_) | Question::Interactive | Question::Responses(_) if key_wanted => Ok(Verdict::Refused),
            Question::Password(password) => {
                let password = secret(password);
                let proven = self.link.proxy.gate.password(&user, password, self.link.source).await;
                Ok(self.proven_by_password(proven))
            }
            Question::Interactive => Ok(Verdict::Ask(Prompts::password())),
            Question::Responses(responses) => {
                // As many as there were prompts: one.
                let password = responses.into_iter().next().map_or_else(|| Secret::from(Vec::new()), secret);
                let proven = self.link.proxy.gate.keyboard_interactive(&user, password, self.link.source).await;
                Ok(self.proven_by_password(proven))
            }
        }
    }

    fn proven_by_password(&mut self, proven: Result<Identity, AuthFailure>) -> Verdict {
        match proven {
            Ok(identity) => {
                self.found = Some(identity);
                Verdict::Accepted
            }
            Err(failure) => self.refused(failure),
        }
    }

    /// The client hears only that it failed; what it leaves with is kept for the record.
    fn refused(&mut self, failure: AuthFailure) -> Verdict {
        self.failure = Some(failure.into());
        Verdict::Refused
    }

    /// May the link inside a jump do without a proof? What proved the user outside has to count still: a certificate comes to its end, a key
    /// is revoked, and a listener takes a way to log in no more, while links live.
    async fn may_pass(&mut self, user: &str) -> bool {
        let Some(visitor) = self.visitor.filter(|visitor| visitor.may_pass()) else { return false };
        if !LoginMethod::of(visitor.who.identity.proof()).is_some_and(|method| self.settings.login.contains(&method)) {
            return false;
        }
        let Some(shown) = &visitor.who.shown else { return true };
        let (gate, source) = (Arc::clone(&self.link.proxy.gate), self.link.source);
        self.trust().await.is_some_and(|trust| gate.would_accept(user, shown, source, trust).is_some())
    }

    /// `None`: it cannot be read.
    async fn trust(&mut self) -> Option<&KeyTrust> {
        // Once for each link: what is revoked while somebody proves himself is revoked for the next one.
        if matches!(self.trust, Trust::Unread) {
            self.trust = match self.settings.trust().await {
                Ok(trust) => Trust::Read(trust),
                Err(error) => {
                    tracing::error!(%error, "no key counts");
                    Trust::Unreadable
                }
            };
        }
        match &self.trust {
            Trust::Read(trust) => Some(trust),
            Trust::Unread | Trust::Unreadable => None,
        }
    }

    /// Of a proof that the machine has verified, the identity.
    async fn identity(&mut self, proven: &keyward_ssh_transport::auth::question::Proven) -> Result<Arc<Identity>, SessionError> {
        let none = || SessionError::new(Refusal::Internal, Party::Proxy, Stage::Login, "a proof of nobody");
        match (proven.by(), self.visitor) {
            (By::Nothing, Some(visitor)) => Ok(Arc::clone(&visitor.who.identity)),
            (By::Nothing, None) => Err(none()),
            (By::Key(..), _) => {
                let user = self.user(proven.user());
                let source = self.link.source;
                let gate = Arc::clone(&self.link.proxy.gate);
                let trust = self.trust().await.ok_or_else(none)?;
                let identity = gate.public_key(&user, proven, source, trust).await;
                identity.map(Arc::new).map_err(SessionError::from)
            }
            (By::Password | By::Interactive, _) => self.found.take().map(Arc::new).ok_or_else(none),
        }
    }

    async fn say(&mut self, messages: &[Vec<u8>]) -> Result<(), SessionError> {
        self.wire.say(self.client, messages).await.map_err(|silent| silent.of_client(Stage::Login))
    }

    fn ended(&mut self, ended: Ended) -> SessionError {
        match ended {
            Ended::TooManyFailures => self.failure.take().unwrap_or_else(|| AuthFailure::NotAuthenticated.into()),
            Ended::NoSuchService | Ended::Broken(_) => SessionError::malformed(Stage::Login, ended.to_string()),
        }
    }
}

/// Somebody signed, and wrongly.
async fn missigned(link: &Link) {
    match &link.claimed.user {
        Some(user) => link.proxy.gate.missigned(user, link.source).await,
        None => link.proxy.gate.missed(link.source).await,
    }
}

/// A password as it came.
fn secret(typed: Typed) -> Secret {
    Secret::from(std::mem::take(&mut *typed.expose()))
}

/// What comes of a message.
enum Answer {
    /// This is sent.
    Say(Vec<Vec<u8>>),
    /// It was the proof.
    Proven { who: Who, login: String },
}
