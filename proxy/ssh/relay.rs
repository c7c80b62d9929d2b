//! The relay: messages of the connection protocol between two transports, as the policy lets them pass, until either side ends or somebody ends
//! the session. One task polls both ways; neither waits for the other, but for the rule in the transport's `pump`.

mod words;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream as Lines;
use keyward_auth::SessionId;
use keyward_ssh_transport::connection::message::{DATA, EXTENDED_DATA};
use keyward_ssh_transport::policy::{Event, Policy, Tell};
use keyward_ssh_transport::pump::{self, Broken, Gate, Pumped, Verdict, pump};
use keyward_ssh_transport::{Fatal, Side, reason};
use tokio::time::Sleep;

use super::pace::Pace;
use super::refuse;
use super::wire::Wire;
use crate::refusal::Reason;
use crate::registry::Traffic;
use crate::relay::{End, Outcome};
use crate::stream::Stream;
use crate::told;
use crate::woken::Woken;
pub(super) use words::Words;

/// After its upstream has gone, a client that takes nothing for this long gets nothing more.
const LAST_WORDS: Duration = Duration::from_secs(30);

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
    /// What the client is told.
    pub(super) words: Words,
    /// What is known of the upstream's leaving.
    pub(super) left: Left,
}

/// How an upstream leaves. What it said before still goes to its client.
#[derive(Default)]
pub(super) struct Left {
    /// It said goodbye: the code and the words.
    goodbye: Option<(u32, String)>,
    /// It cannot be written any more.
    deaf: Option<io::ErrorKind>,
    /// It cannot be read any more.
    mute: Option<io::ErrorKind>,
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
    pub(super) async fn run(mut self, ends: impl Future<Output = Reason>, words: impl Lines<Item = String>) -> Outcome {
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
                // One time for both: who is not due in the one is what the clock of the other is set for.
                let now = Instant::now();
                match self.turn(cx, now) {
                    Ok(true) => {}
                    Ok(false) => match self.rest(cx, now, clock.as_mut(), &mut stuck) {
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
                let _ = words::shown(&mut client).await;
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
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Over> {
        let up = self.pass(Side::Client, now)?;
        let down = self.pass(Side::Server, now)?;
        let mut moved = up || down;
        // The other side's output first: what it takes makes room for what is read.
        moved |= self.flush_both(cx)?;
        for side in [Side::Client, Side::Server] {
            let over = side == Side::Server && (self.left.goodbye.is_some() || self.left.mute.is_some());
            if over || self.gate(side) != Gate::Open || self.due(side, now).is_some() {
                continue;
            }
            let (wire, stream) = self.parts(side);
            match (wire.poll_fill(cx, stream), side) {
                (Poll::Ready(Ok(())), _) => moved = true,
                (Poll::Ready(Err(error)), Side::Client) => return Err(failed(side, error.kind())),
                // What came before still waits for its client.
                (Poll::Ready(Err(error)), Side::Server) => (moved, self.left.mute) = (true, Some(error.kind())),
                (Poll::Pending, _) => {}
            }
        }
        Ok(moved)
    }

    /// Passes on what one side has said.
    fn pass(&mut self, from: Side, now: Instant) -> Result<bool, Over> {
        let said_goodbye = from == Side::Server && self.left.goodbye.is_some();
        if said_goodbye || self.due(from, now).is_some() {
            return Ok(false);
        }
        let nobody_hears = from == Side::Client && self.upstream_is_gone();
        let Self { client, upstream, policy, traffic, record, words, .. } = self;
        let mut refused: Vec<(Tell, &'static str)> = Vec::new();
        let (mut unrecorded, mut recorded) = (false, 0_u32);
        let mut look = |message: &[u8]| {
            // Nothing passes behind what cannot be recorded.
            if unrecorded || from == Side::Client && words.are_shown_by(message) || nobody_hears {
                return Verdict::Drop;
            }
            if let Some(&(DATA | EXTENDED_DATA)) = message.first() {
                match from {
                    Side::Client => traffic.add_up(message.len()),
                    Side::Server => traffic.add_down(message.len()),
                }
            }
            let looked = policy.look(from, message);
            if let Some(event) = &looked.event {
                recorded = recorded.saturating_add(1);
                if !record(event) {
                    unrecorded = true;
                    return Verdict::Drop;
                }
                refused.extend(event.tell.map(|tell| (tell, event.what.name())));
            }
            looked.verdict
        };
        let (source, target, pace) = match from {
            Side::Client => (&mut client.wire.conn, &mut upstream.wire.conn, &mut client.pace),
            Side::Server => (&mut upstream.wire.conn, &mut client.wire.conn, &mut upstream.pace),
        };
        // Whoever asks too fast is heard by the message, not by the buffer: what is sealed in one may take half a minute.
        let pumped = pump(source, target, pace.free(now), &mut look);
        pace.count(recorded, now);
        if unrecorded {
            return Err(self.ended(Reason::AuditUnavailable));
        }
        self.explain(refused, now).map_err(|fatal| broken(Side::Client, fatal))?;
        match pumped {
            Ok(Pumped::Messages(messages)) => Ok(messages > 0),
            Ok(Pumped::Disconnect { .. }) if from == Side::Client => Err(Over { end: End::Client, told: None }),
            Ok(Pumped::Disconnect { reason, text }) => {
                self.left.goodbye = Some((reason, text));
                Ok(true)
            }
            Err(Broken::From(fatal)) => Err(broken(from, fatal)),
            Err(Broken::To(fatal)) => Err(broken(from.other(), fatal)),
        }
    }

    /// Nothing moves: whether to wait. `false`: the clock has set something going.
    fn rest(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        mut clock: Pin<&mut Sleep>,
        stuck: &mut Option<(usize, Instant)>,
    ) -> Result<bool, Over> {
        if self.client.wire.eof {
            return Err(Over { end: End::Client, told: None });
        }
        let mut next: Option<Instant> = None;
        let mut sides: &[Side] = &[Side::Client, Side::Server];
        if self.upstream_is_gone() {
            let left = self.client.wire.conn.backlog();
            let since = stuck.filter(|(before, _)| *before == left).map_or(now, |(_, since)| since);
            *stuck = Some((left, since));
            let end = since.checked_add(LAST_WORDS);
            // What it said last may have to wait for its turn.
            let turn = self.due(Side::Server, now).filter(|_| self.left.goodbye.is_none());
            if turn.is_none() && (left == 0 || end.is_some_and(|end| end <= now)) {
                return Err(self.gone());
            }
            (next, sides) = (turn.or(end), &[Side::Client]);
        }
        for &side in sides {
            let due = self.parts(side).0.conn.tick(now).map_err(|fatal| broken(side, fatal))?;
            next = next.into_iter().chain(due).chain(self.due(side, now)).min();
        }
        let due = tokio::time::Instant::from_std(next.or_else(|| now.checked_add(LAST_WORDS)).unwrap_or(now));
        if clock.deadline() != due {
            clock.as_mut().reset(due);
        }
        // What `tick` began has to be written.
        let begun = self.flush_both(cx)?;
        Ok(clock.poll(cx).is_pending() && !begun)
    }

    /// Writes what waits, and says whether anything was.
    fn flush_both(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        let mut moved = false;
        if !self.upstream_is_gone() {
            match self.upstream.wire.poll_flush(cx, self.upstream.stream) {
                Poll::Ready(Ok(_)) => moved = true,
                // What it sent before it closed is still to be read.
                Poll::Ready(Err(error)) => (moved, self.left.deaf) = (true, Some(error.kind())),
                Poll::Pending => {}
            }
        }
        match self.client.wire.poll_flush(cx, self.client.stream) {
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(failed(Side::Client, error.kind())),
            Poll::Pending => Ok(moved),
        }
    }

    fn ended(&mut self, reason: Reason) -> Over {
        let (code, text) = refuse::farewell(reason, self.id);
        self.say(&text);
        Over { end: End::Ended(reason), told: Some((code, text)) }
    }

    /// Nothing is told to it any more.
    fn upstream_is_gone(&self) -> bool {
        let Left { goodbye, deaf, mute } = &self.left;
        self.upstream.wire.eof || goodbye.is_some() || deaf.is_some() || mute.is_some()
    }

    fn gone(&mut self) -> Over {
        let Left { goodbye, deaf, mute } = std::mem::take(&mut self.left);
        match (goodbye, mute.or(deaf)) {
            (Some(told), _) => Over { end: End::Upstream, told: Some(told) },
            (None, Some(kind)) if !self.upstream.wire.eof => failed(Side::Server, kind),
            (None, _) => {
                let text = told::sentence("the server closed the connection", self.id);
                Over { end: End::Upstream, told: Some((reason::BY_APPLICATION, text)) }
            }
        }
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
                let shown = self.words.shown_by(now);
                self.upstream.pace.due(now).max(shown)
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

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
