//! The client's first packet: SSLRequest, or its answer to the greeting (HandshakeResponse41).

use zeroize::Zeroizing;

use super::{Attributes, Fields, Malformed, put_attributes, put_counted, put_string};
use crate::mysql::capabilities::Capabilities;

/// Bytes of an SSLRequest, and of an answer before its user name.
const FIXED: usize = 32;
const FILLER: usize = 19;

/// What a client sends first.
pub enum ClientFirst {
    /// It asks for TLS, and will answer inside.
    Tls {
        /// Its capabilities.
        capabilities: Capabilities,
        /// The longest packet that it takes.
        max_packet: u32,
        /// Its collation.
        charset: u8,
    },
    /// Its answer.
    Answer(Box<Answer>),
    /// The protocol before 4.1.
    Unsupported,
}

/// A client's answer to the greeting.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it can do. They decide which of the fields below are written.
    pub capabilities: Capabilities,
    /// The longest packet that it takes, in bytes.
    pub max_packet: u32,
    /// Its collation, the low byte of its number.
    pub charset: u8,
    /// Who it says it is.
    pub user: Vec<u8>,
    /// Its proof, for `plugin`. At most 255 bytes can be written without PLUGIN_AUTH_LENENC.
    pub auth: Zeroizing<Vec<u8>>,
    /// The database, if it names one; it may be empty.
    pub database: Option<Vec<u8>>,
    /// The plugin of its proof. Empty: none is named.
    pub plugin: Vec<u8>,
    /// Its connection attributes.
    pub attributes: Attributes,
}

/// Parses the first packet of a client: 32 bytes with the SSL flag are an SSLRequest.
///
/// # Errors
/// It is none.
pub fn client_first(payload: &[u8]) -> Result<ClientFirst, Malformed> {
    let low = Fields(payload).u16("a first packet without capabilities")?;
    if !Capabilities(low.into()).has(Capabilities::PROTOCOL_41) {
        return Ok(ClientFirst::Unsupported);
    }
    let (capabilities, max_packet, charset) = fixed(&mut Fields(payload))?;
    if payload.len() == FIXED && capabilities.has(Capabilities::SSL) {
        return Ok(ClientFirst::Tls { capabilities, max_packet, charset });
    }
    Answer::parse(payload).map(|answer| ClientFirst::Answer(Box::new(answer)))
}

/// An SSLRequest.
#[must_use]
pub fn ssl_request(capabilities: Capabilities, max_packet: u32, charset: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED);
    put_fixed(&mut out, capabilities, max_packet, charset);
    out
}

fn fixed(fields: &mut Fields<'_>) -> Result<(Capabilities, u32, u8), Malformed> {
    const SHORT: &str = "a client's answer that is too short";
    let low = fields.u32(SHORT)?;
    let max_packet = fields.u32(SHORT)?;
    let charset = fields.u8(SHORT)?;
    fields.take(FILLER, SHORT)?;
    let extended = fields.u32(SHORT)?;
    let extends = !Capabilities::from_halves(low, 0).has(Capabilities::LONG_PASSWORD);
    Ok((Capabilities::from_halves(low, if extends { extended } else { 0 }), max_packet, charset))
}

fn put_fixed(out: &mut Vec<u8>, capabilities: Capabilities, max_packet: u32, charset: u8) {
    out.extend_from_slice(&capabilities.low().to_le_bytes());
    out.extend_from_slice(&max_packet.to_le_bytes());
    out.push(charset);
    out.extend_from_slice(&[0; FILLER]);
    let extends = !capabilities.has(Capabilities::LONG_PASSWORD);
    out.extend_from_slice(&if extends { capabilities.extended() } else { 0 }.to_le_bytes());
}

impl Answer {
    /// Parses an answer of protocol 4.1. Bytes behind its last field are left alone.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(payload);
        let (capabilities, max_packet, charset) = fixed(&mut fields)?;
        if !capabilities.has(Capabilities::PROTOCOL_41) {
            return Err(Malformed("a client's answer of the protocol before 4.1"));
        }
        let user = fields.string("a user name without an end")?.to_vec();
        let auth = Zeroizing::new(proof(&mut fields, capabilities)?.to_vec());
        let database = if capabilities.has(Capabilities::CONNECT_WITH_DB) {
            Some(fields.string("a database name without an end")?.to_vec())
        } else {
            None
        };
        let plugin = if capabilities.has(Capabilities::PLUGIN_AUTH) { fields.last_string().to_vec() } else { Vec::new() };
        let attributes = if capabilities.has(Capabilities::CONNECT_ATTRS) { fields.attributes()? } else { Attributes::new() };
        Ok(Self { capabilities, max_packet, charset, user, auth, database, plugin, attributes })
    }

    /// The payload. Which fields are in it is for `capabilities` to say.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let has = |flag| self.capabilities.has(flag);
        // Room for everything, so that no copy of the proof is left behind by a vector that grows.
        let strings = [self.user.len(), self.auth.len(), self.database.as_ref().map_or(0, Vec::len), self.plugin.len(), FIXED, 64];
        let mut out = Zeroizing::new(Vec::with_capacity(strings.into_iter().fold(0, usize::saturating_add)));
        put_fixed(&mut out, self.capabilities, self.max_packet, self.charset);
        put_string(&mut out, &self.user);
        if has(Capabilities::PLUGIN_AUTH_LENENC) {
            put_counted(&mut out, &self.auth);
        } else if has(Capabilities::SECURE_CONNECTION) {
            let length = u8::try_from(self.auth.len()).unwrap_or(u8::MAX);
            out.push(length);
            out.extend(self.auth.iter().take(length.into()));
        } else {
            put_string(&mut out, &self.auth);
        }
        if has(Capabilities::CONNECT_WITH_DB) {
            put_string(&mut out, self.database.as_deref().unwrap_or_default());
        }
        if has(Capabilities::PLUGIN_AUTH) {
            put_string(&mut out, &self.plugin);
        }
        if has(Capabilities::CONNECT_ATTRS) {
            let mut rest = Vec::new();
            put_attributes(&mut rest, &self.attributes);
            let mut whole = Zeroizing::new(Vec::with_capacity(out.len().saturating_add(rest.len())));
            whole.extend_from_slice(&out);
            whole.extend_from_slice(&rest);
            return whole;
        }
        out
    }
}

fn proof<'a>(fields: &mut Fields<'a>, capabilities: Capabilities) -> Result<&'a [u8], Malformed> {
    const BROKEN: &str = "a proof of another length than it says";
    if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
        fields.counted(BROKEN)
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let length = fields.u8(BROKEN)?;
        fields.take(length.into(), BROKEN)
    } else {
        fields.string(BROKEN)
    }
}
