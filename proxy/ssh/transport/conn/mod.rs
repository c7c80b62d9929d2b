//! One transport, either end of it (RFC 4253; OpenSSH PROTOCOL section 1.10): bytes in, messages out, messages in, bytes out. It has no
//! socket, no clock and no task; whoever owns it moves the bytes and tells it the time.
//!
//! ```text
//! socket → room() received() → next() → Event    inbound → receive (which message when) → exchange (keys)
//! socket ← output() wrote()  ← send()            outbound ← held (while keys are exchanged)
//! ```

mod buffer;
mod config;
mod exchange;
mod extensions;
mod held;
mod inbound;
mod outbound;
mod receive;
mod renew;
mod spare;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
pub(crate) mod tests;

use std::time::Instant;

use crate::error::Fatal;
use crate::ident::{Earlier, Reading};
use crate::key::PublicKey;
use crate::message;
use crate::negotiate::{Agreed, Guess, Offer, Side};
use crate::random::Random;
use crate::wire::Put;

pub use config::{ClientConfig, Demand, IDENT, Limits, Role, ServerConfig};
pub use extensions::Extensions;

use exchange::Exchange;
use held::{Answers, Held};
use inbound::Inbound;
pub(crate) use inbound::READ_BEFORE_LOGIN;
use outbound::Outbound;
use receive::Step;

/// The greatest length that a packet may announce, before a login (RFC 4253 section 6.1) and after it (OpenSSH's `PACKET_MAX_SIZE`).
pub const PACKET_BEFORE_LOGIN: usize = 35_000;
/// See [`PACKET_BEFORE_LOGIN`].
pub const PACKET: usize = 256 * 1024;
/// Bytes of the longest message: whatever comes in one packet must fit into one of another cipher.
pub const PAYLOAD_MAX: usize = PACKET - 64;
/// Packets under one key at the very most: the number of a packet is a nonce.
const PACKETS_MAX: u64 = 1 << 32;
/// Characters of what a peer says at its end that are kept.
const FAREWELL_MAX: usize = 200;

/// What comes out of a transport.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client only, once: this is what the server shows, under this host-key algorithm. Nothing more happens until
    /// [`Conn::accept_host_key`] is told which key it is known by, and nothing of ours has gone out but what an exchange of keys needs.
    HostKey {
        /// The key's blob, or the certificate.
        blob: &'a [u8],
        /// The host-key algorithm that was agreed on; its type is that of the blob.
        algorithm: &'static str,
    },
    /// The first key exchange is done, in both directions.
    Ready,
    /// A message of a layer above: a service's (5, 6), of a login (50 to 79) before [`Conn::authenticated`], of what follows (80 to 127)
    /// after it. At least one byte, its number.
    Message(&'a [u8]),
    /// The peer said goodbye: the last event.
    Disconnect {
        /// Why (RFC 4253 section 11.1).
        reason: u32,
        /// Why in words; printable ASCII, at most 200 characters.
        text: String,
    },
}

/// Whether strict key exchange is in force (rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strictness {
    /// Both sides said so in their first KEXINIT.
    Strict,
    /// The peer did not, or has not yet.
    Lenient,
}

/// Whether the peer, or we with it, are who they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    /// Small packets, no key exchange that we begin, nothing of what follows a login.
    Awaited,
    /// All.
    Done,
}

/// How far a transport has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// The peer has not begun to use any.
    None,
    /// It has.
    InUse,
}

/// A transport. See the top of this file; the order of calls does not matter but for [`Event::HostKey`].
pub struct Conn {
    role: Role,
    side: Side,
    offer: Offer,
    limits: Limits,
    inbound: Inbound,
    outbound: Outbound,
    reading: Reading,
    peer_ident: Option<Vec<u8>>,
    exchange: Exchange,
    /// The peer's next packet is its wrong guess.
    guess: Guess,
    strictness: Strictness,
    keys: Keys,
    login: Login,
    agreed: Option<Agreed>,
    session_id: Option<Vec<u8>>,
    /// What the server showed, or we did.
    host_blob: Option<Vec<u8>>,
    /// A client: the key that the caller knows the server by.
    trusted: Option<PublicKey>,
    extensions: Extensions,
    /// The client takes EXT_INFO.
    takes_ext_info: bool,
    held: Held,
    answers: Answers,
    /// Key exchanges that the peer was answered.
    exchanges: u32,
    /// When the present exchange began and when the present keys were made, as far as [`Self::tick`] has seen it yet: between two ticks nobody
    /// knows what time it is.
    exchange_since: Option<Instant>,
    keyed_at: Option<Instant>,
    /// Since when nothing has come and nothing gone, as far as [`Self::tick`] has seen it.
    quiet_since: Option<Instant>,
    ended: Option<Fatal>,
}

