//! Children that end with us, deadlines, and scratch folders.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `look` finds something, at most [`SOON`].
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, look)
}

/// Waits until `look` finds something, at most for `limit`: for what another program does in its own time.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tells that this test, or the rest of it, is left out for want of this: `tests/run.sh` counts it.
pub fn skipped(want: &str) {
    // Not `eprintln!`, which is shown only for a test that fails.
    let _ = writeln!(io::stderr(), "NOTICE: {} is SKIPPED for want of {want}", thread::current().name().unwrap_or("a test"));
}

/// Does it again where its wait was cut short: Linux does not resume a socket's wait with a time limit after a signal, or after the machine
/// stood still (signal(7)).
pub fn uninterrupted<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Whether every thread of it is stopped, or has ended.
fn stands_still(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).all(|stat| {
        // The name before the state may hold anything, brackets too.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}

/// A child that gets `signal` when this test process ends, however it ends, and SIGKILL when it is dropped.
pub struct Server {
    child: Mutex<Child>,
}

impl Server {
    /// Starts `command` with `setpriv`'s `options` beside the death signal (`--reuid …`).
    pub fn start(command: &Command, signal_at_our_end: &str, options: &[&str], stdio: [Stdio; 3]) -> Self {
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", signal_at_our_end]).args(options).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value)
            } else {
                wrapped.env_remove(name)
            };
        }
        let [stdin, stdout, stderr] = stdio;
        wrapped.stdin(stdin).stdout(stdout).stderr(stderr);
        Self { child: Mutex::new(spawn_kept(wrapped)) }
    }

    /// The child itself, for its pipes.
    pub fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child());
        kill_process(pid, signal).expect("the child is alive");
        if signal == Signal::STOP {
            // Each thread stops when it has a core again, and until then may answer somebody.
            eventually("all of it stands still", || stands_still(pid).then_some(()));
        }
    }

    /// `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().unwrap()
    }

    /// Ends it at once and waits until it is gone.
    pub fn kill9(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The death signal is sent when the *thread* that started the child ends, so that one thread starts them all and never ends.
fn spawn_kept(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static KEEPER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || inbox.into_iter().for_each(|(mut command, answer)| drop(answer.send(command.spawn()))));
        Mutex::new(orders)
    });
    let program = format!("{command:?}");
    let (answer, child) = mpsc::channel();
    KEEPER.lock().unwrap().send((command, answer)).unwrap();
    child.recv().unwrap().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// What a program said, and its exit code (`None`: ended by a signal).
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Output {
    /// Its standard output without the last newline; fails if the program failed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.trim_end()
    }

    /// Its standard error; fails if the program did not fail.
    #[track_caller]
    pub fn refused(&self) -> &str {
        assert!(self.code != Some(0) && self.stdout.is_empty(), "{self:?}");
        self.stderr.trim_end()
    }
}

/// Runs a program to its end; fails the test when it has not ended at `limit`.
#[track_caller]
pub fn run(mut command: Command, input: &str, limit: Duration) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    thread::spawn(move || stdin.write_all(input.as_bytes())); // a program that ends early closes it; that is its right
    let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{name} has not ended within {limit:?}: {}{}", stdout.join().unwrap(), stderr.join().unwrap());
        }
        thread::sleep(Duration::from_millis(5));
    };
    Output { stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), code: status.code() }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A port of 127.0.0.1 that nobody listens on, and that nobody else in this run is given. It lies below those that the system hands out by
/// itself (from 32768), so that it is still free when a server comes to it seconds later.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    // Runs at the same time begin far from each other.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(797)));
    let mut all = (0..COUNT).map(|_| u16::try_from(FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT).unwrap());
    all.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// An address of this machine that is not loopback. Nothing is sent: a UDP socket only asks for the route.
pub fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").expect("a route: this test needs an address beside loopback");
    let address = socket.local_addr().as_ref().map(SocketAddr::ip).unwrap();
    assert!(!address.is_loopback(), "this test needs an address beside loopback");
    address.to_string()
}

/// A new folder of this run. What earlier runs left is removed first; what we leave, the next run removes.
pub fn scratch(name: &str) -> PathBuf {
    static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = std::env::temp_dir().join("keyward-tests");
        for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
            // One by our own number is of a run that had it before.
            let own = entry.file_name() == std::process::id().to_string().as_str();
            if own || !Path::new("/proc").join(entry.file_name()).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let run = all.join(std::process::id().to_string());
        fs::create_dir_all(&run).unwrap();
        run
    });
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = RUN.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap(); // PostgreSQL's own user passes through
    folder
}

/// What `tests/install.sh` installed under this name.
pub fn installed(name: &str) -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = var("KEYWARD_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|cache| cache.join("keyward")))
        .or_else(|| var("HOME").map(|home| home.join(".cache/keyward")))
        .expect("one of KEYWARD_CACHE, XDG_CACHE_HOME and HOME is set");
    let link = cache.join("use").join(name);
    fs::canonicalize(&link).unwrap_or_else(|error| panic!("{name} is not installed ({error}): run tests/run.sh once"))
}
