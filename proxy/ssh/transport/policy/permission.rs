//! What a session may use its connection for: what the rules allow, and what a user's certificate leaves of it.

use crate::certificate;

/// Something that SSH carries and that a rule can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// A login shell.
    Shell,
    /// A command; `scp -O`, `rsync` and `git` are commands.
    Exec,
    /// The subsystem `sftp`, which `scp` uses too.
    Sftp,
    /// Connections from the server's network, to hosts and to sockets of the server (`-L`, `-D`, `-W`).
    LocalForward,
    /// Connections to the server that come out at the client (`-R`).
    RemoteForward,
    /// The client's agent, for use on the server (`-A`).
    Agent,
    /// The client's display, for use on the server (`-X`).
    X11,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Shell, Self::Exec, Self::Sftp, Self::LocalForward, Self::RemoteForward, Self::Agent, Self::X11];

    /// Its name in the configuration, in records and to users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec => "exec",
            Self::Sftp => "sftp",
            Self::LocalForward => "local-forward",
            Self::RemoteForward => "remote-forward",
            Self::Agent => "agent",
            Self::X11 => "x11",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Whether a terminal may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pty {
    Allowed,
    Refused,
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    bits: u8,
    pty: Pty,
}

impl Channels {
    /// Nothing at all.
    pub const NONE: Self = Self { bits: 0, pty: Pty::Refused };

    /// These; and a terminal, which no rule denies.
    #[must_use]
    pub fn of(permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self { bits: permissions.into_iter().fold(0, |bits, permission| bits | permission.bit()), pty: Pty::Allowed }
    }

    /// What either of the two allows: several rules for the same add up.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let pty = if self.pty == Pty::Allowed { self.pty } else { other.pty };
        Self { bits: self.bits | other.bits, pty }
    }

    /// What a user's certificate leaves of it: sshd denies what a certificate does not name (PROTOCOL.certkeys, "Extensions"). That the
    /// server runs no `~/.ssh/rc` (`permit-user-rc`) cannot be had from here.
    #[must_use]
    pub fn within(self, certificate: &[certificate::Permission]) -> Self {
        let names = |wanted| certificate.contains(&wanted);
        let kept = |permission: &Permission| match permission {
            Permission::Shell | Permission::Exec | Permission::Sftp => true,
            Permission::LocalForward | Permission::RemoteForward => names(certificate::Permission::PortForwarding),
            Permission::Agent => names(certificate::Permission::AgentForwarding),
            Permission::X11 => names(certificate::Permission::X11Forwarding),
        };
        let kept = Self::of(Permission::ALL.into_iter().filter(kept));
        let pty = if names(certificate::Permission::Pty) { self.pty } else { Pty::Refused };
        Self { bits: self.bits & kept.bits, pty }
    }

    /// Is this one of them?
    #[must_use]
    pub fn allow(self, permission: Permission) -> bool {
        self.bits & permission.bit() != 0
    }

    /// May there be a terminal?
    #[must_use]
    pub fn allow_pty(self) -> bool {
        self.pty == Pty::Allowed
    }
}

#[cfg(test)]
mod tests;
