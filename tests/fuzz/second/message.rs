//! Messages of the connection protocol read a second time, from the tables of RFC 4254, of OpenSSH's PROTOCOL and of RFC 9987.

use keyward_ssh_transport::Side;
use keyward_ssh_transport::connection::message::Message;

use crate::wire::{Value, whole};

/// What follows a message's number.
const MESSAGES: [(u8, &str); 14] = [
    (80, "sb*"),
    (81, "*"),
    (82, ""),
    (90, "suuu*"),
    (91, "uuuu*"),
    (92, "uuss"),
    (93, "uu"),
    (94, "us"),
    (95, "uus"),
    (96, "u"),
    (97, "u"),
    (98, "usb*"),
    (99, "u"),
    (100, "u"),
];

/// What belongs to a name: of a global request (80), of a channel's type (90), of a request on a channel (98). A star is what a policy has no
/// need to know: nothing of it is on record, and whether it is well-formed is between the two ends.
const INSIDE: [(Side, u8, &str, &str); 22] = [
    (Side::Client, 80, "tcpip-forward", "su"),
    (Side::Client, 80, "cancel-tcpip-forward", "su"),
    (Side::Client, 80, "streamlocal-forward@openssh.com", "s"),
    (Side::Client, 80, "cancel-streamlocal-forward@openssh.com", "s"),
    (Side::Client, 90, "session", ""),
    (Side::Client, 90, "direct-tcpip", "susu"),
    (Side::Client, 90, "direct-streamlocal@openssh.com", "ssu"),
    (Side::Server, 90, "forwarded-tcpip", "susu"),
    (Side::Server, 90, "forwarded-streamlocal@openssh.com", "ss"),
    (Side::Server, 90, "x11", "*"),
    (Side::Server, 90, "auth-agent@openssh.com", "*"),
    (Side::Server, 90, "agent-connect", "*"),
    (Side::Client, 98, "shell", ""),
    (Side::Client, 98, "exec", "s"),
    (Side::Client, 98, "subsystem", "s"),
    (Side::Client, 98, "x11-req", "*"),
    (Side::Client, 98, "auth-agent-req@openssh.com", "*"),
    (Side::Client, 98, "agent-req", "*"),
    (Side::Client, 98, "pty-req", "*"),
    (Side::Client, 98, "env", "*"),
    (Side::Client, 98, "window-change", "*"),
    (Side::Client, 98, "signal", "*"),
];

/// Nobody but we would read it so, or we would not and others would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A number and what follows it; `None`: the number is none of the connection protocol's.
pub fn read(message: &[u8]) -> Result<Option<(u8, Vec<Value<'_>>)>, Malformed> {
    let (&number, rest) = message.split_first().ok_or(Malformed)?;
    let Some((_, letters)) = MESSAGES.into_iter().find(|(known, _)| *known == number) else { return Ok(None) };
    whole(letters, rest).map(|values| Some((number, values))).ok_or(Malformed)
}

/// Both read the same, and it is written as it was read.
pub fn hold(message: &[u8]) {
    match (Message::read(message), read(message)) {
        (Ok(ours), second) => {
            assert_eq!(Ok(ours.as_ref().map(values)), second);
            // A boolean may be any number but is written as 1, so it is the meaning that is the same.
            assert!(ours.is_none_or(|ours| Message::read(&ours.write()) == Ok(Some(ours))));
        }
        (Err(error), second) => assert_eq!(second, Err(Malformed), "{error}"),
    }
}

fn values<'a>(message: &Message<'a>) -> (u8, Vec<Value<'a>>) {
    let (number, text) = (|number: u32| Value::Number(number.into()), Value::Bytes);
    let boolean = |value: bool| Value::Number(value.into());
    match *message {
        Message::GlobalRequest { name, wants_reply, rest } => (80, vec![text(name), boolean(wants_reply), text(rest)]),
        Message::RequestSuccess { rest } => (81, vec![text(rest)]),
        Message::RequestFailure => (82, vec![]),
        Message::Open { kind, sender, window, packet, rest } => {
            (90, vec![text(kind), number(sender), number(window), number(packet), text(rest)])
        }
        Message::Confirmation { recipient, sender, window, packet, rest } => {
            (91, vec![number(recipient), number(sender), number(window), number(packet), text(rest)])
        }
        Message::OpenFailure { recipient, reason, text: why, language } => {
            (92, vec![number(recipient), number(reason), text(why), text(language)])
        }
        Message::WindowAdjust { recipient, bytes } => (93, vec![number(recipient), number(bytes)]),
        Message::Data { recipient, data } => (94, vec![number(recipient), text(data)]),
        Message::ExtendedData { recipient, kind, data } => (95, vec![number(recipient), number(kind), text(data)]),
        Message::Eof { recipient } => (96, vec![number(recipient)]),
        Message::Close { recipient } => (97, vec![number(recipient)]),
        Message::Request { recipient, name, wants_reply, rest } => {
            (98, vec![number(recipient), text(name), boolean(wants_reply), text(rest)])
        }
        Message::Success { recipient } => (99, vec![number(recipient)]),
        Message::Failure { recipient } => (100, vec![number(recipient)]),
    }
}

/// A name that is known of `by`, and what belongs to it.
pub type Inside<'a> = (&'static str, Vec<Value<'a>>);

/// What a message asks for: its number and its name, and what belongs to that if the name is known. `None`: it is none that asks.
pub fn asked(by: Side, message: &[u8]) -> Result<Option<(u8, &[u8], Option<Inside<'_>>)>, Malformed> {
    let Some((number, values)) = read(message)? else { return Ok(None) };
    let (name, rest) = match (number, &values[..]) {
        (80, [Value::Bytes(name), _, Value::Bytes(rest)]) => (*name, *rest),
        (90, [Value::Bytes(kind), _, _, _, Value::Bytes(rest)]) => (*kind, *rest),
        (98, [_, Value::Bytes(name), _, Value::Bytes(rest)]) => (*name, *rest),
        _ => return Ok(None),
    };
    let known = INSIDE.into_iter().find(|(side, of, known, _)| (*side, *of, known.as_bytes()) == (by, number, name));
    let inside = known.map(|(.., name, letters)| Ok((name, whole(letters, rest).ok_or(Malformed)?))).transpose()?;
    Ok(Some((number, name, inside)))
}
