//! A policy between a client and a server that say anything: the first byte is what is allowed; then come messages, each behind a byte whose
//! lowest bit says whose it is (1: the server's) and whose others whether we say something after it, and its length in two bytes. What the
//! policy reads in them and puts on record is held against a second parser, which stands for the one who hears them.
#![no_main]

#[path = "../second/meaning.rs"]
mod meaning;
#[path = "../second/message.rs"]
mod second;
#[path = "../second/wire.rs"]
mod wire;

use std::collections::{HashMap, HashSet};

use keyward_ssh_transport::Side;
use keyward_ssh_transport::connection::message::{self, Message};
use keyward_ssh_transport::policy::{Channels, Decision, Event, Permission, Policy, What};
use keyward_ssh_transport::pump::Verdict;
use libfuzzer_sys::fuzz_target;

/// Bytes of a window that may be ours.
const RESERVE: u64 = 1024;

fuzz_target!(|bytes: &[u8]| {
    let Some((&allowed, rest)) = bytes.split_first() else { return };
    let chosen = Permission::ALL.into_iter().enumerate().filter(|(bit, _)| allowed >> bit & 1 == 1);
    let channels = Channels::of(chosen.map(|(_, permission)| permission));
    let mut policy = Policy::new(Box::new(move || channels));
    let mut seen =
        Seen { channels, open: [HashMap::new(), HashMap::new()], closed: [HashSet::new(), HashSet::new()], windows: HashMap::new() };
    // So long that a few of them use a reserve up.
    let line = "x".repeat(400);
    for (by, says, message) in messages(rest) {
        second::hold(message);
        let looked = policy.look(by, message);
        if let Some(event) = &looked.event {
            assert_eq!((event.by, Ok(Some(&event.what))), (by, meaning::meant(by, message).as_ref().map(Option::as_ref)));
            let may = event.what.permission().is_some_and(|permission| channels.allow(permission));
            assert!(may || event.decision == Decision::Refused);
            let shown = format!("{event:?}");
            assert!(shown.len() < 2000 && shown.bytes().all(|byte| matches!(byte, b' '..=b'~') || byte >= 0x80), "{shown}");
        }
        let passed = match &looked.verdict {
            Verdict::Pass => message,
            Verdict::Replace(message) => message,
            Verdict::Answer(message) => {
                assert!(matches!(Message::read(message), Ok(Some(Message::OpenFailure { .. }))));
                continue;
            }
            Verdict::Broken(_) => return,
            Verdict::Drop | Verdict::Unknown => {
                seen.withheld(by, message);
                continue;
            }
        };
        seen.passed(by, message, passed);
        seen.understood(by, passed, looked.event.as_ref());
        if says {
            policy.say(&line).iter().for_each(|message| seen.said(message));
        }
    }
});

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Side, bool, &[u8])> {
    std::iter::from_fn(move || {
        let (how, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (message, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        bytes = rest;
        Some((if how & 1 == 0 { Side::Client } else { Side::Server }, how & 0xfe != 0, message))
    })
}

/// What an observer behind the policy knows by himself.
struct Seen {
    channels: Channels,
    /// By each side's own number, whether it is open, and what the other side calls it.
    open: [HashMap<u32, Option<u32>>; 2],
    /// Those of them that each side has closed.
    closed: [HashSet<u32>; 2],
    /// Of each of the client's channels: bytes that it gave, that the server heard of, that we used.
    windows: HashMap<u32, [u64; 3]>,
}

impl Seen {
    fn passed(&mut self, by: Side, said: &[u8], passed: &[u8]) {
        let own = usize::from(by == Side::Server);
        if matches!(passed[0], message::DATA | message::EXTENDED_DATA) {
            let recipient = u32::from_be_bytes(passed[1..5].try_into().unwrap());
            assert!(self.open[1 - own].get(&recipient).is_some_and(Option::is_some), "contents of no open channel");
            return;
        }
        let passed = Message::read(passed).unwrap().expect("only what is known passes");
        match passed {
            Message::Open { kind, sender, window, .. } => {
                assert!(self.open[own].insert(sender, None).is_none(), "two of one number");
                let needs = match (by, kind) {
                    (Side::Client, b"session") => None,
                    (Side::Client, b"direct-tcpip" | b"direct-streamlocal@openssh.com") => Some(Permission::LocalForward),
                    (Side::Server, b"forwarded-tcpip" | b"forwarded-streamlocal@openssh.com") => Some(Permission::RemoteForward),
                    (Side::Server, b"x11") => Some(Permission::X11),
                    (Side::Server, b"auth-agent@openssh.com" | b"agent-connect") => Some(Permission::Agent),
                    _ => panic!("a channel of another type"),
                };
                assert!(needs.is_none_or(|permission| self.channels.allow(permission)));
                if by == Side::Client {
                    let Ok(Some(Message::Open { window: given, .. })) = Message::read(said) else { panic!() };
                    self.windows.insert(sender, [given.into(), window.into(), 0]);
                }
            }
            Message::Confirmation { recipient, sender, .. } => {
                assert_eq!(self.open[1 - own].insert(recipient, Some(sender)), Some(None), "it was not being opened");
                assert!(self.open[own].insert(sender, Some(recipient)).is_none(), "two of one number");
            }
            Message::OpenFailure { recipient, .. } => assert_eq!(self.open[1 - own].remove(&recipient), Some(None)),
            Message::Close { recipient } => self.closes(own, recipient),
            Message::Request { name, .. } if by == Side::Client => {
                let needs: &[Permission] = match name {
                    b"shell" => &[Permission::Shell],
                    b"exec" => &[Permission::Exec],
                    b"subsystem" => &[Permission::Sftp],
                    b"x11-req" => &[Permission::X11],
                    b"auth-agent-req@openssh.com" | b"agent-req" => &[Permission::Agent],
                    _ => &[],
                };
                assert!(needs.iter().all(|permission| self.channels.allow(*permission)));
            }
            Message::GlobalRequest { name, .. } => {
                assert!(name != b"hostkeys-00@openssh.com" && name != b"hostkeys-prove-00@openssh.com");
                assert!(name != b"tcpip-forward" || self.channels.allow(Permission::RemoteForward));
            }
            Message::WindowAdjust { recipient, bytes } if by == Side::Client => {
                let Ok(Some(Message::WindowAdjust { bytes: given, .. })) = Message::read(said) else { panic!() };
                self.adjusted(recipient, given, bytes);
            }
            _ => {}
        }
    }

    /// What the other side will do is what was decided, and on record if the client wanted it.
    fn understood(&self, by: Side, passed: &[u8], event: Option<&Event>) {
        // Of contents a policy reads the channel and no more: one that is cut off or too long is the other side's to refuse.
        if matches!(passed[0], message::DATA | message::EXTENDED_DATA) {
            return;
        }
        let what = meaning::meant(by, passed).expect("both ends can read it");
        // A terminal is on record only where a certificate forbids it.
        if let Some(what) = what.filter(|what| *what != What::Terminal) {
            assert!(what.permission().is_some_and(|permission| self.channels.allow(permission)), "{what:?}");
            let on_record = event.is_some_and(|event| event.decision == Decision::Allowed && event.what == what);
            assert!(on_record || by == Side::Server, "{what:?}");
        }
    }

    /// A number may come again once both sides have closed its channel.
    fn closes(&mut self, own: usize, recipient: u32) {
        let number = self.open[1 - own].get(&recipient).copied().flatten().expect("the end of no open channel");
        assert!(self.closed[own].insert(number), "closed twice");
        if self.closed[1 - own].contains(&recipient) {
            for (side, number) in [(own, number), (1 - own, recipient)] {
                self.closed[side].remove(&number);
                self.open[side].remove(&number);
            }
            self.windows.remove(&if own == 0 { number } else { recipient });
        }
    }

    /// What was dropped may have been of a window.
    fn withheld(&mut self, by: Side, said: &[u8]) {
        if let (Side::Client, Ok(Some(Message::WindowAdjust { recipient, bytes }))) = (by, Message::read(said)) {
            self.adjusted(recipient, bytes, 0);
        }
    }

    /// `recipient` is what the server calls it.
    fn adjusted(&mut self, recipient: u32, given: u32, heard: u32) {
        let channel = self.open[1].get(&recipient).copied().flatten().filter(|channel| !self.closed[0].contains(channel));
        let Some([all, of_server, used]) = channel.and_then(|channel| self.windows.get_mut(&channel)) else { return };
        *all += u64::from(given);
        *of_server += u64::from(heard);
        assert!(*of_server + *used <= *all && (*all <= *of_server + *used + RESERVE), "{all} {of_server} {used}");
    }

    fn said(&mut self, message: &[u8]) {
        let Ok(Some(Message::ExtendedData { recipient, data, .. })) = Message::read(message) else { panic!() };
        let [all, of_server, used] = self.windows.get_mut(&recipient).expect("a session of the client's");
        *used += u64::try_from(data.len()).unwrap();
        assert!(*of_server + *used <= *all);
    }
}
