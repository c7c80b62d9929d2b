//! Packet headers of an established session (MySQL's source documentation, "MySQL Packets" and "Command Phase"): what a client commands,
//! as far as it must not reach the upstream as it is, and where the packets of an upstream end. Bodies are streamed and never looked at,
//! but for the few short ones that may have to be held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::command;
use super::packet::{self, HEADER, PART};
use super::statement;
use crate::relay::{Framer, Passed};

/// The longest packet that is held back whole, its header included, in bytes.
pub const HELD_MAX: usize = 64 * 1024;
/// The longest command that is looked into, its first byte included, in bytes: a KILL or a USE with a long comment.
pub const TEXT_MAX: usize = 1024;
/// An OK of no rows, no id and no text.
const BARE_OK: usize = 7;
/// A header and the command behind it.
const COMMAND: usize = HEADER + 1;
/// The connection ids that are ours: a server's own are as high only after 2^31 logins.
const OURS: std::ops::RangeInclusive<u64> = 0x8000_0000..=0xffff_ffff;

/// The first byte by which a replica tells that it has an event, in answer to a dump (semi-synchronous replication).
const SEMI_SYNC: u8 = 0xef;

/// What is held back besides what always is.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// The name by which users know the connection: a client that chooses it as its database means the connection's own.
    pub own_name: Option<Vec<u8>>,
    /// Whether the client may dump the binary log.
    pub replication: bool,
}

/// The payload of a held message, if it is one whole command. `None`: the client sent what nobody can let pass, and the session has to end.
#[must_use]
pub fn held_command(held: &[u8]) -> Option<&[u8]> {
    let (header, payload) = held.split_first_chunk::<HEADER>()?;
    (packet::parse_header(*header) == (payload.len(), 0) && !payload.is_empty()).then_some(payload)
}

/// From the client to the upstream.
pub struct Commands {
    client: Capabilities,
    hold: Hold,
    phase: Phase,
    /// Bytes of the packet under way that still pass.
    left: usize,
    /// The packet under way goes on in the next one.
    continued: bool,
    /// The beginning of a packet that may have to be held back.
    kept: Zeroizing<Vec<u8>>,
    /// The last command was a QUIT.
    quit: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Packets are commands.
    Commands,
    /// Packets are a file, up to an empty one.
    File,
    /// As commands, and a replica may say what it has.
    Dump,
    /// Nothing passes any more.
    Refused,
}

/// What becomes of a packet, by what is there of it.
enum Verdict {
    /// It passes.
    Pass,
    /// More of it has to be seen: so many bytes in all, or the whole packet.
    More(usize),
    /// It is held back.
    Hold,
    /// It must not pass, nor what comes behind it.
    Refuse,
}

impl Commands {
    /// After a login that ended with these capabilities on both sides.
    #[must_use]
    pub fn new(client: Capabilities, hold: Hold) -> Self {
        Self { client, hold, phase: Phase::Commands, left: 0, continued: false, kept: Zeroizing::default(), quit: false }
    }

    /// Judges a packet of which the beginning is there, at most the whole.
    fn judge(&self, packet: &[u8]) -> Verdict {
        let Some((header, payload)) = packet.split_first_chunk::<HEADER>() else { return Verdict::More(HEADER) };
        let (length, sequence) = packet::parse_header(*header);
        if length == 0 || self.continued || self.phase == Phase::File {
            return Verdict::Pass;
        }
        let Some(first) = payload.first() else { return Verdict::More(COMMAND) };
        if sequence == 0 {
            return self.judge_command(*first, payload, length);
        }
        // A number other than 0 is right in a file that the server asked for, and in what a replica says. A server takes no command with
        // it; one that did would take them unseen.
        let acknowledged = self.phase == Phase::Dump && *first == SEMI_SYNC;
        if acknowledged || self.client.has(Capabilities::LOCAL_FILES) { Verdict::Pass } else { Verdict::Refuse }
    }

    fn judge_command(&self, first: u8, payload: &[u8], length: usize) -> Verdict {
        let short = length <= TEXT_MAX;
        match first {
            command::CHANGE_USER | command::TABLE_DUMP | command::CLONE | command::SUBSCRIBE_GROUP_REPLICATION_STREAM | command::MULTI => {
                hold_whole(payload, length)
            }
            command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::REGISTER_SLAVE if !self.hold.replication => {
                hold_whole(payload, length)
            }
            command::PROCESS_KILL if length == 5 => match payload {
                [_, _, _, _, top] if top & 0x80 == 0 => Verdict::Pass,
                _ => hold_whole(payload, length),
            },
            command::INIT_DB => match &self.hold.own_name {
                Some(name) if short && name.len().checked_add(1) == Some(length) => {
                    let begin = payload.get(1..).unwrap_or_default();
                    if name.starts_with(begin) { hold_whole(payload, length) } else { Verdict::Pass }
                }
                _ => Verdict::Pass,
            },
            command::QUERY if short => {
                if payload.len() == length {
                    if self.holds_query(payload) { Verdict::Hold } else { Verdict::Pass }
                } else if statement::may_be_either(payload, self.client) {
                    hold_whole(payload, length)
                } else {
                    Verdict::Pass
                }
            }
            _ => Verdict::Pass,
        }
    }