impl Conn {
    /// A transport that has not heard anything; its own identification and KEXINIT are in the output already.
    #[must_use]
    pub fn new(role: Role, random: Box<dyn Random>, now: Instant) -> Self {
        let side = role.side();
        let earlier = if side == Side::Client { Earlier::Allowed } else { Earlier::Refused };
        let mut conn = Self {
            side,
            offer: role.offer(),
            limits: role.limits(),
            inbound: Inbound::new(),
            outbound: Outbound::new(random),
            reading: Reading::new(earlier),
            peer_ident: None,
            exchange: Exchange::Idle,
            guess: Guess::None,
            strictness: Strictness::Lenient,
            keys: Keys::None,
            login: Login::Awaited,
            agreed: None,
            session_id: None,
            host_blob: None,
            trusted: None,
            extensions: Extensions::default(),
            takes_ext_info: false,
            held: Held::default(),
            answers: Answers::default(),
            exchanges: 0,
            exchange_since: None,
            keyed_at: None,
            quiet_since: None,
            ended: None,
            role,
        };
        conn.outbound.buffer.push(conn.role.ident().as_bytes());
        conn.outbound.buffer.push(b"\r\n");
        if let Err(fatal) = conn.begin_exchange() {
            conn.ended = Some(fatal);
        }
        conn.exchange_since = Some(now);
        conn
    }

    /// A place into which the peer's bytes can be read; how many came there is said to [`Self::received`]. Empty when [`Self::next`] has to be
    /// called first, which bounds what is kept.
    pub fn room(&mut self) -> &mut [u8] {
        // Before anything is moved to make room: a password that was handed out would leave a copy where it was.
        self.release();
        self.inbound.room(self.login == Login::Done)
    }

    /// So many bytes were read into what [`Self::room`] gave.
    pub fn received(&mut self, length: usize) {
        self.inbound.filled(length);
    }

