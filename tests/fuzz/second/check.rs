//! What a certificate that its authority has signed is good for, decided a second time (PROTOCOL.certkeys, sshd(8); rule 22).

use std::net::IpAddr;

use keyward_ssh_transport::certificate::Permission;
use keyward_ssh_transport::key::{Demand, SkPolicy, Untrusted};
use keyward_ssh_transport::shown::Shown;

use crate::certificate::{Fields, single};

const EXTENSIONS: [(&str, Permission); 5] = [
    ("permit-X11-forwarding", Permission::X11Forwarding),
    ("permit-agent-forwarding", Permission::AgentForwarding),
    ("permit-port-forwarding", Permission::PortForwarding),
    ("permit-pty", Permission::Pty),
    ("permit-user-rc", Permission::UserRc),
];

/// For whom and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub principal: &'a str,
    pub source: Option<IpAddr>,
    pub now: u64,
    pub policy: SkPolicy,
}

/// What it gives a user.
pub fn user(fields: &Fields<'_>, asked: Asked<'_>) -> Result<(SkPolicy, Vec<Permission>), Untrusted> {
    both(fields, 1, asked.now, asked.principal)?;
    let mut policy = asked.policy;
    for (name, data) in &fields.critical {
        match (*name, single(data).map(str::from_utf8)) {
            (b"source-address", Some(Ok(_))) => {}
            (b"source-address", _) => return Err(Untrusted::CertificateMalformed("its addresses are no text")),
            (b"verify-required", _) if data.is_empty() => policy.verification = Demand::Required,
            _ => return Err(Untrusted::CriticalOption(Shown::new(name))),
        }
    }
    if let Some((_, data)) = fields.critical.iter().find(|(name, _)| *name == b"source-address") {
        let networks = single(data).and_then(|list| str::from_utf8(list).ok()).and_then(networks);
        let inside = |address: IpAddr| networks.is_some_and(|networks| networks.iter().any(|network| bits(address).starts_with(network)));
        if !asked.source.is_some_and(inside) {
            return Err(Untrusted::SourceAddress);
        }
    }
    let extension = |name: &str| fields.extensions.iter().any(|(known, _)| *known == name.as_bytes());
    if !extension("no-touch-required") {
        policy.touch = Demand::Required;
    }
    Ok((policy, EXTENSIONS.into_iter().filter(|(name, _)| extension(name)).map(|(_, permission)| permission).collect()))
}

/// Whether an extension that is known has data, which those that are known have not. sshd refuses such a certificate, and so may Keyward.
pub fn has_needless_data(fields: &Fields<'_>) -> bool {
    let known = |name: &[u8]| name == b"no-touch-required" || EXTENSIONS.iter().any(|(known, _)| known.as_bytes() == name);
    fields.extensions.iter().any(|(name, data)| known(name) && !data.is_empty())
}

/// Whether it is this host's.
pub fn host(fields: &Fields<'_>, asked: Asked<'_>) -> Result<(), Untrusted> {
    both(fields, 2, asked.now, &asked.principal.to_ascii_lowercase())?;
    fields.critical.first().map_or(Ok(()), |(name, _)| Err(Untrusted::CriticalOption(Shown::new(name))))
}

fn both(fields: &Fields<'_>, role: u64, now: u64, principal: &str) -> Result<(), Untrusted> {
    let named = !principal.is_empty() && fields.principals.contains(&principal.as_bytes());
    match () {
        () if fields.role != role => Err(Untrusted::CertificateForAnotherRole),
        () if fields.valid_after > now => Err(Untrusted::NotYetValid),
        () if fields.valid_before <= now => Err(Untrusted::Expired),
        () if fields.principals.is_empty() => Err(Untrusted::NoPrincipals),
        () if !named => Err(Untrusted::AnotherPrincipal),
        () => Ok(()),
    }
}

/// The first bits of each network of a list. `None`: one of them is none, or there are too many; nobody is in such a list.
fn networks(list: &str) -> Option<Vec<String>> {
    let entries: Vec<&str> = list.split(',').collect();
    entries.iter().map(|entry| network(entry)).collect::<Option<Vec<_>>>().filter(|_| entries.len() <= 256)
}

fn network(entry: &str) -> Option<String> {
    let (address, length) = entry.split_once('/').map_or((entry, None), |(address, length)| (address, Some(length)));
    let all = bits(address.parse().ok()?);
    let length = match length {
        None => all.len() - 1,
        Some(length) if length.starts_with('+') => return None,
        Some(length) => length.parse().ok()?,
    };
    let (network, host) = all.split_at_checked(length.checked_add(1)?)?;
    (!host.contains('1')).then(|| network.to_owned())
}

/// The family, and a digit for each bit.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("4{:032b}", u32::from(address)),
        IpAddr::V6(address) => format!("6{:0128b}", u128::from(address)),
    }
}
