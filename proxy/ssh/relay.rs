//! The relay: messages of the connection protocol between two transports, as the policy lets them pass, until either side ends or somebody ends
//! the session. One task polls both ways; neither waits for the other, but for the rule in the transport's `pump`.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream as Words;
use keyward_auth::SessionId;
use keyward_ssh_transport::connection::message::{DATA, EXTENDED_DATA, KEEPALIVE, Message, REQUEST_FAILURE, REQUEST_SUCCESS};
use keyward_ssh_transport::policy::{ChannelId, Decision, Event, Policy};
use keyward_ssh_transport::pump::{self, Broken, Gate, Pumped, Verdict, pump};
use keyward_ssh_transport::{Fatal, Side, reason};
use tokio::time::Sleep;

use super::pace::Pace;
use super::refuse;
use super::wire::{Heard, Wire};
use crate::refusal::Reason;
use crate::registry::Traffic;
use crate::relay::{End, Outcome};
use crate::stream::Stream;
use crate::told;
use crate::woken::Woken;

/// After its upstream has gone, a client that takes nothing for this long gets nothing more.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// A client has so long to show its user what we told it.
const SHOWN: Duration = Duration::from_secs(5);

/// One side: the transport and its stream.
pub(super) struct Leg<'a> {
    /// The transport.
    pub(super) wire: &'a mut Wire,
    /// Its stream.
    pub(super) stream: &'a mut Stream,
    /// How fast it asks for what goes on record.
    pub(super) pace: Pace,
}

/// What one session relays with.
pub(super) struct Relay<'a> {
    /// The client.
    pub(super) client: Leg<'a>,
    /// The upstream. The caller closes it.
    pub(super) upstream: Leg<'a>,
    /// What may pass.
    pub(super) policy: Policy,
    /// Where contents are counted. What keeps an idle link alive is none.
    pub(super) traffic: &'a Traffic,
    /// Puts a decision on record. `false`: it cannot, and must.
    pub(super) record: &'a mut (dyn FnMut(&Event) -> bool + Send),
    /// The session, for what its client is told.
    pub(super) id: SessionId,
    /// The client was told something and asked whether it has shown it; until when it is waited for. `None` to begin with.
    pub(super) showing: Option<Instant>,
}

/// How it ended, and what the client is told.
struct Over {
    end: End,
    /// The code of a DISCONNECT and its words, if the client does not know yet.
    told: Option<(u32, String)>,
}

