//! The two lists of options in a certificate (PROTOCOL.certkeys, "Critical options" and "Extensions").

use crate::shown::Shown;
use crate::untrusted::Untrusted;
use crate::wire::Reader;

/// Options in one list.
const OPTIONS_MAX: usize = 64;

/// Names in their order, each with its data.
#[derive(Clone)]
pub(super) struct Options(Vec<(Vec<u8>, Vec<u8>)>);

/// What an extension allows. sshd denies what the certificate does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// `permit-agent-forwarding`.
    AgentForwarding,
    /// `permit-port-forwarding`.
    PortForwarding,
    /// `permit-pty`.
    Pty,
    /// `permit-user-rc`.
    UserRc,
    /// `permit-X11-forwarding`.
    X11Forwarding,
}

/// What the extensions give.
pub(super) struct Given {
    pub(super) permissions: Vec<Permission>,
    /// `no-touch-required`: the security key need not have been touched.
    pub(super) waives_touch: bool,
}

/// A critical option that we honour.
pub(super) enum Critical<'a> {
    /// `source-address`: the list of addresses from which the certificate may be used.
    SourceAddress(&'a str),
    /// `verify-required`: the security key must have verified its owner.
    VerifyRequired,
}

impl Options {
    /// Reads a list. The names ascend, so that none is there twice and no two readers can disagree on which of them counts.
    pub(super) fn parse(list: &[u8]) -> Result<Self, Untrusted> {
        let mut reader = Reader::new(list);
        let mut options: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while !reader.is_empty() {
            if options.len() >= OPTIONS_MAX {
                return Err(Untrusted::CertificateMalformed("it has too many options"));
            }
            let (name, data) = (reader.string()?, reader.string()?);
            if options.last().is_some_and(|(last, _)| last.as_slice() >= name) {
                return Err(Untrusted::CertificateMalformed("its options are not in order, or one is there twice"));
            }
            options.push((name.to_vec(), data.to_vec()));
        }
        Ok(Self(options))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them as a critical option.
    ///
    /// # Errors
    /// `Untrusted::CriticalOption` for one that we do not honour. `force-command` is one of these: the command would have to replace what the
    /// user asked for, which a relay cannot promise.
    pub(super) fn critical(&self) -> Result<Vec<Critical<'_>>, Untrusted> {
        self.0
            .iter()
            .map(|(name, data)| match name.as_slice() {
                b"source-address" => {
                    let mut reader = Reader::new(data);
                    let list = reader.text()?;
                    reader.end()?;
                    Ok(Critical::SourceAddress(list))
                }
                b"verify-required" if data.is_empty() => Ok(Critical::VerifyRequired),
                _ => Err(Untrusted::CriticalOption(Shown::new(name))),
            })
            .collect()
    }

    /// What the extensions give. Unknown ones mean nothing, as the format demands.
    ///
    /// # Errors
    /// `Untrusted::CertificateMalformed`: one that we know has data. None of them takes any, and sshd too refuses the certificate then.
    pub(super) fn given(&self) -> Result<Given, Untrusted> {
        let mut given = Given { permissions: Vec::new(), waives_touch: false };
        for (name, data) in &self.0 {
            match name.as_slice() {
                b"permit-agent-forwarding" => given.permissions.push(Permission::AgentForwarding),
                b"permit-port-forwarding" => given.permissions.push(Permission::PortForwarding),
                b"permit-pty" => given.permissions.push(Permission::Pty),
                b"permit-user-rc" => given.permissions.push(Permission::UserRc),
                b"permit-X11-forwarding" => given.permissions.push(Permission::X11Forwarding),
                b"no-touch-required" => given.waives_touch = true,
                _ => continue,
            }
            if !data.is_empty() {
                return Err(Untrusted::CertificateMalformed("an extension that takes no data has some"));
            }
        }
        Ok(given)
    }

    /// The first of the names, for an error.
    pub(super) fn first(&self) -> Shown {
        Shown::new(self.0.first().map(|(name, _)| name.as_slice()).unwrap_or_default())
    }
}
