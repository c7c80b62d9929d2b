//! What the peer can do besides, and what we can (RFC 8308; OpenSSH PROTOCOL sections 1.9 and 3.1).

use crate::error::Fatal;
use crate::key::SIGNATURE_ALGORITHMS;
use crate::message;
use crate::wire::{Put, Reader};

/// EXT_INFO messages of one peer: one behind its first NEWKEYS, one before the end of a login (RFC 8308 section 2.4).
const MESSAGES: u8 = 2;
/// Extensions in one message; OpenSSH takes as many.
const EXTENSIONS: u32 = 1024;

/// What a peer said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// With which algorithms a user may sign, as far as we know them (`server-sig-algs`). `None`: nothing was said of it.
    pub signature_algorithms: Option<Vec<&'static str>>,
    /// Whether it answers pings (`ping@openssh.com`).
    pub ping: bool,
    /// Whether it takes proofs that are bound to its host key (`publickey-hostbound@openssh.com`).
    pub hostbound: bool,
    messages: u8,
}

impl Extensions {
    /// Reads an EXT_INFO. What we do not know is passed over.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Fatal> {
        self.messages = self.messages.saturating_add(1);
        if self.messages > MESSAGES {
            return Err(Fatal::TooMuch("more than two EXT_INFO"));
        }
        let mut reader = Reader::new(payload);
        let _number = reader.u8()?;
        let count = reader.u32()?;
        if count > EXTENSIONS {
            return Err(Fatal::TooMuch("too many extensions"));
        }
        for _ in 0..count {
            let (name, value) = (reader.string()?, reader.string()?);
            match name {
                b"server-sig-algs" => {
                    let mut names = value.split(|byte| *byte == b',');
                    let known = |name: &[u8]| SIGNATURE_ALGORITHMS.iter().find(|known| known.as_bytes() == name).copied();
                    self.signature_algorithms = Some(names.by_ref().filter_map(known).take(SIGNATURE_ALGORITHMS.len()).collect());
                }
                b"ping@openssh.com" => self.ping = value == b"0",
                b"publickey-hostbound@openssh.com" => self.hostbound = value == b"0",
                _ => {}
            }
        }
        Ok(reader.end()?)
    }
}

/// Our EXT_INFO, as a server.
pub(super) fn ext_info(signature_algorithms: &[&str]) -> Vec<u8> {
    let mut message = vec![message::EXT_INFO];
    message.put_u32(3);
    message.put_string("server-sig-algs").put_names(signature_algorithms);
    message.put_string("publickey-hostbound@openssh.com").put_string("0");
    message.put_string("ping@openssh.com").put_string("0");
    message
}
