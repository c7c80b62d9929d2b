//! KEXINIT read a second time, and what follows from two of them (RFC 4253 section 7.1).

use crate::wire::{Value, whole};

/// Bytes of the longest one that Keyward looks at.
const LONGEST: usize = 35_000;

/// Names among the methods that are none.
pub const SAYINGS: [&str; 4] = ["ext-info-c", "ext-info-s", "kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com"];

/// What one side can do, best first. The order is that of the message: key exchange, host key, ciphers, MACs, compression; those of the last
/// three both ways, from the client to the server first.
#[derive(Debug, PartialEq, Eq)]
pub struct Kexinit<'a> {
    pub lists: Vec<Vec<&'a [u8]>>,
    pub guesses: bool,
}

impl<'a> Kexinit<'a> {
    /// `None`: it is none. Two things are forgiven: a name of more than 64 characters (RFC 4251 section 6), and languages that are no names,
    /// which nobody ever reads.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let values = whole("ssssssssssbu", payload.get(17..).filter(|_| payload.len() <= LONGEST)?)?;
        let lists = values[..8].iter().map(|value| if let Value::Bytes(list) = value { names(list) } else { panic!() });
        Some(Self { lists: lists.collect::<Option<_>>()?, guesses: values[10] == Value::Number(1) })
    }

    pub fn has_method(&self, name: &str) -> bool {
        self.lists[0].contains(&name.as_bytes())
    }
}

/// RFC 4251 section 5: names with a comma between them, none of them empty; printable US-ASCII without spaces.
fn names(list: &[u8]) -> Option<Vec<&[u8]>> {
    let names: Vec<&[u8]> = if list.is_empty() { vec![] } else { list.split(|byte| *byte == b',').collect() };
    names.iter().all(|name| !name.is_empty() && name.iter().all(|byte| (0x21..0x7f).contains(byte))).then_some(names)
}

/// The first of the client's names that the server has, in the list of this number. What says something else is never chosen, not even if
/// somebody says the other side's (RFC 8308 section 2.2, OpenSSH PROTOCOL section 1.10).
pub fn chosen<'a>(client: &Kexinit<'a>, server: &Kexinit<'a>, list: usize) -> Option<&'a [u8]> {
    let says = |name: &[u8]| list == 0 && SAYINGS.iter().any(|saying| saying.as_bytes() == name);
    client.lists[list].iter().copied().find(|name| server.lists[list].contains(name) && !says(name))
}

/// Whether the next packet of `theirs` has to be thrown away (section 7): it guessed, and the first names are not the same.
pub fn is_wrong(ours: &Kexinit<'_>, theirs: &Kexinit<'_>) -> bool {
    theirs.guesses && (0..2).any(|list| ours.lists[list].first() != theirs.lists[list].first())
}
