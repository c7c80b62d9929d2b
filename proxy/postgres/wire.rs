//! The wire format of PostgreSQL's protocol 3 (manual, chapter "Frontend/Backend Protocol", sections "Message Flow" and "Message
//! Formats"), as far as a proxy needs it: pure functions over bytes, every length bounded.

use std::str;

/// The longest packet before login that a client may send, as PostgreSQL's own `MAX_STARTUP_PACKET_LENGTH`.
pub const STARTUP_MAX: usize = 10_000;
/// The longest message that a client may send during login: a password, a SASL response.
pub const LOGIN_MAX: usize = 8 * 1024;
/// The longest message that an upstream may send before it is ready.
pub const UPSTREAM_MAX: usize = 64 * 1024;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const MAJOR: u32 = 3;
/// The newest minor version of protocol 3 that we speak: 3.2 has longer cancel keys.
pub const NEWEST_MINOR: u32 = 2;

/// What a client asks in its first packet.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// TLS.
    Ssl,
    /// GSSAPI encryption.
    Gss,
    /// To stop a query of another session.
    Cancel {
        /// Its process id.
        number: u32,
        /// Its secret key.
        key: Vec<u8>,
    },
    /// A session.
    Startup(Startup),
    /// A protocol version that nobody speaks any more, or yet.
    Unsupported,
}

/// A startup message.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Startup {
    /// The minor version of protocol 3.
    pub minor: u32,
    /// `user`.
    pub user: String,
    /// `database`, if there is one.
    pub database: Option<String>,
    /// `application_name`, if there is one.
    pub application_name: Option<Vec<u8>>,
    /// `replication`, if it is not off.
    pub replication: Option<Vec<u8>>,
    /// Everything else that passes, in order.
    pub others: Vec<(Vec<u8>, Vec<u8>)>,
    /// Protocol extensions (`_pq_.…`) that were asked for; we know none.
    pub extensions: Vec<Vec<u8>>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The length that a packet's first four bytes announce, without those four.
///
/// # Errors
/// Shorter than possible or longer than `most`.
pub fn body_length(length: [u8; 4], most: usize) -> Result<usize, Malformed> {
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Malformed("length"))?;
    let body = length.checked_sub(4).ok_or(Malformed("a length below 4"))?;
    if body > most { Err(Malformed("a message longer than allowed here")) } else { Ok(body) }
}

/// Parses the body of a first packet, its length taken off.
///
/// # Errors
/// It is none.
pub fn first(body: &[u8]) -> Result<First, Malformed> {
    let (code, rest) = body.split_first_chunk::<4>().ok_or(Malformed("a first packet without a code"))?;
    match u32::from_be_bytes(*code) {
        SSL => Ok(First::Ssl),
        GSS => Ok(First::Gss),
        CANCEL => {
            let (number, key) = rest.split_first_chunk::<4>().ok_or(Malformed("a cancel request without a process id"))?;
            if key.len() < 4 || key.len() > 256 {
                return Err(Malformed("a cancel key of an impossible length"));
            }
            Ok(First::Cancel { number: u32::from_be_bytes(*number), key: key.to_vec() })
        }
        version if version >> 16 == MAJOR => startup(version & 0xffff, rest).map(First::Startup),
        _ => Ok(First::Unsupported),
    }
}

fn startup(minor: u32, mut rest: &[u8]) -> Result<Startup, Malformed> {
    let mut startup = Startup { minor, ..Startup::default() };
    loop {
        let (name, after) = string(rest).ok_or(Malformed("a startup parameter without an end"))?;
        if name.is_empty() {
            return if after.is_empty() { Ok(startup) } else { Err(Malformed("bytes behind the startup parameters")) };
        }
        let (value, after) = string(after).ok_or(Malformed("a startup parameter without a value"))?;
        rest = after;
        match name {
            b"user" => startup.user = text(value)?,
            b"database" => startup.database = Some(text(value)?),
            b"application_name" => startup.application_name = Some(value.to_vec()),
            b"replication" => startup.replication = Some(value).filter(|value| !off(value)).map(<[u8]>::to_vec),
            name if name.starts_with(b"_pq_.") => startup.extensions.push(name.to_vec()),
            name => startup.others.push((name.to_vec(), value.to_vec())),
        }
    }
}

/// What PostgreSQL's `parse_bool` takes for false.
fn off(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
    value == b"0" || begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2)
}

fn text(value: &[u8]) -> Result<String, Malformed> {
    str::from_utf8(value).map(str::to_owned).map_err(|_| Malformed("a name that is not UTF-8"))
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (string, rest) = bytes.split_at_checked(end)?;
    Some((string, rest.get(1..)?))
}

/// What an ErrorResponse or a NoticeResponse says, as far as we decide by it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fields {
    /// SQLSTATE.
    pub code: String,
    /// The primary message. For the operator only.
    pub message: String,
}

/// Parses the body of an ErrorResponse. Missing fields are empty.
#[must_use]
pub fn fields(mut body: &[u8]) -> Fields {
    let mut fields = Fields::default();
    while let Some((kind, rest)) = body.split_first() {
        let Some((value, after)) = string(rest).filter(|_| *kind != 0) else { break };
        match kind {
            b'C' => fields.code = crate::error::escaped(value),
            b'M' => fields.message = crate::error::escaped(value),
            _ => {}
        }
        body = after;
    }
    fields
}

