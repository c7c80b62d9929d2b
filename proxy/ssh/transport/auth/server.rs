//! The server: us, towards a user. Rules 16 to 24.

use std::mem;

use super::banner::Banner;
use super::ended::Ended;
use super::message::{self, Bound, KeyRequest, Method, Request};
use super::prompts::Prompts;
use super::question::{By, Offers, Proven, Question, Seen, Verdict, Why};
use super::typed::Typed;
use super::{MESSAGE_MAX, USER_MAX};
use crate::certificate::Presented;
use crate::key::{SkPolicy, signature_algorithm};
use crate::message::SERVICE_REQUEST;
use crate::shown::Shown;
use crate::untrusted::Untrusted;

/// How much a client may try (rule 23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Proofs that did not count, until the connection ends. A key that would not be taken is one; `none` is not, since it is how a client
    /// asks what there is.
    pub failures: u32,
    /// Messages of any kind.
    pub requests: u32,
}

impl Default for Limits {
    /// 6 failures, as sshd's `MaxAuthTries`, and 64 messages.
    fn default() -> Self {
        Self { failures: 6, requests: 64 }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send these payloads, in this order.
    Send(Vec<Vec<u8>>),
    /// The same: the client hears that it did not prove itself. Whoever wants to slow down a guesser waits before.
    Refuse {
        /// What to send.
        messages: Vec<Vec<u8>>,
        /// What was wrong, for the log.
        why: Why,
    },
    /// Find out, then call `answer`; until then nothing more may be received.
    Ask {
        /// Who the client says to be.
        user: String,
        /// What is asked.
        question: Question,
    },
    /// It is the user. The client does not know yet: `success` tells it.
    Proven(Proven),
    /// Nothing.
    Nothing,
}

/// One login.
pub struct Server {
    session_id: Vec<u8>,
    host_key: Vec<u8>,
    offers: Offers,
    limits: Limits,
    /// Until it was sent.
    banner: Option<Banner>,
    /// From the first request on.
    user: Option<String>,
    failures: u32,
    requests: u32,
    state: State,
}

enum State {
    /// Nobody asked for user authentication yet.
    Early,
    /// A request may come.
    Open,
    /// Answers to so many prompts may come, or a request instead.
    Prompted(usize),
    /// The owner has a question.
    Asked(Asked),
    /// The user is proven, and does not know it.
    Proven,
    /// The user knows.
    Over,
    /// Something went wrong: nothing is taken any more.
    Broken,
}

/// What becomes of an accepting answer.
enum Asked {
    Nothing,
    Query { reply: Vec<u8> },
    Proof(Box<Signature>),
    Password,
    Interactive,
    Responses,
}

/// A signature that was verified, kept until it is known what a security key must have seen.
struct Signature {
    presented: Presented,
    seen: Option<Seen>,
    data: Vec<u8>,
    signature: Vec<u8>,
}

impl Server {
    /// `session_id` and `host_key` are the connection's: the hash of its first key exchange, and the blob that proved us in it (rule 20).
    #[must_use]
    pub fn new(session_id: &[u8], host_key: &[u8], offers: Offers, limits: Limits, banner: Option<Banner>) -> Self {
        Self {
            session_id: session_id.to_vec(),
            host_key: host_key.to_vec(),
            offers,
            limits,
            banner,
            user: None,
            failures: 0,
            requests: 0,
            state: State::Early,
        }
    }

    /// Takes the next message from the client. After `success` it is for those that belong to user authentication still.
    ///
    /// # Errors
    /// The connection must end.
    pub fn receive(&mut self, message: &[u8]) -> Result<Step, Ended> {
        // Whatever fails below leaves a machine that takes nothing any more.
        let state = mem::replace(&mut self.state, State::Broken);
        let number = *message.first().ok_or(Ended::protocol("an empty message"))?;
        match (state, number) {
            (State::Early | State::Open | State::Prompted(_), SERVICE_REQUEST) => self.service(message),
            (State::Open | State::Prompted(_), message::REQUEST) => self.request(message),
            (State::Prompted(prompts), message::INFO_RESPONSE) => self.responses(message, prompts),
            // Sent before the client knew that it is in (RFC 4252 section 5.1; rule 24).
            (state @ (State::Proven | State::Over), message::REQUEST) => {
                self.state = state;
                Ok(Step::Nothing)
            }
            (State::Asked(_), _) => Err(Ended::internal("a message was received before a question was answered")),
            _ => Err(Ended::protocol("a message that may not come at this point of a login")),
        }
    }

