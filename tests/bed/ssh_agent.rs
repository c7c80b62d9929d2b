//! A security key in software: an ssh-agent with one `sk-ssh-ed25519@openssh.com` key that says of a touch and of a PIN what a test wants.
//! Its protocol is in OpenSSH's `PROTOCOL.agent` (draft-ietf-sshm-ssh-agent), its signatures in `PROTOCOL.u2f`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::process::scratch;

const KIND: &str = "sk-ssh-ed25519@openssh.com";
const APPLICATION: &str = "ssh:";

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const FAILURE: u8 = 5;

/// Somebody touched it.
pub const TOUCHED: u8 = 1;
/// Somebody typed its PIN.
pub const VERIFIED: u8 = 4;

/// The agent, at a socket, until the test ends.
pub struct SecurityKey {
    shared: Arc<Shared>,
    socket: PathBuf,
}

struct Shared {
    key: Ed25519KeyPair,
    flags: AtomicU8,
    counter: AtomicU32,
}

impl SecurityKey {
    /// One that is touched whenever it signs.
    pub fn new() -> Self {
        let shared = Shared { key: Ed25519KeyPair::generate().unwrap(), flags: AtomicU8::new(TOUCHED), counter: AtomicU32::new(1) };
        let (shared, socket) = (Arc::new(shared), scratch("agent").join("socket"));
        let (listener, served) = (UnixListener::bind(&socket).unwrap(), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&served);
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { shared, socket }
    }

    /// What it says from now on ([`TOUCHED`], [`VERIFIED`], both, 0).
    pub fn says(&self, flags: u8) {
        self.shared.flags.store(flags, Ordering::SeqCst);
    }

    /// How often it has signed.
    pub fn signatures(&self) -> u32 {
        self.shared.counter.load(Ordering::SeqCst) - 1
    }

    /// `sk-ssh-ed25519@openssh.com AAAA…`
    pub fn public(&self) -> String {
        format!("{KIND} {}", STANDARD.encode(self.shared.blob()))
    }

    /// What `IdentityAgent` names.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `-i` names beside it: the public key's file.
    pub fn public_file(&self) -> PathBuf {
        let file = self.socket.with_file_name("key.pub");
        std::fs::write(&file, format!("{} of the tests\n", self.public())).unwrap();
        file
    }
}

impl Shared {
    fn blob(&self) -> Vec<u8> {
        [string(KIND.as_bytes()), string(self.key.public_key().as_ref()), string(APPLICATION.as_bytes())].concat()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let (flags, counter) = (self.flags.load(Ordering::SeqCst), self.counter.fetch_add(1, Ordering::SeqCst));
        let said = [&[flags][..], &counter.to_be_bytes()].concat();
        let (application, hash) = (digest(&SHA256, APPLICATION.as_bytes()), digest(&SHA256, message));
        let signature = self.key.sign(&[application.as_ref(), &said, hash.as_ref()].concat());
        [string(KIND.as_bytes()), string(signature.as_ref()), said].concat()
    }

    fn answer(&self, request: &[u8]) -> Vec<u8> {
        match request.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => {
                [&[IDENTITIES_ANSWER][..], &1_u32.to_be_bytes(), &string(&self.blob()), &string(b"of the tests")].concat()
            }
            Some((&SIGN_REQUEST, rest)) => {
                let (key, rest) = split(rest);
                let (message, _) = split(rest);
                assert!(key == self.blob(), "a signature by another key");
                [&[SIGN_RESPONSE][..], &string(&self.sign(message))].concat()
            }
            _ => vec![FAILURE], // what we do not know, such as `session-bind@openssh.com`
        }
    }
}

fn serve(shared: &Shared, mut stream: UnixStream) {
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        if stream.read_exact(&mut request).is_err() || stream.write_all(&string(&shared.answer(&request))).is_err() {
            return;
        }
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_at(4);
    rest.split_at(u32::from_be_bytes(length.try_into().unwrap()) as usize)
}