/// What an upstream asks for, or says, before it is ready.
#[derive(Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Logged in.
    Ok,
    /// The password as it is.
    Cleartext,
    /// MD5 of password, user and this salt.
    Md5([u8; 4]),
    /// One of these mechanisms.
    Sasl(Vec<&'a str>),
    /// More of the exchange.
    SaslContinue(&'a [u8]),
    /// The end of the exchange.
    SaslFinal(&'a [u8]),
    /// Something that we do not speak: Kerberos, GSSAPI, SSPI, OAuth.
    Other(u32),
}

/// Parses the body of an Authentication message.
///
/// # Errors
/// It is none.
pub fn authentication(body: &[u8]) -> Result<Authentication<'_>, Malformed> {
    let (code, rest) = body.split_first_chunk::<4>().ok_or(Malformed("an authentication request without a code"))?;
    Ok(match u32::from_be_bytes(*code) {
        0 => Authentication::Ok,
        3 => Authentication::Cleartext,
        5 => Authentication::Md5(rest.first_chunk().copied().ok_or(Malformed("MD5 without a salt"))?),
        10 => {
            let names = rest.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Authentication::Sasl(names.take(16).filter_map(|name| str::from_utf8(name).ok()).collect())
        }
        11 => Authentication::SaslContinue(rest),
        12 => Authentication::SaslFinal(rest),
        other => Authentication::Other(other),
    })
}

/// Parses the body of a SASLInitialResponse: mechanism and first message.
///
/// # Errors
/// It is none.
pub fn sasl_initial(body: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (name, rest) = string(body).ok_or(Malformed("a SASL mechanism without an end"))?;
    let name = str::from_utf8(name).map_err(|_| Malformed("a SASL mechanism that is not UTF-8"))?;
    let (length, message) = rest.split_first_chunk::<4>().ok_or(Malformed("a SASL response without a length"))?;
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(message.len()) {
        return Err(Malformed("a SASL response of another length than it says"));
    }
    Ok((name, message))
}

/// Parses the body of a PasswordMessage.
///
/// # Errors
/// It is none.
pub fn password(body: &[u8]) -> Result<&[u8], Malformed> {
    match string(body) {
        Some((password, [])) => Ok(password),
        _ => Err(Malformed("a password without an end")),
    }
}

/// Messages to be written, one after the other.
#[derive(Default)]
pub struct Messages(zeroize::Zeroizing<Vec<u8>>);

impl Messages {
    /// One message.
    pub fn push(&mut self, tag: u8, body: &[u8]) -> &mut Self {
        self.0.push(tag);
        self.packet(body)
    }

    /// A packet without a tag, as startup packets are.
    pub fn packet(&mut self, body: &[u8]) -> &mut Self {
        let length = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(body);
        self
    }

    /// AuthenticationXxx.
    pub fn authentication(&mut self, code: u32, body: &[u8]) -> &mut Self {
        self.push(b'R', &[&code.to_be_bytes(), body].concat())
    }

    /// ParameterStatus and the like, as they came.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// BackendKeyData.
    pub fn key_data(&mut self, number: u32, key: &[u8]) -> &mut Self {
        self.push(b'K', &[&number.to_be_bytes(), key].concat())
    }

    /// NegotiateProtocolVersion: the newest minor version that we speak, and the extensions that we do not.
    pub fn negotiate(&mut self, minor: u32, extensions: &[Vec<u8>]) -> &mut Self {
        let count = u32::try_from(extensions.len()).unwrap_or(u32::MAX);
        let version = (MAJOR << 16) | minor;
        let mut body = [version.to_be_bytes(), count.to_be_bytes()].concat();
        for extension in extensions {
            body.extend_from_slice(extension);
            body.push(0);
        }
        self.push(b'v', &body)
    }

    /// ErrorResponse, in English whatever the client's language.
    pub fn error(&mut self, severity: &str, code: &str, message: &str, detail: Option<&str>) -> &mut Self {
        self.said(b'E', severity, code, message, detail)
    }

    /// NoticeResponse of the severity that clients show by default, in English as well.
    pub fn warning(&mut self, code: &str, message: &str) -> &mut Self {
        self.said(b'N', "WARNING", code, message, None)
    }

    fn said(&mut self, tag: u8, severity: &str, code: &str, message: &str, detail: Option<&str>) -> &mut Self {
        let mut body = Vec::with_capacity(256);
        let mut field = |kind: u8, value: &str| {
            body.push(kind);
            body.extend(value.bytes().filter(|byte| *byte != 0));
            body.push(0);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', code);
        field(b'M', message);
        if let Some(detail) = detail {
            field(b'D', detail);
        }
        body.push(0);
        self.push(tag, &body)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A startup packet for an upstream: always protocol 3.0, which every server speaks.
#[must_use]
pub fn upstream_startup(user: &str, database: &str, parameters: &[(&[u8], &[u8])]) -> Messages {
    let mut body = (MAJOR << 16).to_be_bytes().to_vec();
    let mut parameter = |name: &[u8], value: &[u8]| {
        for part in [name, value] {
            body.extend(part.iter().filter(|byte| **byte != 0));
            body.push(0);
        }
    };
    parameter(b"user", user.as_bytes());
    parameter(b"database", database.as_bytes());
    for (name, value) in parameters {
        parameter(name, value);
    }
    body.push(0);
    let mut packet = Messages::default();
    packet.packet(&body);
    packet
}

/// A CancelRequest.
#[must_use]
pub fn cancel_request(number: u32, key: &[u8]) -> Messages {
    let mut packet = Messages::default();
    packet.packet(&[&CANCEL.to_be_bytes(), &number.to_be_bytes(), key].concat());
    packet
}

/// An SSLRequest.
#[must_use]
pub fn ssl_request() -> Messages {
    let mut packet = Messages::default();
    packet.packet(&SSL.to_be_bytes());
    packet
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
