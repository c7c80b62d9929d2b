//! The server's first packet (HandshakeV10).

use super::{Fields, Malformed, put_string};
use crate::mysql::capabilities::Capabilities;

const PROTOCOL: u8 = 10;
/// Bytes of the scramble that come before the capabilities.
const FIRST_PART: usize = 8;
/// Bytes that come behind them, at least.
const SECOND_PART: usize = 13;
const RESERVED: usize = 6;

/// What a server greets with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Its version, as text. MariaDB before 11 puts `5.5.5-` in front.
    pub version: Vec<u8>,
    /// The number of the connection, for KILL.
    pub thread_id: u32,
    /// What the proof is made with, without its NUL: 20 bytes of every server that is newer than 4.0.
    pub scramble: Vec<u8>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Its collation, the low byte of its number.
    pub charset: u8,
    /// Status flags.
    pub status: u16,
    /// The plugin that the scramble is for. Empty: none is named.
    pub plugin: Vec<u8>,
}

impl Greeting {
    /// Parses one of protocol version 10, as every server since 3.21 sends it.
    ///
    /// # Errors
    /// It is none: another version, an error instead of a greeting, or a packet that is too short.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        const SHORT: &str = "a greeting that is too short";
        let mut fields = Fields(payload);
        if fields.u8(SHORT)? != PROTOCOL {
            return Err(Malformed("a greeting of another protocol version than 10"));
        }
        let version = fields.string("a greeting whose version has no end")?.to_vec();
        let thread_id = fields.u32(SHORT)?;
        let mut scramble = fields.take(FIRST_PART, SHORT)?.to_vec();
        fields.u8(SHORT)?;
        let low = fields.u16(SHORT)?;
        let charset = fields.u8(SHORT)?;
        let status = fields.u16(SHORT)?;
        let high = fields.u16(SHORT)?;
        let low = u32::from(low) | (u32::from(high) << 16);
        let length = usize::from(fields.u8(SHORT)?);
        fields.take(RESERVED, SHORT)?;
        let extended = fields.u32(SHORT)?;
        // These bytes are MariaDB's; a MySQL has nothing to say there, whatever they are.
        let is_mariadb = !Capabilities::from_halves(low, 0).has(Capabilities::LONG_PASSWORD);
        let capabilities = Capabilities::from_halves(low, if is_mariadb { extended } else { 0 });
        if capabilities.has(Capabilities::SECURE_CONNECTION) {
            let named = capabilities.has(Capabilities::PLUGIN_AUTH);
            let second = if named { length.saturating_sub(FIRST_PART).max(SECOND_PART) } else { SECOND_PART };
            // The last byte is a NUL and no part of the scramble.
            scramble.extend_from_slice(fields.take(second.saturating_sub(1), SHORT)?);
            fields.u8(SHORT)?;
        }
        let plugin = if capabilities.has(Capabilities::PLUGIN_AUTH) { fields.last_string().to_vec() } else { Vec::new() };
        Ok(Self { version, thread_id, scramble, capabilities, charset, status, plugin })
    }

    /// The payload. A scramble is written as far as its length fits into a byte, in the least room that clients expect; MariaDB's extended
    /// capabilities only without LONG_PASSWORD.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(PROTOCOL);
        put_string(&mut out, &self.version);
        out.extend_from_slice(&self.thread_id.to_le_bytes());
        let (first, second) = self.scramble.split_at(self.scramble.len().min(FIRST_PART));
        out.extend_from_slice(first);
        out.resize(out.len().saturating_add(FIRST_PART).saturating_sub(first.len()), 0);
        out.push(0);
        let [a, b, c, d] = self.capabilities.low().to_le_bytes();
        out.extend_from_slice(&[a, b, self.charset]);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&[c, d]);
        let second = second.get(..second.len().min(usize::from(u8::MAX).saturating_sub(FIRST_PART).saturating_sub(1))).unwrap_or_default();
        let room = second.len().saturating_add(1).max(SECOND_PART);
        let named = self.capabilities.has(Capabilities::PLUGIN_AUTH);
        out.push(if named { u8::try_from(room.saturating_add(FIRST_PART)).unwrap_or(u8::MAX) } else { 0 });
        out.extend_from_slice(&[0; RESERVED]);
        let is_mariadb = !self.capabilities.has(Capabilities::LONG_PASSWORD);
        out.extend_from_slice(&if is_mariadb { self.capabilities.extended() } else { 0 }.to_le_bytes());
        if self.capabilities.has(Capabilities::SECURE_CONNECTION) {
            out.extend_from_slice(second);
            out.resize(out.len().saturating_add(room).saturating_sub(second.len()), 0);
        }
        if named {
            put_string(&mut out, &self.plugin);
        }
        out
    }

    /// Whether it is a MariaDB: since 10.2 by the flag that it has not, before by its version.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        !self.capabilities.has(Capabilities::LONG_PASSWORD) || self.version.windows(7).any(|word| word == b"MariaDB")
    }
}
