//! A way to a server that keeps what is said to the server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::process::eventually;

/// It takes whoever comes, until the tests end.
pub struct Recorder {
    pub address: String,
    ways: Arc<Mutex<Vec<Way>>>,
}

#[derive(Default, Clone)]
struct Way {
    said: Vec<u8>,
    ended: bool,
}

impl Recorder {
    /// Before what listens on this port of loopback.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self { address: listener.local_addr().unwrap().to_string(), ways: Arc::default() };
        let ways = Arc::clone(&recorder.ways);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let index = {
                    let mut ways = ways.lock().unwrap();
                    ways.push(Way::default());
                    ways.len() - 1
                };
                let (from, to, ways) = (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&ways));
                thread::spawn(move || copy(server, client, |_| {}));
                thread::spawn(move || {
                    copy(from, to, |bytes| ways.lock().unwrap()[index].said.extend(bytes));
                    ways.lock().unwrap()[index].ended = true;
                });
            }
        });
        recorder
    }

    /// All that was said so far, on all ways together.
    pub fn said(&self) -> Vec<u8> {
        self.ways.lock().unwrap().iter().flat_map(|way| way.said.clone()).collect()
    }

    /// All that was ever said, once nobody can say more.
    #[track_caller]
    pub fn until_ended(&self) -> Vec<u8> {
        eventually("every way has ended", || self.ways.lock().unwrap().iter().all(|way| way.ended).then_some(()));
        self.said()
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        see(&buffer[..bytes]);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}