    /// The owner's answer to the question.
    ///
    /// # Errors
    /// The connection must end: the last failure, or an answer to another question than the one that was asked.
    pub fn answer(&mut self, verdict: Verdict) -> Result<Step, Ended> {
        let State::Asked(asked) = mem::replace(&mut self.state, State::Broken) else {
            return Err(Ended::internal("there was no question"));
        };
        match (asked, verdict) {
            (Asked::Nothing, Verdict::Refused) => Ok(self.refuse_for_free()),
            (_, Verdict::Refused) => self.refuse(Why::Refused),
            (Asked::Nothing, Verdict::Accepted) => self.prove(By::Nothing),
            (Asked::Query { reply }, Verdict::Accepted | Verdict::AcceptedUnder(_)) => Ok(self.reply(reply)),
            (Asked::Proof(signature), Verdict::AcceptedUnder(policy)) => self.prove_by_key(*signature, policy),
            (Asked::Password, Verdict::Accepted) => self.prove(By::Password),
            (Asked::Responses, Verdict::Accepted) => self.prove(By::Interactive),
            (Asked::Interactive | Asked::Responses, Verdict::Ask(prompts)) => Ok(self.prompt(&prompts)),
            _ => Err(Ended::internal("an answer to another question")),
        }
    }

    /// The message that lets the user in, once, after `Proven` and when everything behind us is ready for it.
    ///
    /// # Errors
    /// The user is not proven, or knows already.
    pub fn success(&mut self) -> Result<Vec<u8>, Ended> {
        match mem::replace(&mut self.state, State::Broken) {
            State::Proven => {
                self.state = State::Over;
                Ok(message::success())
            }
            _ => Err(Ended::internal("nobody is proven")),
        }
    }

    /// A text for the user, as long as it is not in.
    ///
    /// # Errors
    /// It is in: a client takes no banner any more.
    pub fn tell(&self, banner: &Banner) -> Result<Vec<u8>, Ended> {
        match self.state {
            State::Open | State::Prompted(_) | State::Asked(_) | State::Proven => Ok(message::banner(banner.as_str())),
            State::Early | State::Over | State::Broken => Err(Ended::internal("a banner out of its time")),
        }
    }

    /// Who the client says to be, from its first request on.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Some clients ask before each of their requests.
    fn service(&mut self, message: &[u8]) -> Result<Step, Ended> {
        self.count(message)?;
        if message::read_service_request(message)? != message::USERAUTH_SERVICE {
            return Err(Ended::NoSuchService);
        }
        self.state = State::Open;
        Ok(Step::Send(vec![message::service_accept(message::USERAUTH_SERVICE)]))
    }

    fn request(&mut self, message: &[u8]) -> Result<Step, Ended> {
        self.count(message)?;
        let Request { user, service, method } = Request::read(message)?;
        if service != message::CONNECTION_SERVICE {
            return Err(Ended::NoSuchService);
        }
        if user.len() > USER_MAX {
            return Err(Ended::too_much("a user name is too long"));
        }
        // Rule 17: what was found out about one user says nothing about another.
        if self.user.get_or_insert_with(|| user.to_owned()) != user {
            return Err(Ended::protocol("the user name changed"));
        }
        match method {
            Method::None if self.offers.has_none() => self.ask(Question::Nothing, Asked::Nothing),
            Method::None => Ok(self.refuse_for_free()),
            Method::PublicKey(request) => match self.examine(&request) {
                Ok((question, asked)) => self.ask(question, asked),
                Err(why) => self.refuse(why),
            },
            Method::Password(password) if self.offers.has_password() => match Typed::new(password) {
                Some(password) => self.ask(Question::Password(password), Asked::Password),
                None => self.refuse(Why::TooLong),
            },
            Method::PasswordChange if self.offers.has_password() => self.refuse(Why::PasswordChange),
            Method::Password(_) | Method::PasswordChange => self.refuse(not_offered(message::PASSWORD)),
            Method::Interactive if self.offers.has_interactive() => self.ask(Question::Interactive, Asked::Interactive),
            Method::Interactive => self.refuse(not_offered(message::INTERACTIVE)),
            Method::Other(name) => self.refuse(Why::Method(Shown::new(name))),
        }
    }

