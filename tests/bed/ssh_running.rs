//! `ssh` that runs while a test does something to it, to its server or to Keyward.

use std::fs;
use std::io::{Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::canary::{must_be_absent, random_hex};
use super::process::{Output, Server, eventually};
use super::ssh_scene::SshScene;
use super::ssh_ways::SshWay;

/// One running client. Ended with the test.
pub struct SshRunning {
    server: Server,
    stdin: Mutex<Option<ChildStdin>>,
    stdout: Kept,
    stderr: Kept,
    readers: Vec<JoinHandle<()>>,
}

type Kept = Arc<Mutex<Vec<u8>>>;

/// Whether somebody reads what a client prints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    Read,
    Unread,
}

impl SshRunning {
    pub fn start(command: &Command) -> Self {
        Self::with(command, Printed::Read)
    }

    /// The same, and nobody reads its standard output: at some time it cannot go on.
    pub fn start_unread(command: &Command) -> Self {
        Self::with(command, Printed::Unread)
    }

    fn with(command: &Command, printed: Printed) -> Self {
        let server = Server::start(command, "KILL", &[], [Stdio::piped(), Stdio::piped(), Stdio::piped()]);
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let mut child = server.child();
        let stdin = Mutex::new(child.stdin.take());
        let mut readers = vec![read(child.stderr.take().unwrap(), &stderr)];
        if printed == Printed::Read {
            readers.push(read(child.stdout.take().unwrap(), &stdout));
        }
        drop(child);
        Self { server, stdin, stdout, stderr, readers }
    }

    /// Types a line.
    pub fn say(&self, line: &str) {
        if let Some(stdin) = self.stdin.lock().unwrap().as_mut() {
            // Who has gone hears nothing; what it said tells why.
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// Ends its standard input.
    pub fn close_stdin(&self) {
        self.stdin.lock().unwrap().take();
    }

    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }

    pub fn is_over(&self) -> bool {
        self.server.exited().is_some()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        text(&self.stdout)
    }

    /// What it has complained of so far.
    pub fn complained(&self) -> String {
        text(&self.stderr)
    }

    /// Waits until it has printed this.
    #[track_caller]
    pub fn until_printed(&self, wanted: &str) {
        eventually(&format!("{wanted:?} is printed: {self:?}"), || self.printed().contains(wanted).then_some(()));
    }

    /// Waits until it has complained of this.
    #[track_caller]
    pub fn until_complained(&self, wanted: &str) {
        eventually(&format!("it complains of {wanted:?}"), || self.complained().contains(wanted).then_some(()));
    }

    /// Waits for its end: all that it said, and its exit code.
    #[track_caller]
    pub fn ended(&self) -> Output {
        let status = eventually("ssh has ended", || self.server.exited());
        eventually("its pipes are closed", || self.readers.iter().all(JoinHandle::is_finished).then_some(()));
        let output = Output { stdout: self.printed(), stderr: self.complained(), code: status.code() };
        must_be_absent("what ssh printed", &output.stdout);
        must_be_absent("what ssh complained of", &output.stderr);
        output
    }
}

impl std::fmt::Debug for SshRunning {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", self.complained())
    }
}

fn read(mut pipe: impl Read + Send + 'static, kept: &Kept) -> JoinHandle<()> {
    let kept = Arc::clone(kept);
    thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            kept.lock().unwrap().extend_from_slice(&piece[..length]);
        }
    })
}

fn text(kept: &Kept) -> String {
    String::from_utf8_lossy(&kept.lock().unwrap()).into_owned()
}

/// A process on the server that is found again by its name.
pub struct There(String);

impl There {
    pub fn new() -> Self {
        Self(format!("there-{}", random_hex(6)))
    }

    /// The command by which a login shell becomes it: a program with its arguments.
    pub fn command(&self, program: &str) -> String {
        format!("echo begun; exec -a {} {program}", self.0)
    }

