//! A server that only pretends to be a MySQL: it greets as a test says, does as it is told, and tells what it was sent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::mysql_wire::{Greeting, mysql_packet};
use super::process::SOON;

/// It takes one connection after the other, until the tests end.
pub struct MysqlImpostor {
    pub address: String,
    greeting: Arc<Mutex<Greeting>>,
    connections: Arc<AtomicUsize>,
    heard: mpsc::Receiver<Vec<u8>>,
}

impl MysqlImpostor {
    /// On this address. Who hears its greeting and says something is handed to `act`, with the payload of that first packet; what he says
    /// after that is heard. Who says nothing only wanted to hear the greeting.
    pub fn on(ip: &str, greeting: Greeting, act: impl Fn(&mut TcpStream, &[u8]) + Send + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (greeting, connections) = (Arc::new(Mutex::new(greeting)), Arc::new(AtomicUsize::new(0)));
        let (tell, heard) = mpsc::channel();
        let (greets, count) = (Arc::clone(&greeting), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let packet = mysql_packet(0, &greets.lock().unwrap().encode());
                let first = stream.write_all(&packet).ok().and_then(|()| read_packet(&mut stream));
                let Some(first) = first else { continue };
                act(&mut stream, &first);
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                if tell.send(rest).is_err() {
                    return;
                }
            }
        });
        Self { address, greeting, connections, heard }
    }

    /// From now on it greets like this.
    pub fn greet_with(&self, greeting: Greeting) {
        *self.greeting.lock().unwrap() = greeting;
    }

    /// Waits until all who have come so far were served: one at a time, in turn.
    #[track_caller]
    pub fn settle(&self) {
        let mut last = TcpStream::connect(&self.address).unwrap();
        last.set_read_timeout(Some(SOON)).unwrap();
        last.read_exact(&mut [0]).expect("a greeting: it did not come to grief");
    }

    /// How many have come so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What the next one said after the impostor had done what it was told.
    #[track_caller]
    pub fn heard(&self) -> Vec<u8> {
        self.heard.recv_timeout(SOON).expect("somebody said something")
    }
}

/// The payload of a packet; `None`: there is none.
fn read_packet(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut payload = vec![0; usize::try_from(u32::from_le_bytes([header[0], header[1], header[2], 0])).unwrap()];
    stream.read_exact(&mut payload).ok().map(|()| payload)
}
