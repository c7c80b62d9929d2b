//! What MySQL's clients and servers say to each other, put together and taken apart.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use super::canary::must_be_absent;
use super::raw::masked;

/// The capability flags that the tests name ("Capabilities Flags" of MySQL's source documentation).
pub mod flag {
    pub const LONG_PASSWORD: u32 = 1;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const COMPRESS: u32 = 1 << 5;
    pub const LOCAL_FILES: u32 = 1 << 7;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    pub const CAN_HANDLE_EXPIRED_PASSWORDS: u32 = 1 << 22;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    pub const ZSTD: u32 = 1 << 26;
    pub const MULTI_FACTOR: u32 = 1 << 28;
}

/// What the client says of itself unless a test says otherwise.
pub const FLAGS: u32 = flag::LONG_PASSWORD
    | flag::PROTOCOL_41
    | flag::TRANSACTIONS
    | flag::SECURE_CONNECTION
    | flag::MULTI_STATEMENTS
    | flag::MULTI_RESULTS
    | flag::PLUGIN_AUTH
    | flag::PLUGIN_AUTH_LENENC;

/// The name of the plugin that it proves itself by.
pub const CACHING_SHA2: &str = "caching_sha2_password";

/// What a server greets with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub id: u32,
    pub scramble: Vec<u8>,
    pub flags: u32,
    /// MariaDB's further flags.
    pub extended: u32,
    pub charset: u8,
    pub status: u16,
    pub plugin: String,
}

/// An answer to the greeting, to be changed by a test.
#[derive(Clone)]
pub struct Hello {
    pub flags: u32,
    pub user: Vec<u8>,
    pub auth: Vec<u8>,
    pub database: Option<Vec<u8>>,
    pub plugin: Vec<u8>,
    /// What stands behind all that.
    pub rest: Vec<u8>,
}

/// What an error packet says, and its number; the session's id masked as `ID`. Before the greeting it has no state.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct MysqlTold {
    pub sequence: u8,
    pub code: u16,
    pub state: Option<String>,
    pub message: String,
}

impl Greeting {
    /// Takes one of protocol version 10 apart.
    #[track_caller]
    pub fn of(payload: &[u8]) -> Self {
        assert_eq!(payload[0], 10, "the protocol's version");
        let (version, rest) = terminated(&payload[1..]);
        let two = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
        let (low, high, length) = (two(13), two(18), usize::from(rest[20]));
        let extended = u32::from_le_bytes(rest[27..31].try_into().unwrap());
        let second = 31 + 13.max(length - 8);
        let (plugin, end) = terminated(&rest[second..]);
        assert!(end.is_empty() && rest[12] == 0 && rest[21..27] == [0; 6]);
        Self {
            version,
            id: u32::from_le_bytes(rest[..4].try_into().unwrap()),
            scramble: [&rest[4..12], &rest[31..second - 1]].concat(),
            flags: u32::from(low) | u32::from(high) << 16,
            extended,
            charset: rest[15],
            status: two(16),
            plugin,
        }
    }

    /// Of a server that has these flags.
    pub fn pretended(version: &str, flags: u32) -> Self {
        let (version, plugin) = (version.to_owned(), CACHING_SHA2.to_owned());
        Self { version, id: 7, scramble: vec![b'x'; 20], flags, extended: 0, charset: 255, status: 2, plugin }
    }

    /// Its packet's payload.
    pub fn encode(&self) -> Vec<u8> {
        let flags = self.flags.to_le_bytes();
        let (first, second) = self.scramble.split_at(8);
        let head = [&[10], self.version.as_bytes(), &[0], &self.id.to_le_bytes(), first, &[0], &flags[..2], &[self.charset]].concat();
        let rest = [&self.status.to_le_bytes(), &flags[2..], &[21], &[0; 6], &self.extended.to_le_bytes(), second, &[0]].concat();
        [head, rest, self.plugin.clone().into_bytes(), vec![0]].concat()
    }

    /// Whether it has all of these.
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}

impl Hello {
    /// As an honest client says it.
    pub fn new(user: &str, database: Option<&str>) -> Self {
        let flags = FLAGS | database.map_or(0, |_| flag::CONNECT_WITH_DB);
        let database = database.map(|name| name.as_bytes().to_vec());
        Self { flags, user: user.into(), auth: vec![7; 32], database, plugin: CACHING_SHA2.into(), rest: Vec::new() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(self.flags);
        payload.extend([self.user.as_slice(), &[0, u8::try_from(self.auth.len()).unwrap()], &self.auth].concat());
        payload.extend(self.database.iter().flat_map(|name| [name.as_slice(), &[0]].concat()));
        if self.flags & flag::PLUGIN_AUTH != 0 {
            payload.extend([self.plugin.as_slice(), &[0]].concat());
        }
        payload.extend(&self.rest);
        payload
    }
}

impl MysqlTold {
    /// Takes an error packet apart.
    #[track_caller]
    pub fn of(sequence: u8, payload: &[u8]) -> Self {
        assert_eq!(payload[0], 0xff);
        let code = u16::from_le_bytes([payload[1], payload[2]]);
        let text = std::str::from_utf8(&payload[3..]).expect("a refusal is UTF-8");
        must_be_absent("a refusal", text);
        let (state, message) = match text.strip_prefix('#') {
            Some(text) => (Some(text[..5].to_owned()), masked(&text[5..])),
            None => (None, masked(text)),
        };
        Self { sequence, code, state, message }
    }
}

/// The start of an SSLRequest and of an answer: flags, 16 MiB, utf8mb4.
fn head(flags: u32) -> Vec<u8> {
    [flags.to_le_bytes().as_slice(), &(1_u32 << 24).to_le_bytes(), &[45], &[0; 23]].concat()
}

/// The payload of an SSLRequest.
pub fn ssl_request(flags: u32) -> Vec<u8> {
    head(flags | flag::SSL)
}

/// A packet with this number.
pub fn mysql_packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

/// The password as caching_sha2_password hides it from whoever listens: mixed with the scramble, and sealed by the key in this PEM.
pub fn seal(pem: &[u8], scramble: &[u8], password: &str) -> Vec<u8> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).expect("a public key in PEM");
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key).unwrap()).unwrap();
    let mixed: Vec<u8> = password.bytes().chain([0]).zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut sealed = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA1_MGF1SHA1, &mixed, &mut sealed, None).unwrap().to_vec()
}

fn terminated(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).expect("a string has an end");
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), &bytes[end + 1..])
}

/// The columns of a row of text, joined by tabs.
pub fn columns_of(row: &[u8]) -> String {
    let (mut rest, mut columns) = (row, Vec::new());
    while let Some((first, after)) = rest.split_first() {
        let (length, after) = match first {
            0xfb => {
                columns.push("NULL".to_owned());
                rest = after;
                continue;
            }
            0xfc => (usize::from(u16::from_le_bytes([after[0], after[1]])), &after[2..]),
            0xfd => (usize::try_from(u32::from_le_bytes([after[0], after[1], after[2], 0])).unwrap(), &after[3..]),
            0xfe => (usize::try_from(u64::from_le_bytes(after[..8].try_into().unwrap())).unwrap(), &after[8..]),
            short => (usize::from(*short), after),
        };
        columns.push(String::from_utf8_lossy(&after[..length]).into_owned());
        rest = &after[length..];
    }
    columns.join("\t")
}
