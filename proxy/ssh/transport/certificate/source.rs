//! The addresses of a `source-address` option: `10.0.0.0/8,2001:db8::1`, without exceptions and without names (PROTOCOL.certkeys).

use std::net::IpAddr;

/// Addresses in one list.
const ADDRESSES_MAX: usize = 256;

/// Is the address in the list? One entry that cannot be read, and nobody is: sshd does the same.
pub(super) fn contains(list: &str, address: IpAddr) -> bool {
    let mut found = Found::No;
    for (number, entry) in list.split(',').enumerate() {
        match (number < ADDRESSES_MAX, in_network(entry, address.to_canonical())) {
            (true, Some(Found::Yes)) => found = Found::Yes,
            (true, Some(Found::No)) => {}
            _ => return false,
        }
    }
    found == Found::Yes
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Yes,
    No,
}

/// `None`: it is no network. One with bits behind its prefix is none either: nobody knows what was meant.
fn in_network(entry: &str, address: IpAddr) -> Option<Found> {
    let (network, prefix) = match entry.split_once('/') {
        Some((network, prefix)) => (network, Some(prefix)),
        None => (entry, None),
    };
    let network: IpAddr = network.parse().ok()?;
    let (bits, width) = match network {
        IpAddr::V4(network) => (u128::from(u32::from(network)), u32::BITS),
        IpAddr::V6(network) => (u128::from(network), u128::BITS),
    };
    let prefix = match prefix {
        None => width,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    let behind = width.checked_sub(prefix)?;
    if bits.checked_shr(behind).unwrap_or(0).checked_shl(behind).unwrap_or(0) != bits {
        return None;
    }
    let asked = match (network, address) {
        (IpAddr::V4(_), IpAddr::V4(address)) => u128::from(u32::from(address)),
        (IpAddr::V6(_), IpAddr::V6(address)) => u128::from(address),
        _ => return Some(Found::No),
    };
    let same = (bits ^ asked).checked_shr(behind).unwrap_or(0) == 0;
    Some(if same { Found::Yes } else { Found::No })
}

#[cfg(test)]
mod tests;
