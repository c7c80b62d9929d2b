//! A transport with its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::{Conn, Event, Role, SystemRandom};

/// A transport on a socket.
pub(crate) struct Wire {
    pub(crate) conn: Conn,
    stream: TcpStream,
}

impl Wire {
    pub(crate) fn new(role: Role, stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { conn: Conn::new(role, Box::new(SystemRandom), Instant::now()), stream }
    }

    /// The next message of the layers above; `None` once the peer has said goodbye.
    pub(crate) fn hear(&mut self, known: Option<&PublicKey>) -> Option<Vec<u8>> {
        loop {
            let shown = match self.conn.next().unwrap() {
                Some(Event::Message(message)) => return Some(message.to_vec()),
                Some(Event::Disconnect { .. }) => return None,
                Some(Event::Ready) => continue,
                Some(Event::HostKey { blob, .. }) => Some(blob.to_vec()),
                None => None,
            };
            if let Some(shown) = shown {
                let known = known.unwrap();
                assert_eq!(shown, known.blob());
                self.conn.accept_host_key(known).unwrap();
            } else if !self.fill() {
                return None;
            }
        }
    }

    /// Hands the transport what comes next; `false`: the peer has left.
    pub(crate) fn fill(&mut self) -> bool {
        self.flush();
        let mut buffer = [0; 4096];
        let length = loop {
            match self.stream.read(&mut buffer) {
                // Linux does not resume a read with a time limit after the machine stood still (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.unwrap(),
            }
        };
        assert_eq!(self.conn.receive(&buffer[..length]), length);
        length > 0
    }

    pub(crate) fn say(&mut self, messages: impl IntoIterator<Item = Vec<u8>>) {
        for message in messages {
            self.conn.send(&message).unwrap();
        }
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        let length = self.conn.output().len();
        // A peer that has left is seen when it is read.
        let _ = self.stream.write_all(self.conn.output());
        self.conn.wrote(length);
    }
}