    /// Takes bytes of the peer, as many as it can, and says how many.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let room = self.room();
            let length = rest.len().min(room.len());
            let (Some(place), Some(part)) = (room.get_mut(..length), rest.get(..length)) else { break };
            if length == 0 {
                break;
            }
            place.copy_from_slice(part);
            self.received(length);
            taken = taken.saturating_add(length);
        }
        taken
    }

    /// What comes next of what was received; `None` if it takes more bytes, or [`Self::accept_host_key`]. What it lends is good until the next
    /// call.
    ///
    /// # Errors
    /// The peer did what it must not do. The output then ends with a DISCONNECT, and every later call fails.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, Fatal> {
        if let Some(fatal) = self.ended.clone() {
            return Err(fatal);
        }
        let step = self.step().map_err(|fatal| self.fail(fatal))?;
        Ok(step.map(|step| match step {
            Step::HostKey => self.host_key_event(),
            Step::Ready => Event::Ready,
            Step::Message(range) => Event::Message(self.inbound.payload(range)),
            Step::Disconnect { reason, text } => {
                self.ended = Some(Fatal::Ended);
                Event::Disconnect { reason, text }
            }
        }))
    }

    /// A client: the server is known by this key, which is the one of [`Event::HostKey`] or the one inside its certificate. Checks that the
    /// server has it, and goes on.
    ///
    /// # Errors
    /// It has not, or nobody asked. The output then ends with a DISCONNECT.
    pub fn accept_host_key(&mut self, key: &PublicKey) -> Result<(), Fatal> {
        if let Some(fatal) = self.ended.clone() {
            return Err(fatal);
        }
        self.prove_host(key).map_err(|fatal| self.fail(fatal))
    }

    /// Sends a message of a layer above (5, 6, 50 to 127): sealed straight into the output, or held until the present key exchange is over.
    ///
    /// # Errors
    /// The transport has ended, or more is held than may be (32 MiB): the peer does not finish a key exchange.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Fatal> {
        if let Some(fatal) = self.ended.clone() {
            return Err(fatal);
        }
        let ours = message.first().is_some_and(|number| matches!(number, 5 | 6 | 50..=127)) && message.len() <= PAYLOAD_MAX;
        let sent = if ours { self.put(message) } else { Err(Fatal::Internal("a message that is none of the layers above")) };
        sent.map_err(|fatal| self.fail(fatal))
    }

    /// Sends an answer that the peer can cause at will, such as a refusal: 4,096 of these and 512 KiB in all may wait unread (rule 15).
    ///
    /// # Errors
    /// As [`Self::send`], and the peer lets too many wait.
    pub fn answer(&mut self, message: &[u8]) -> Result<(), Fatal> {
        if let Some(fatal) = self.ended.clone() {
            return Err(fatal);
        }
        self.put_answer(message).map_err(|fatal| self.fail(fatal))
    }

    /// Tells the peer that its last message was not understood (RFC 4253 section 11.4).
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn unimplemented(&mut self) -> Result<(), Fatal> {
        let mut message = vec![message::UNIMPLEMENTED];
        message.put_u32(self.inbound.sequence.wrapping_sub(1));
        self.answer(&message)
    }

    /// What has to be sent to the peer.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.outbound.buffer.data()
    }

    /// So many bytes of it were.
    pub fn wrote(&mut self, length: usize) {
        self.outbound.wrote(length);
    }

    /// Bytes that wait for the peer: the output, and what is held during a key exchange.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.outbound.buffer.len().saturating_add(self.held.bytes())
    }

    /// Keys are being exchanged: until that is over the peer must be read, whatever else is full (see [`crate::pump`]).
    #[must_use]
    pub fn in_exchange(&self) -> bool {
        !matches!(self.exchange, Exchange::Idle)
    }

    /// The hash of the first exchange, by which logins are bound to this connection (RFC 4253 section 7.2). It never changes.
    #[must_use]
    pub fn session_id(&self) -> Option<&[u8]> {
        self.session_id.as_deref()
    }

    /// The host key or certificate of this connection's server: what it showed, or what we did.
    #[must_use]
    pub fn host_key(&self) -> Option<&[u8]> {
        self.host_blob.as_deref()
    }

    /// What was agreed on last.
    #[must_use]
    pub fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// Whether strict key exchange is in force (OpenSSH PROTOCOL section 1.10).
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strictness == Strictness::Strict
    }

    /// The peer's line (RFC 4253 section 4.2): printable ASCII, at most 253 bytes.
    #[must_use]
    pub fn peer_ident(&self) -> Option<&[u8]> {
        self.peer_ident.as_deref()
    }

    /// What the peer can do besides, as far as it said so.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// How often keys were exchanged, for a metric.
    #[must_use]
    pub fn exchanges(&self) -> u32 {
        self.exchanges
    }

    /// The login is done: larger packets, key exchanges of our own, messages from 80 on; those of a login (50 to 79) are dropped from now on
    /// (RFC 4252 section 5.1, rule 24).
    pub fn authenticated(&mut self) {
        // What was handed out last may be the password that was right.
        self.release();
        self.login = Login::Done;
    }

    /// Says goodbye (RFC 4253 section 11.1): the last that is ever sent, even if messages are held. `text` is for the user.
    pub fn disconnect(&mut self, reason: u32, text: &str) {
        if self.ended.is_none() {
            self.say_goodbye(reason, text);
            self.ended = Some(Fatal::Ended);
        }
    }

    /// Seals whatever it is, in its turn or not.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn seal_anything(&mut self, payload: &[u8]) -> Result<(), Fatal> {
        self.outbound.seal(payload)
    }

    /// The same transport with nothing in its output.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn without_output(mut self) -> Self {
        let length = self.output().len();
        self.wrote(length);
        self
    }

    fn say_goodbye(&mut self, reason: u32, text: &str) {
        let mut message = vec![message::DISCONNECT];
        message.put_u32(reason).put_string(text).put_string("");
        // If even that fails the connection is closed without it.
        let _ = self.outbound.seal(&message);
    }

    /// Remembers why this ends, and tells the peer what it may know of it.
    fn fail(&mut self, fatal: Fatal) -> Fatal {
        if self.ended.is_none() {
            self.say_goodbye(fatal.reason(), fatal.text());
            self.ended = Some(fatal.clone());
        }
        fatal
    }
}
