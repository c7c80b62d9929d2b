//! What the client of a relay is told beside what passes, and that it has the time to show it.

use std::time::{Duration, Instant};

use keyward_ssh_transport::Fatal;
use keyward_ssh_transport::connection::message::{KEEPALIVE, Message, REQUEST_FAILURE, REQUEST_SUCCESS};
use keyward_ssh_transport::policy::Tell;

use super::{Leg, Relay};
use crate::ssh::wire::Heard;
use crate::told;

/// A client has so long to show its user what we told it, and to open a session on which it can.
const SHOWN: Duration = Duration::from_secs(5);

/// What is under way.
#[derive(Default)]
pub(in crate::ssh) struct Words {
    /// The client was told something and asked whether it has shown it; until when it is waited for.
    showing: Option<Instant>,
    /// What was refused to a client that has no session yet, each once, and until when one may come.
    unsaid: Vec<(&'static str, Instant)>,
}

impl Words {
    /// Whether this is the answer that is waited for.
    pub(super) fn are_shown_by(&mut self, message: &[u8]) -> bool {
        is_answer(message) && self.showing.take().is_some()
    }

    /// Until when the client shows something; `None`: it does not.
    pub(super) fn shown_by(&mut self, now: Instant) -> Option<Instant> {
        self.showing = self.showing.filter(|until| *until > now);
        self.showing
    }
}

impl Relay<'_> {
    /// A line on the standard error of the sessions inside; whether there was one. Where it cannot be said it is not: the DISCONNECT at the
    /// end says why.
    pub(super) fn say(&mut self, line: &str) -> bool {
        let messages = self.policy.say(line);
        for message in &messages {
            let _ = self.client.wire.conn.send(message);
        }
        !messages.is_empty()
    }

    /// Tells what is not allowed here.
    pub(super) fn explain(&mut self, refused: Vec<(Tell, &'static str)>, now: Instant) -> Result<(), Fatal> {
        for (tell, what) in refused {
            let (Tell::Waiting(channel) | Tell::Session(channel)) = tell else {
                if let (Some(until), false) = (now.checked_add(SHOWN), self.words.unsaid.iter().any(|(other, _)| *other == what)) {
                    self.words.unsaid.push((what, until));
                }
                continue;
            };
            let Some(message) = self.policy.tell(channel, &self.not_allowed(what)) else { continue };
            self.client.wire.conn.send(&message)?;
            if matches!(tell, Tell::Waiting(_)) {
                self.let_it_show(now)?;
            }
        }
        if !self.words.unsaid.is_empty() {
            for (what, until) in std::mem::take(&mut self.words.unsaid) {
                if until > now && !self.say(&self.not_allowed(what)) {
                    self.words.unsaid.push((what, until));
                }
            }
        }
        Ok(())
    }

    fn not_allowed(&self, what: &str) -> String {
        told::sentence(&format!("{what} is not allowed here"), self.id)
    }

    /// ssh ends at the refusal of what it was started for, and what it has not written by then is lost: until it has shown why, the server is
    /// not heard.
    fn let_it_show(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.words.showing.is_none() {
            self.client.wire.conn.send(&ask())?;
            self.words.showing = now.checked_add(SHOWN);
        }
        Ok(())
    }
}

/// Waits until the client has shown what it was told. ssh throws away what it has not written yet when it hears a DISCONNECT; a request it
/// answers behind that.
pub(super) async fn shown(client: &mut Leg<'_>) {
    if client.wire.conn.send(&ask()).is_err() {
        return;
    }
    let answered = async {
        while let Ok(heard) = client.wire.hear(client.stream).await {
            match heard {
                Heard::Message(message) if is_answer(&message) => return,
                Heard::Message(_) | Heard::Ready | Heard::HostKey(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(SHOWN, answered).await;
}

/// What tells when a client has taken in all that it was told before.
fn ask() -> Vec<u8> {
    Message::GlobalRequest { name: KEEPALIVE, wants_reply: true, rest: b"" }.write()
}

fn is_answer(message: &[u8]) -> bool {
    matches!(message.first(), Some(&(REQUEST_SUCCESS | REQUEST_FAILURE)))
}
