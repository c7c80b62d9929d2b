//! A client that does one step of a test and says what it saw, a line each. It may wait in between until it is told to go on.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::canary::must_be_absent;
use super::process::{SOON, Server};
use super::psql::Dsn;

/// The other side is a program or a thread of ours; either way it is bounded.
pub struct Dialogue {
    name: String,
    lines: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
    go_on: Box<dyn Fn()>,
    program: Option<Server>,
}

/// A program that finds the place and the password in its environment, in libpq's variables, and nothing else of libpq's.
pub fn client_command(program: impl AsRef<std::ffi::OsStr>, dsn: &Dsn) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.envs(dsn.environment());
    command
}

impl Dialogue {
    /// A program: its lines are what it prints, its complaints come behind them, and it goes on when it reads a line.
    pub fn with_program(command: &Command) -> Self {
        let server = Server::start(command, "KILL", &[], [Stdio::piped(), Stdio::piped(), Stdio::piped()]);
        let (stdin, stdout, stderr) = {
            let mut child = server.child();
            (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap())
        };
        let ((say, lines), (complain, errors)) = (mpsc::channel(), mpsc::channel());
        read(stdout, say);
        read(stderr, complain);
        // A program that has ended needs no word; what it said tells why.
        let go_on = move || drop(writeln!(&stdin));
        let name = command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Self { name, lines, errors, go_on: Box::new(go_on), program: Some(server) }
    }

    /// A thread: `step` is given the way to wait until it is told to go on, and the way to say a line. It fails by panicking.
    pub fn with_thread(name: &str, step: impl FnOnce(mpsc::Receiver<()>, mpsc::Sender<String>) + Send + 'static) -> Self {
        let ((say, lines), (complain, errors), (word, ears)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(ears, say)));
            if outcome.is_err() {
                let _ = complain.send("panicked".to_owned());
            }
        });
        Self { name: name.to_owned(), lines, errors, go_on: Box::new(move || word.send(()).unwrap_or_default()), program: None }
    }

    /// The next line.
    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(SOON);
        let line = line.unwrap_or_else(|error| panic!("{}: no line: {error}: {}", self.name, all(&self.errors, SOON).join("\n")));
        must_be_absent(&self.name, &line);
        line
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        (self.go_on)();
    }

    /// What it still says, up to its end, which must be a success.
    #[track_caller]
    pub fn rest(self) -> String {
        self.rest_within(SOON)
    }

    /// The same of one that may be at work for so long without a word.
    #[track_caller]
    pub fn rest_within(self, silence: Duration) -> String {
        let mut said = all(&self.lines, silence);
        said.extend(all(&self.errors, silence));
        let said = said.join("\n");
        must_be_absent(&self.name, &said);
        if let Some(program) = &self.program {
            let status = super::process::eventually("the client has ended", || program.exited());
            assert!(status.success(), "{}: {status}\n{said}", self.name);
        }
        assert!(!said.contains("panicked"), "{}: {said}", self.name);
        said
    }
}

/// Every line up to the end.
#[track_caller]
fn all(lines: &mpsc::Receiver<String>, silence: Duration) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(silence) {
            Ok(line) => said.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return said,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {said:?}"),
        }
    }
}

fn read(pipe: impl Read + Send + 'static, say: mpsc::Sender<String>) {
    thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
}