    fn holds_query(&self, payload: &[u8]) -> bool {
        let Some(text) = statement::query_text(payload, self.client) else { return false };
        statement::kill(text).is_some_and(|kill| OURS.contains(&kill.id()))
            || self.hold.own_name.as_ref().is_some_and(|name| statement::used_database(text).as_ref() == Some(name))
    }

    /// A packet passes of which this is there.
    fn begin(&mut self, packet: &[u8]) {
        let Some((header, payload)) = packet.split_first_chunk::<HEADER>() else { return };
        let (length, sequence) = packet::parse_header(*header);
        if !self.continued {
            self.quit = (length, sequence, payload.first()) == (1, 0, Some(&command::QUIT));
            self.phase = match (self.phase, sequence, payload.first()) {
                (Phase::File, ..) if length == 0 => Phase::Commands,
                (phase @ (Phase::File | Phase::Refused), ..) => phase,
                (Phase::Dump, 1.., Some(&SEMI_SYNC)) => Phase::Dump,
                (phase, 1.., first) => first.map_or(phase, |_| Phase::File),
                (_, 0, Some(&(command::BINLOG_DUMP | command::BINLOG_DUMP_GTID))) => Phase::Dump,
                (phase, 0, _) => phase,
            };
        }
        self.left = length.saturating_sub(payload.len());
        self.continued = length == PART;
    }

    /// Goes on with the packet that is kept, as far as it is settled. Says how many of the bytes were needed for that.
    fn resume(&mut self, bytes: &[u8], passed: &mut Passed) -> usize {
        let before = self.kept.len();
        let mut used = 0_usize;
        loop {
            match self.judge(&self.kept) {
                Verdict::Pass => {
                    let mut kept = std::mem::take(&mut self.kept);
                    self.begin(&kept);
                    // What came now goes on from where it is.
                    kept.truncate(before);
                    passed.release = std::mem::take(&mut *kept);
                    return used;
                }
                Verdict::More(until) => {
                    let fresh = bytes.get(used..).unwrap_or_default();
                    let wanted = until.saturating_sub(self.kept.len());
                    self.kept.reserve_exact(wanted);
                    self.kept.extend(fresh.iter().take(wanted));
                    used = used.saturating_add(wanted.min(fresh.len()));
                    if fresh.is_empty() {
                        return used;
                    }
                }
                Verdict::Hold => {
                    passed.held = Some(std::mem::take(&mut self.kept));
                    return used;
                }
                Verdict::Refuse => {
                    passed.held = Some(self.refuse());
                    return bytes.len();
                }
            }
        }
    }

    /// From now on nothing passes. What is given as held is no whole command.
    fn refuse(&mut self) -> Zeroizing<Vec<u8>> {
        self.phase = Phase::Refused;
        self.kept = Zeroizing::default();
        Zeroizing::default()
    }
}

/// To hold a packet it must be there, and not be too long.
fn hold_whole(payload: &[u8], length: usize) -> Verdict {
    match length.saturating_add(HEADER) {
        total if total > HELD_MAX => Verdict::Refuse,
        _ if payload.len() == length => Verdict::Hold,
        total => Verdict::More(total),
    }
}

/// Of these bytes the first packet, or what is there of it.
fn first_packet(bytes: &[u8]) -> &[u8] {
    let total = bytes.first_chunk::<HEADER>().map(|header| packet::parse_header(*header).0.saturating_add(HEADER));
    total.and_then(|total| bytes.get(..total)).unwrap_or(bytes)
}

