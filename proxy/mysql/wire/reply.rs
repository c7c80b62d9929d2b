//! What a server says during a login, and the packets by which we say the same.

use super::{Fields, Malformed, put_string};

const OK: u8 = 0x00;
const MORE: u8 = 0x01;
const NEXT_FACTOR: u8 = 0x02;
const SWITCH: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// The longest text of an error in bytes, as MySQL's own `MYSQL_ERRMSG_SIZE`.
pub const ERROR_TEXT: usize = 512;
/// SQLSTATE of an error that has none.
const GENERAL: [u8; 5] = *b"HY000";

/// A packet of a server that answers a login.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Logged in. The whole payload.
    Ok(&'a [u8]),
    /// Refused.
    Error(ServerError),
    /// The proof is wanted by another plugin.
    Switch {
        /// Its name.
        plugin: &'a [u8],
        /// What it begins with, as it came: mostly a scramble and a NUL.
        data: &'a [u8],
    },
    /// More of the plugin's exchange, without the byte that says so.
    More(&'a [u8]),
}

/// Parses a reply.
///
/// # Errors
/// It is none, or one that we do not speak: the password hash before 4.1, a second factor.
pub fn reply(payload: &[u8]) -> Result<Reply<'_>, Malformed> {
    match payload {
        [OK, ..] => Ok(Reply::Ok(payload)),
        [ERROR, ..] => ServerError::parse(payload).map(Reply::Error),
        [SWITCH] => Err(Malformed("the server wants the password hash before 4.1")),
        [SWITCH, rest @ ..] => {
            let mut fields = Fields(rest);
            let plugin = fields.last_string();
            Ok(Reply::Switch { plugin, data: fields.rest() })
        }
        [MORE, rest @ ..] => Ok(Reply::More(rest)),
        [NEXT_FACTOR, ..] => Err(Malformed("the server wants a second factor")),
        _ => Err(Malformed("a reply of an unknown kind")),
    }
}

/// A server's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// Its number.
    pub code: u16,
    /// SQLSTATE; `HY000` where the server says none, as it does instead of a greeting.
    pub state: [u8; 5],
    /// Its text. For the operator only.
    pub message: Vec<u8>,
}

impl ServerError {
    /// Parses an error packet, with its first byte.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(payload);
        if fields.u8("an empty packet")? != ERROR {
            return Err(Malformed("another packet than an error"));
        }
        let code = fields.u16("an error without a number")?;
        let (state, message) = match fields.0 {
            [b'#', a, b, c, d, e, message @ ..] => ([*a, *b, *c, *d, *e], message),
            message => (GENERAL, message),
        };
        Ok(Self { code, state, message: message.to_vec() })
    }
}

/// Asks for the proof by another plugin.
#[must_use]
pub fn auth_switch(plugin: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = vec![SWITCH];
    put_string(&mut out, plugin);
    out.extend_from_slice(data);
    out.push(0);
    out
}

/// More of a plugin's exchange.
#[must_use]
pub fn auth_more(data: &[u8]) -> Vec<u8> {
    [&[MORE], data].concat()
}

/// An error. A state that is not of five bytes is the general one; the text is cut at 512 bytes.
#[must_use]
pub fn error(code: u16, state: &str, message: &str) -> Vec<u8> {
    let state = <[u8; 5]>::try_from(state.as_bytes()).unwrap_or(GENERAL);
    [&[ERROR], code.to_le_bytes().as_slice(), b"#", &state, cut(message)].concat()
}

/// An error instead of a greeting: the client has not said yet that it knows of SQLSTATE, and would show it as text.
#[must_use]
pub fn error_before_greeting(code: u16, message: &str) -> Vec<u8> {
    [&[ERROR], code.to_le_bytes().as_slice(), cut(message)].concat()
}

fn cut(message: &str) -> &[u8] {
    message.get(..message.floor_char_boundary(ERROR_TEXT)).unwrap_or_default().as_bytes()
}

/// A plain OK: nothing changed, autocommit.
#[must_use]
pub fn ok() -> Vec<u8> {
    const AUTOCOMMIT: u8 = 2;
    vec![OK, 0, 0, AUTOCOMMIT, 0, 0, 0]
}