impl Relay<'_> {
    /// Relays until the end. What `words` says meanwhile the sessions inside are told on their standard error. When `ends` resolves, they are
    /// told why in the same way, and so is the client.
    pub(super) async fn run(mut self, ends: impl Future<Output = Reason>, words: impl Words<Item = String>) -> Outcome {
        let (ends, words) = (pin!(ends), pin!(words));
        let (mut ends, mut words) = (Woken::new(ends), Woken::new(words));
        let mut clock = pin!(tokio::time::sleep(Duration::ZERO));
        let mut stuck = None;
        let over = std::future::poll_fn(|cx| {
            if let Poll::Ready(reason) = Pin::new(&mut ends).poll(cx) {
                return Poll::Ready(self.ended(reason));
            }
            while let Poll::Ready(Some(line)) = Pin::new(&mut words).poll_next(cx) {
                self.say(&line);
            }
            loop {
                match self.turn(cx) {
                    Ok(true) => {}
                    Ok(false) => match self.rest(cx, clock.as_mut(), &mut stuck) {
                        Ok(true) => return Poll::Pending,
                        Ok(false) => {}
                        Err(over) => return Poll::Ready(over),
                    },
                    Err(over) => return Poll::Ready(over),
                }
            }
        })
        .await;
        let Self { mut client, upstream, .. } = self;
        upstream.wire.conn.disconnect(reason::BY_APPLICATION, "");
        let goodbye = async {
            if matches!(over.end, End::Ended(_)) {
                let _ = tokio::time::timeout(SHOWN, shown(&mut client)).await;
            }
            if let Some((code, text)) = &over.told {
                client.wire.conn.disconnect(*code, text);
            }
            refuse::close(client.stream, client.wire).await;
        };
        tokio::join!(goodbye, refuse::close(upstream.stream, upstream.wire));
        Outcome { end: over.end, upstream_closed: true }
    }

    /// Moves what can be moved; whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let now = Instant::now();
        let up = self.pass(Side::Client, now)?;
        let down = self.pass(Side::Server, now)?;
        let mut moved = up || down;
        // The other side's output first: what it takes makes room for what is read.
        for side in [Side::Server, Side::Client] {
            let (wire, stream) = self.parts(side);
            match wire.poll_flush(cx, stream) {
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => return Err(failed(side, error.kind())),
                Poll::Pending => {}
            }
        }
        for side in [Side::Client, Side::Server] {
            if self.gate(side) != Gate::Open || self.due(side, now).is_some() {
                continue;
            }
            let (wire, stream) = self.parts(side);
            match wire.poll_fill(cx, stream) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => return Err(failed(side, error.kind())),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// Passes on what one side has said.
    fn pass(&mut self, from: Side, now: Instant) -> Result<bool, Over> {
        if self.due(from, now).is_some() {
            return Ok(false);
        }
        let Self { client, upstream, policy, traffic, record, showing, .. } = self;
        let mut tell: Vec<(ChannelId, &'static str)> = Vec::new();
        let (mut unrecorded, mut recorded) = (false, 0_u32);
        let mut look = |message: &[u8]| {
            // Nothing passes behind what cannot be recorded.
            if unrecorded {
                return Verdict::Drop;
            }
            if let Some(&(DATA | EXTENDED_DATA)) = message.first() {
                match from {
                    Side::Client => traffic.add_up(message.len()),
                    Side::Server => traffic.add_down(message.len()),
                }
            }
            if from == Side::Client && is_answer(message) && showing.take().is_some() {
                return Verdict::Drop;
            }
            let looked = policy.look(from, message);
            if let Some(event) = &looked.event {
                recorded = recorded.saturating_add(1);
                if !record(event) {
                    unrecorded = true;
                    return Verdict::Drop;
                }
                if event.decision == Decision::Refused {
                    tell.extend(event.tell.map(|channel| (channel, event.what.name())));
                }
            }
            looked.verdict
        };
        let (source, target) = match from {
            Side::Client => (&mut client.wire.conn, &mut upstream.wire.conn),
            Side::Server => (&mut upstream.wire.conn, &mut client.wire.conn),
        };
        let pace = match from {
            Side::Client => &mut client.pace,
            Side::Server => &mut upstream.pace,
        };
        // Whoever asks too fast is heard by the message, not by the buffer: what is sealed in one may take half a minute.
        let pumped = pump(source, target, pace.free(now), &mut look);
        pace.count(recorded, now);
        if unrecorded {
            return Err(self.ended(Reason::AuditUnavailable));
        }
        for (channel, what) in tell {
            let line = told::sentence(&format!("{what} is not allowed here"), self.id);
            if let Some(message) = self.policy.tell(channel, &line) {
                self.client.wire.conn.send(&message).map_err(|fatal| broken(Side::Client, fatal))?;
                self.let_it_show(now)?;
            }
        }
        match pumped {
            Ok(Pumped::Messages(messages)) => Ok(messages > 0),
            Ok(Pumped::Disconnect { reason, text }) => Err(match from {
                Side::Client => Over { end: End::Client, told: None },
                Side::Server => Over { end: End::Upstream, told: Some((reason, text)) },
            }),
            Err(Broken::From(fatal)) => Err(broken(from, fatal)),
            Err(Broken::To(fatal)) => Err(broken(from.other(), fatal)),
        }
    }

    /// Nothing moves: whether to wait. `false`: the clock has set something going.
    fn rest(&mut self, cx: &mut Context<'_>, mut clock: Pin<&mut Sleep>, stuck: &mut Option<(usize, Instant)>) -> Result<bool, Over> {
        if self.client.wire.eof {
            return Err(Over { end: End::Client, told: None });
        }
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        if self.upstream.wire.eof {
            let left = self.client.wire.conn.backlog();
            let gone = || Over { end: End::Upstream, told: Some((reason::BY_APPLICATION, self.gone())) };
            if left == 0 {
                return Err(gone());
            }
            let since = stuck.filter(|(before, _)| *before == left).map_or(now, |(_, since)| since);
            *stuck = Some((left, since));
            next = since.checked_add(LAST_WORDS);
            if next.is_some_and(|due| due <= now) {
                return Err(gone());
            }
        }
        for side in [Side::Client, Side::Server] {
            let due = self.parts(side).0.conn.tick(now).map_err(|fatal| broken(side, fatal))?;
            next = next.into_iter().chain(due).chain(self.due(side, now)).min();
        }
        let due = tokio::time::Instant::from_std(next.or_else(|| now.checked_add(LAST_WORDS)).unwrap_or(now));
        if clock.deadline() != due {
            clock.as_mut().reset(due);
        }
        // What `tick` began has to be written.
        let begun = self.flush_both(cx);
        Ok(clock.poll(cx).is_pending() && !begun)
    }

    fn flush_both(&mut self, cx: &mut Context<'_>) -> bool {
        let flush = |side| {
            let (wire, stream) = self.parts(side);
            wire.poll_flush(cx, stream).is_ready()
        };
        [Side::Client, Side::Server].map(flush).contains(&true)
    }

    fn ended(&mut self, reason: Reason) -> Over {
        let (code, text) = refuse::farewell(reason, self.id);
        self.say(&text);
        Over { end: End::Ended(reason), told: Some((code, text)) }
    }

    /// A line on the standard error of the sessions inside. Where it cannot be said it is not: the DISCONNECT at the end says why.
    fn say(&mut self, line: &str) {
        for message in self.policy.say(line) {
            let _ = self.client.wire.conn.send(&message);
        }
    }

    /// ssh ends at the refusal of what it was started for, and what it has not written by then is lost: until it has shown why, the server is
    /// not heard.
    fn let_it_show(&mut self, now: Instant) -> Result<(), Over> {
        if self.showing.is_none() {
            self.client.wire.conn.send(&ask()).map_err(|fatal| broken(Side::Client, fatal))?;
            self.showing = now.checked_add(SHOWN);
        }
        Ok(())
    }

    fn gone(&self) -> String {
        told::sentence("the server closed the connection", self.id)
    }

    fn gate(&self, from: Side) -> Gate {
        let (client, upstream) = (&self.client.wire.conn, &self.upstream.wire.conn);
        match from {
            Side::Client => pump::between(client, upstream),
            Side::Server => pump::between(upstream, client),
        }
    }

    /// When this side is heard again; `None`: now.
    fn due(&mut self, side: Side, now: Instant) -> Option<Instant> {
        match side {
            Side::Client => self.client.pace.due(now),
            Side::Server => {
                self.showing = self.showing.filter(|until| *until > now);
                self.upstream.pace.due(now).max(self.showing)
            }
        }
    }

    fn parts(&mut self, side: Side) -> (&mut Wire, &mut Stream) {
        let leg = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.upstream,
        };
        (leg.wire, leg.stream)
    }
}