    /// Its number, while it is there.
    pub fn pid(&self) -> Option<i32> {
        processes().find(|(_, words)| words.split('\0').next() == Some(&self.0)).map(|(pid, _)| pid)
    }

    /// Waits until it is there.
    #[track_caller]
    pub fn until_there(&self) -> i32 {
        eventually("the program runs", || self.pid())
    }

    /// Waits until it has gone.
    #[track_caller]
    pub fn until_gone(&self) {
        eventually("the remote process has ended", || self.pid().is_none().then_some(()));
    }

    /// The server's process that serves its connection.
    #[track_caller]
    pub fn parent(&self) -> i32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().expect("it is there"))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        line.trim().parse().unwrap()
    }
}

/// Ends one process, by its number.
pub fn kill_one(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// All processes that we may see, with their words.
pub fn processes() -> impl Iterator<Item = (i32, String)> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&words).into_owned()))
    })
}

impl SshScene<'_> {
    /// Starts a command there, with options of ssh.
    pub fn start(&self, way: SshWay, options: &[&str], remote: &str) -> SshRunning {
        let mut command = self.tools.ssh();
        command.args(options).args([way.host(), remote]);
        SshRunning::start(&command)
    }

    /// The same, and waits until the program has begun.
    #[track_caller]
    pub fn begin(&self, way: SshWay, options: &[&str], program: &str) -> (SshRunning, There) {
        let there = There::new();
        let running = self.start(way, options, &there.command(program));
        running.until_printed("begun");
        there.until_there();
        (running, there)
    }

    /// A jump that several clients share, with options of ssh, once it is up; and the option by which [`SshWay::Jump`] goes through it.
    #[track_caller]
    pub fn shared_jump(&self, options: &[&str]) -> (SshRunning, String) {
        let control = self.tools.folder().join("jump");
        let mut master = self.tools.ssh();
        master.args(["-N", "-v", "-M", "-S"]).arg(&control).args(options).arg("jump");
        let jump = SshRunning::start(&master);
        jump.until_complained("Entering interactive session");
        let (program, config) = (self.tools.program.display(), self.tools.config());
        (jump, format!("ProxyCommand={program} -F {} -S {} -W [%h]:%p jump", config.display(), control.display()))
    }

    /// The option by which a client comes over a line that carries so much down, and on which little is under way.
    pub fn slow_line(&self, bytes_a_second: u32) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bed/ssh_slow_line.py");
        format!("ProxyCommand=python3 {script} {} {bytes_a_second}", self.port())
    }

    /// The ids of the live sessions.
    pub fn sessions(&self) -> Vec<String> {
        let listed = self.keyward.cli(&["sessions", "--format", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(listed.ok()).unwrap();
        rows.iter().map(|row| row["session"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends all live sessions as an operator does.
    pub fn kill_sessions(&self) {
        for id in self.sessions() {
            self.keyward.cli(&["kill", &id]).ok();
        }
    }

    /// How the sessions ended that have, in their order.
    pub fn outcomes(&self) -> Vec<String> {
        let closed = self.keyward.audit().into_iter().filter(|record| record["event"] == "closed");
        closed.map(|record| record["outcome"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until this many sessions have ended, and says how.
    #[track_caller]
    pub fn until_ended(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} sessions have ended"), || (self.outcomes().len() >= count).then_some(()));
        self.outcomes()
    }

    /// Bytes that the sessions have moved so far, both ways.
    pub fn relayed(&self) -> u64 {
        let listed = self.keyward.cli(&["sessions", "--format", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(listed.ok()).unwrap();
        rows.iter().flat_map(|row| [&row["bytes_up"], &row["bytes_down"]]).map(|bytes| bytes.as_u64().unwrap()).sum()
    }

    /// Puts another plan in force.
    #[track_caller]
    pub fn reload(&self, change: impl FnOnce(&mut super::ssh_scene::SshPlan)) {
        self.rewrite(change);
        self.keyward.cli(&["reload"]).ok();
    }
}
