//! The numbers of messages that the transport knows (RFC 4250 section 4.1.2), and whose each is.

use std::ops::RangeInclusive;

/// The peer ends the connection.
pub const DISCONNECT: u8 = 1;
/// Nothing; to be thrown away.
pub const IGNORE: u8 = 2;
/// The peer does not know what we sent.
pub const UNIMPLEMENTED: u8 = 3;
/// Text for a developer; thrown away.
pub const DEBUG: u8 = 4;
/// Which layer comes next.
pub const SERVICE_REQUEST: u8 = 5;
/// It does.
pub const SERVICE_ACCEPT: u8 = 6;
/// What the peer can do besides (RFC 8308).
pub const EXT_INFO: u8 = 7;
/// What the peer can do to exchange keys.
pub const KEXINIT: u8 = 20;
/// From the next packet on, the new keys.
pub const NEWKEYS: u8 = 21;
/// The client's half of an exchange: the same number for all methods that we know (RFC 5656 section 7.1).
pub const KEX_INIT: u8 = 30;
/// The server's half.
pub const KEX_REPLY: u8 = 31;
/// "Are you there" (OpenSSH PROTOCOL section 1.9).
pub const PING: u8 = 192;
/// "I am".
pub const PONG: u8 = 193;

/// What belongs to the method of a key exchange.
pub const KEX_METHOD: RangeInclusive<u8> = 30..=49;
/// Who the user is (RFC 4252).
pub const USERAUTH: RangeInclusive<u8> = 50..=79;
/// What the user does (RFC 4254).
pub const CONNECTION: RangeInclusive<u8> = 80..=127;