/// Waits until the client has shown what it was told. ssh throws away what it has not written yet when it hears a DISCONNECT; a request it
/// answers behind that.
async fn shown(client: &mut Leg<'_>) {
    if client.wire.conn.send(&ask()).is_err() {
        return;
    }
    while let Ok(heard) = client.wire.hear(client.stream).await {
        match heard {
            Heard::Message(message) if is_answer(&message) => return,
            Heard::Message(_) | Heard::Ready | Heard::HostKey(_) => {}
        }
    }
}

/// What tells when a client has taken in all that it was told before.
fn ask() -> Vec<u8> {
    Message::GlobalRequest { name: KEEPALIVE, wants_reply: true, rest: b"" }.write()
}

fn is_answer(message: &[u8]) -> bool {
    matches!(message.first(), Some(&(REQUEST_SUCCESS | REQUEST_FAILURE)))
}

/// A stream failed.
fn failed(side: Side, kind: io::ErrorKind) -> Over {
    match side {
        Side::Client => Over { end: End::ClientFailed(kind), told: None },
        Side::Server => {
            let text = "keyward: the connection to the server failed".to_owned();
            Over { end: End::UpstreamFailed(kind), told: Some((reason::BY_APPLICATION, text)) }
        }
    }
}

/// A peer broke the protocol, or something of our own failed.
fn broken(side: Side, fatal: Fatal) -> Over {
    tracing::info!(?side, %fatal, "the session's protocol was broken");
    failed(side, io::ErrorKind::InvalidData)
}
