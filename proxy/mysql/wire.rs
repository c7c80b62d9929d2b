//! The packets of a login and the few others that we read or write (MySQL's source documentation, "Connection Phase Packets" and
//! "Generic Response Packets"; MariaDB's knowledge base, "Connection"): pure functions over payloads, a packet's header taken off. Every
//! parse is total and every length bounded by the payload.

mod answer;
mod bare_ok;
mod change_user;
mod greeting;
mod reply;
mod row;

use aws_lc_rs::rand;

pub use answer::{Answer, ClientFirst, client_first, ssl_request};
pub use bare_ok::bare_ok;
pub use change_user::ChangeUser;
pub use greeting::Greeting;
pub use reply::{ERROR_TEXT, Reply, ServerError, auth_more, auth_switch, error, error_before_greeting, ok, reply};
pub use row::columns;

/// Why bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Connection attributes that we read of one client; the servers keep 512 bytes of them unless told otherwise.
const ATTRIBUTES: usize = 1024;

/// Names and values of connection attributes.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Bytes of a scramble.
pub const SCRAMBLE: usize = 20;

/// A new scramble: printable and without `$`, since some clients take it for text and servers keep it beside hashes that use `$`. `None`:
/// the system has no random numbers.
#[must_use]
pub fn scramble() -> Option<[u8; SCRAMBLE]> {
    const FIRST: u8 = 0x21;
    const LETTERS: u8 = 0x7e - FIRST;
    let mut scramble = [0; SCRAMBLE];
    let mut empty = scramble.iter_mut();
    // Three of four bytes can be used, so that one draw is enough but for one time in many millions.
    for _ in 0..16 {
        let mut random = [0; 4 * SCRAMBLE];
        rand::fill(&mut random).ok()?;
        // Equally likely each: what would make the first letters likelier is thrown away.
        for byte in random.into_iter().filter(|byte| *byte < 2 * LETTERS) {
            let Some(slot) = empty.next() else { return Some(scramble) };
            let letter = (byte % LETTERS).saturating_add(FIRST);
            *slot = if letter >= b'$' { letter.saturating_add(1) } else { letter };
        }
    }
    None
}

/// What is left to read of a payload.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array(what).map(u8::from_le_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A string up to its NUL.
    fn string(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed(what))?;
        let string = self.take(end, what)?;
        self.take(1, what)?;
        Ok(string)
    }

    /// A string up to its NUL or the end: some peers leave out the last NUL of a packet.
    fn last_string(&mut self) -> &'a [u8] {
        let mut fields = *self;
        match fields.string("") {
            Ok(string) => {
                *self = fields;
                string
            }
            Err(_) => self.rest(),
        }
    }

    /// A length of one, three, four or nine bytes.
    fn length(&mut self, what: &'static str) -> Result<usize, Malformed> {
        let length = match self.u8(what)? {
            0xfc => u64::from(self.u16(what)?),
            0xfd => {
                let [a, b, c] = self.array(what)?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xfe => u64::from_le_bytes(self.array(what)?),
            0xfb | 0xff => return Err(Malformed(what)),
            short => u64::from(short),
        };
        usize::try_from(length).map_err(|_| Malformed(what))
    }

    /// A string behind its length.
    fn counted(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.length(what)?;
        self.take(length, what)
    }

    /// The connection attributes, if anything is left.
    fn attributes(&mut self) -> Result<Attributes, Malformed> {
        const BROKEN: &str = "connection attributes of another length than they say";
        if self.is_empty() {
            return Ok(Attributes::new());
        }
        let mut block = Fields(self.counted(BROKEN)?);
        let mut attributes = Attributes::new();
        while !block.is_empty() {
            if attributes.len() == ATTRIBUTES {
                return Err(Malformed("more connection attributes than allowed"));
            }
            attributes.push((block.counted(BROKEN)?.to_vec(), block.counted(BROKEN)?.to_vec()));
        }
        Ok(attributes)
    }
}

/// Writes a string and its NUL.
fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend(string.iter().filter(|byte| **byte != 0));
    out.push(0);
}

/// Writes a string behind its length.
fn put_counted(out: &mut Vec<u8>, string: &[u8]) {
    put_length(out, string.len());
    out.extend_from_slice(string);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=250), _) => out.push(short),
        (_, Ok(length)) => {
            out.push(0xfc);
            out.extend_from_slice(&length.to_le_bytes());
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
        }
    }
}

fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    let mut block = Vec::new();
    for (name, value) in attributes {
        put_counted(&mut block, name);
        put_counted(&mut block, value);
    }
    put_counted(out, &block);
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "wire/tests.rs"]
mod tests;