impl Framer for Commands {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        if self.phase == Phase::Refused {
            return Passed { taken: bytes.len(), held: Some(self.refuse()), ..passed };
        }
        if !self.kept.is_empty() {
            passed.taken = self.resume(bytes, &mut passed);
            if passed.held.is_some() || !self.kept.is_empty() {
                return passed;
            }
            passed.forward = passed.taken;
        }
        while let Some(rest) = bytes.get(passed.taken..).filter(|rest| !rest.is_empty()) {
            let mut goes = self.left.min(rest.len());
            if self.left > 0 {
                self.left = self.left.saturating_sub(goes);
            } else {
                let packet = first_packet(rest);
                let verdict = self.judge(packet);
                match verdict {
                    Verdict::Pass => {
                        self.begin(packet);
                        goes = packet.len();
                    }
                    Verdict::More(until) => {
                        self.kept.reserve_exact(until);
                        self.kept.extend_from_slice(packet);
                    }
                    Verdict::Hold => passed.held = Some(Zeroizing::new(packet.to_vec())),
                    Verdict::Refuse => passed.held = Some(self.refuse()),
                }
                if !matches!(verdict, Verdict::Pass) {
                    passed.taken = passed.taken.saturating_add(packet.len());
                    return passed;
                }
            }
            passed.taken = passed.taken.saturating_add(goes);
            passed.forward = passed.taken;
        }
        passed
    }

    fn to_boundary(&self) -> usize {
        let next = if self.continued { HEADER } else { 0 };
        match (self.left, self.judge(&self.kept)) {
            (0, Verdict::More(until)) if !self.kept.is_empty() => until.saturating_sub(self.kept.len()),
            (0, _) => next,
            (left, _) => left.saturating_add(next),
        }
    }

    fn said_goodbye(&self) -> bool {
        self.quit
    }
}

/// From the upstream to the client.
#[derive(Debug, Default)]
pub struct Answers {
    header: [u8; HEADER],
    seen: usize,
    left: usize,
    continued: bool,
    /// The next byte is the first of a message.
    fresh: bool,
    last: Option<(u8, Option<u8>)>,
    /// Of the last packet.
    length: usize,
    /// The last packet is not the first of an answer. Numbers go round: the 257th has the first one's.
    behind: bool,
    place: Place,
}

/// Where the answers have come to, for whoever has to say something after them. The framer itself is inside the relay.
#[derive(Debug, Default, Clone)]
pub struct Place(Arc<AtomicU8>);

impl Place {
    /// The number that the next packet to the client has: if the last one ended an answer, that of the first packet after a command, which
    /// the client has sent or is going to; else the one behind the last. What ends an answer is told by its first byte (OK, EOF, error) and,
    /// since each row of a prepared statement begins as an OK does, by its place or its length: a row as short as an OK is taken for one,
    /// and a client that is told something then only sees a number that it did not expect.
    #[must_use]
    pub fn next(&self) -> u8 {
        self.0.load(Ordering::Relaxed).wrapping_add(1)
    }

    fn set(&self, answers: &Answers) {
        let sequence = match answers.last {
            // An OK alone is the whole answer; the one behind the results of a CALL says nothing but that.
            Some((sequence, Some(0x00))) if answers.behind && answers.length > BARE_OK => sequence,
            None | Some((_, None | Some(0x00 | 0xfe | 0xff))) => 0,
            Some((sequence, _)) => sequence,
        };
        self.0.store(sequence, Ordering::Relaxed);
    }
}

impl Answers {
    /// Where they have come to, now and later.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// The sequence number of the last packet, and the first byte of the message that it belongs to, if it has one. Of a packet that is
    /// under way what is there of it.
    #[must_use]
    pub fn last(&self) -> Option<(u8, Option<u8>)> {
        self.last
    }

    /// A header is whole.
    fn begin(&mut self) {
        let (length, sequence) = packet::parse_header(self.header);
        let first = self.last.and_then(|(_, first)| first).filter(|_| self.continued);
        self.fresh = !self.continued;
        self.behind = match self.last {
            Some((0, Some(first))) => first < 0xfe,
            _ => sequence != 1,
        };
        self.last = Some((sequence, first));
        (self.seen, self.left, self.length, self.continued) = (0, length, length, length == PART);
    }
}

impl Framer for Answers {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            if self.left > 0 {
                if let Some((_, slot)) = self.last.as_mut().filter(|_| self.fresh) {
                    *slot = Some(*first);
                }
                self.fresh = false;
                let skipped = self.left.min(rest.len());
                self.left = self.left.saturating_sub(skipped);
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(slot) = self.header.get_mut(self.seen) {
                *slot = *first;
            }
            self.seen = self.seen.saturating_add(1);
            rest = after;
            if self.seen == HEADER {
                self.begin();
            }
        }
        self.place.set(self);
        Passed::all(bytes)
    }

    fn to_boundary(&self) -> usize {
        let next = if self.continued { HEADER } else { 0 };
        match (self.left, self.seen) {
            (0, 0) => next,
            (0, seen) => HEADER.saturating_sub(seen),
            (left, _) => left.saturating_add(next),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "framer_tests.rs"]
mod tests;
