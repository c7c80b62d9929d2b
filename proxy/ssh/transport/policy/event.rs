//! What a decision was about, for the audit record: names and addresses, never contents.

use super::permission::Permission;
use crate::negotiate::Side;
use crate::shown::Shown;

/// A channel, as long as the session lasts: its numbers may come again, this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId(pub(super) u64);

/// Something was asked for, and decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who asked.
    pub by: Side,
    /// For what.
    pub what: What,
    /// How it was decided. Whether the server then did it is its own matter.
    pub decision: Decision,
    /// Who can be told of a refusal that has no words of its own.
    pub tell: Option<Tell>,
}

/// Whom the client shows it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Who looks at this session, by [`super::Policy::tell`]. The client waits for an answer, and may end when it has it.
    Waiting(ChannelId),
    /// The same, where it does not.
    Session(ChannelId),
    /// Whoever looks at any, by [`super::Policy::say`]. There may be none yet: OpenSSH asks for its forwards before it opens one.
    Anybody,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It went on.
    Allowed,
    /// It did not.
    Refused,
}

/// What. The texts are the peer's, escaped and bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A login shell.
    Shell,
    /// A command.
    Exec {
        /// The name that it begins with. The rest of a command is contents: passwords stand there.
        command: Shown,
    },
    /// The subsystem `sftp`.
    Sftp,
    /// Another subsystem, which no rule knows.
    Subsystem {
        /// Its name.
        name: Shown,
    },
    /// A connection from the server to somewhere.
    LocalForward {
        /// Where.
        host: Shown,
        /// Its port.
        port: u32,
    },
    /// A connection to a socket of the server.
    LocalSocket {
        /// Its path.
        path: Shown,
    },
    /// That the server listens; from the server: that somebody came.
    RemoteForward {
        /// On which of its addresses.
        address: Shown,
        /// The port; 0: any.
        port: u32,
    },
    /// That the server listens on a socket; from the server: that somebody came.
    RemoteSocket {
        /// Its path.
        path: Shown,
    },
    /// The client's agent.
    Agent,
    /// The client's display.
    X11,
    /// A terminal. It is on record only where a certificate forbids it.
    Terminal,
    /// A type of channel that no rule knows.
    Other {
        /// Its name.
        name: Shown,
    },
}

impl What {
    /// The permission that it needs; `None`: none would do.
    #[must_use]
    pub fn permission(&self) -> Option<Permission> {
        match self {
            Self::Shell => Some(Permission::Shell),
            Self::Exec { .. } => Some(Permission::Exec),
            Self::Sftp => Some(Permission::Sftp),
            Self::LocalForward { .. } | Self::LocalSocket { .. } => Some(Permission::LocalForward),
            Self::RemoteForward { .. } | Self::RemoteSocket { .. } => Some(Permission::RemoteForward),
            Self::Agent => Some(Permission::Agent),
            Self::X11 => Some(Permission::X11),
            Self::Terminal | Self::Subsystem { .. } | Self::Other { .. } => None,
        }
    }

    /// What to call it to a user: "… is not allowed here".
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self, self.permission()) {
            (_, Some(permission)) => permission.name(),
            (Self::Terminal, None) => "a terminal",
            (Self::Subsystem { .. }, None) => "this subsystem",
            (_, None) => "this type of channel",
        }
    }

    pub(super) fn exec(command: &[u8]) -> Self {
        Self::Exec { command: Shown::new(program(command)) }
    }
}

/// The name that a command begins with, up to the first byte that a shell would act on: what follows may hold a secret even without a space,
/// as in `PASSWORD=…`.
fn program(command: &[u8]) -> &[u8] {
    let command = command.trim_ascii_start();
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./+-@%:,~".contains(byte);
    let end = command.iter().position(|byte| !of_name(byte)).unwrap_or(command.len());
    command.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
