//! A terminal of a program's own, and somebody who reads and types there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::process::{Server, eventually};

/// A program on its terminal.
pub struct Terminal {
    server: Server,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Terminal {
    pub fn start(command: &Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap();
        // Closed in what other tests start: the end of the other side is what the reader waits for.
        let theirs: OwnedFd = rustix::fs::open(path.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let side = || Stdio::from(theirs.try_clone().unwrap());
        // Tests that were started in the background of a script ignore these keys, and so would what they start.
        let server = Server::start(command, "KILL", &["env", "--default-signal=INT,QUIT"], [side(), side(), side()]);
        let (screen, keyboard) = (Arc::new(Mutex::new(String::new())), File::from(ours));
        let (mut from, to) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        // It ends with an error when nobody has the other side open.
        let reader = thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { server, keyboard, screen, reader }
    }

    /// Waits until this is the last that it says.
    #[track_caller]
    pub fn until(&self, text: &str) -> &Self {
        eventually(&format!("it says {text:?}"), || {
            let screen = self.screen.lock().unwrap();
            assert!(self.server.exited().is_none() || screen.ends_with(text), "it has ended: {screen}");
            screen.ends_with(text).then_some(())
        });
        self
    }

    /// Types a line.
    pub fn types(&self, line: &str) -> &Self {
        self.presses(&format!("{line}\n"))
    }

    /// Types just this: `\x03` is Ctrl-C.
    pub fn presses(&self, keys: &str) -> &Self {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Waits until this is the last that it says; where it was stopped it goes on.
    #[track_caller]
    pub fn until_after_a_stop(&self, text: &str) -> &Self {
        eventually(&format!("it goes on and says {text:?}"), || {
            self.server.signal(Signal::CONT);
            self.screen.lock().unwrap().ends_with(text).then_some(())
        });
        self
    }

    /// Whether what is typed is shown, and edited line by line: as a terminal is for a shell.
    pub fn is_as_it_was(&self) -> bool {
        let wanted = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcgetattr(&self.keyboard).unwrap().local_modes.contains(wanted)
    }

    pub fn pid(&self) -> u32 {
        self.server.child().id()
    }

    /// Waits for its end. All that it said, and its exit code.
    #[track_caller]
    pub fn end(&self) -> (String, Option<i32>) {
        let status = eventually("it has ended", || self.server.exited());
        eventually("its screen is read to the end", || self.reader.is_finished().then_some(()));
        (self.screen.lock().unwrap().replace("\r\n", "\n"), status.code())
    }
}
