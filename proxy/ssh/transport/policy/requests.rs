//! What may be asked of a channel (RFC 4254 sections 6.2 to 6.10; RFC 4335; OpenSSH PROTOCOL section 2), and by whom.

use super::event::{Decision, Event, Tell, What};
use super::forwards::Reply;
use super::table::{Kind, Terminal};
use super::{Broken, DENIED, EOW, Invited, KEEPALIVE, Looked, Policy};
use crate::connection::message::Message;
use crate::negotiate::Side;
use crate::pump::Verdict;
use crate::shown::Shown;
use crate::wire::Reader;

/// What is asked for.
enum Asked {
    /// What always may be.
    Harmless,
    /// A terminal.
    Terminal,
    /// What a rule allows, or not.
    Ruled(What),
    /// What nobody here knows.
    Unknown,
}

impl Policy {
    /// Somebody asks something of a channel.
    pub(super) fn request(&mut self, by: Side, recipient: u32, name: &[u8], reply: Reply, rest: &[u8]) -> Result<Looked, Broken> {
        // OpenSSH's client may still say what size its terminal has when it has closed the channel, even when that is gone.
        let Some(kind) = self.speaks(by, recipient).map(|channel| channel.kind) else { return Ok(Verdict::Drop.into()) };
        let asked = match (by, kind) {
            _ if name == EOW || name == KEEPALIVE => Asked::Harmless,
            (_, Kind::Stream) => Asked::Unknown,
            (Side::Client, Kind::Session) => by_client(name, rest)?,
            (Side::Server, Kind::Session) => by_server(name),
        };
        let channels = (self.allowed)();
        let allowed = match &asked {
            Asked::Harmless => true,
            Asked::Terminal => channels.allow_pty(),
            Asked::Ruled(what) => what.permission().is_some_and(|permission| channels.allow(permission)),
            Asked::Unknown => false,
        };
        if allowed {
            self.remember(&asked);
        }
        let Some((id, channel)) = self.table.heard(by, recipient) else { return Ok(Verdict::Drop.into()) };
        if allowed && matches!(asked, Asked::Terminal) {
            channel.terminal = Terminal::Asked;
        }
        if reply == Reply::Wanted {
            let unanswered = channel.unanswered.of_mut(by);
            *unanswered = unanswered.checked_add(1).ok_or(Broken("too many requests without an answer"))?;
        }
        let verdict = match (allowed, reply) {
            (true, _) => Verdict::Pass,
            (false, Reply::None) => Verdict::Drop,
            (false, Reply::Wanted) => Verdict::Replace(Message::Request { recipient, name: DENIED, wants_reply: true, rest: b"" }.write()),
        };
        let tell = (!allowed).then_some(if reply == Reply::Wanted { Tell::Waiting(id) } else { Tell::Session(id) });
        let decision = if allowed { Decision::Allowed } else { Decision::Refused };
        let event = match asked {
            Asked::Ruled(what) => Some(Event { by, what, decision, tell }),
            Asked::Terminal if !allowed => Some(Event { by, what: What::Terminal, decision, tell }),
            Asked::Harmless | Asked::Terminal | Asked::Unknown => None,
        };
        Ok(Looked { verdict, event })
    }

    /// The answer to the oldest request of the other side. One that nobody waits for ends here: OpenSSH's ends throw it away too.
    pub(super) fn answer(&mut self, by: Side, recipient: u32) -> Verdict {
        let Some(channel) = self.speaks(by, recipient) else { return Verdict::Drop };
        let unanswered = channel.unanswered.of_mut(by.other());
        match unanswered.checked_sub(1) {
            Some(left) => {
                *unanswered = left;
                Verdict::Pass
            }
            None => Verdict::Drop,
        }
    }

    fn remember(&mut self, asked: &Asked) {
        match asked {
            Asked::Ruled(What::Agent) => self.agent = Invited::Yes,
            Asked::Ruled(What::X11) => self.x11 = Invited::Yes,
            _ => {}
        }
    }
}

fn by_client(name: &[u8], rest: &[u8]) -> Result<Asked, Broken> {
    let mut reader = Reader::new(rest);
    let what = match name {
        b"pty-req" => return Ok(Asked::Terminal),
        b"env" | b"window-change" | b"signal" | b"break" => return Ok(Asked::Harmless),
        b"shell" => What::Shell,
        b"exec" => What::exec(reader.string()?),
        b"subsystem" => match reader.string()? {
            b"sftp" => What::Sftp,
            name => What::Subsystem { name: Shown::new(name) },
        },
        b"x11-req" => return Ok(Asked::Ruled(What::X11)),
        b"auth-agent-req@openssh.com" | b"agent-req" => return Ok(Asked::Ruled(What::Agent)),
        _ => return Ok(Asked::Unknown),
    };
    reader.end()?;
    Ok(Asked::Ruled(what))
}

fn by_server(name: &[u8]) -> Asked {
    match name {
        b"exit-status" | b"exit-signal" | b"xon-xoff" => Asked::Harmless,
        _ => Asked::Unknown,
    }
}