    /// Rules 18 to 21. A signature is verified before anybody is asked whose key it is: an unknown user costs what a known one does, and nobody
    /// can take a key that was only shown for one that signed. The question is about the key of this very request.
    fn examine(&self, request: &KeyRequest<'_>) -> Result<(Question, Asked), Why> {
        if self.offers.signature_algorithms().is_empty() {
            return Err(not_offered(message::PUBLICKEY));
        }
        if let Bound::To(host_key) = request.bound
            && host_key != self.host_key
        {
            return Err(Why::AnotherHostKey);
        }
        let not_allowed = || Why::Untrusted(Untrusted::Algorithm(Shown::new(request.algorithm)));
        let name = str::from_utf8(request.algorithm).map_err(|_| not_allowed())?;
        let signs_by = signature_algorithm(name).ok_or_else(not_allowed)?;
        if !self.offers.signature_algorithms().contains(&signs_by) {
            return Err(not_allowed());
        }
        let presented = Presented::parse(name, request.blob)?;
        let Some(signed) = &request.signature else {
            let reply = message::key_would_do(name, request.blob);
            return Ok((Question::Query(presented), Asked::Query { reply }));
        };
        let data = message::signed_data(&self.session_id, signed.request);
        // What a security key must have seen is not known before its owner is: `prove_by_key` verifies again, with that.
        presented.verify(&data, signed.signature, SkPolicy::NOTHING)?;
        let seen = Seen::read(signed.signature);
        let question = Question::Proof(presented.clone(), seen);
        Ok((question, Asked::Proof(Box::new(Signature { presented, seen, data, signature: signed.signature.to_vec() }))))
    }

    fn responses(&mut self, message: &[u8], prompts: usize) -> Result<Step, Ended> {
        self.count(message)?;
        let Some(responses) = message::read_responses(message, prompts)? else {
            return self.refuse(Why::WrongNumberOfResponses);
        };
        match responses.into_iter().map(Typed::new).collect::<Option<_>>() {
            Some(responses) => self.ask(Question::Responses(responses), Asked::Responses),
            None => self.refuse(Why::TooLong),
        }
    }

    fn count(&mut self, message: &[u8]) -> Result<(), Ended> {
        if message.len() > MESSAGE_MAX {
            return Err(Ended::too_much("a message of a login is too long"));
        }
        self.requests = self.requests.saturating_add(1);
        if self.requests > self.limits.requests { Err(Ended::too_much("a login takes too many messages")) } else { Ok(()) }
    }

    fn ask(&mut self, question: Question, asked: Asked) -> Result<Step, Ended> {
        self.state = State::Asked(asked);
        Ok(Step::Ask { user: self.named()?, question })
    }

    fn prove_by_key(&mut self, signature: Signature, policy: SkPolicy) -> Result<Step, Ended> {
        let Signature { presented, seen, data, signature } = signature;
        match presented.verify(&data, &signature, policy) {
            Ok(()) => self.prove(By::Key(presented, seen)),
            Err(untrusted) => self.refuse(untrusted.into()),
        }
    }

    fn prove(&mut self, by: By) -> Result<Step, Ended> {
        self.state = State::Proven;
        Ok(Step::Proven(Proven::new(self.named()?, by)))
    }

    fn prompt(&mut self, prompts: &Prompts) -> Step {
        let step = self.reply(message::prompts(prompts));
        self.state = State::Prompted(prompts.prompts.len());
        step
    }

    /// One failure more. The last one ends the connection instead of being answered.
    fn refuse(&mut self, why: Why) -> Result<Step, Ended> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.limits.failures {
            return Err(Ended::TooManyFailures);
        }
        Ok(Step::Refuse { messages: self.failure(), why })
    }

    /// `none` is a way to ask what there is.
    fn refuse_for_free(&mut self) -> Step {
        Step::Send(self.failure())
    }

    /// The same bytes whoever the user is and whatever was wrong.
    fn failure(&mut self) -> Vec<Vec<u8>> {
        let failure = message::failure(&self.offers.listed());
        self.open(failure)
    }

    fn reply(&mut self, reply: Vec<u8>) -> Step {
        Step::Send(self.open(reply))
    }

    /// The banner goes before whatever is the first answer to a request: some clients do not expect it any earlier.
    fn open(&mut self, reply: Vec<u8>) -> Vec<Vec<u8>> {
        self.state = State::Open;
        let banner = self.banner.take().map(|banner| message::banner(banner.as_str()));
        banner.into_iter().chain([reply]).collect()
    }

    fn named(&self) -> Result<String, Ended> {
        self.user.clone().ok_or(Ended::internal("nobody said who it is"))
    }
}

fn not_offered(method: &str) -> Why {
    Why::Method(Shown::new(method.as_bytes()))
}

#[cfg(test)]
mod tests;
