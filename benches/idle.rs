//! What sessions cost that say nothing: memory of each, and CPU time of all of them.
//!
//! Memory is that of the process (VmRSS) and what the kernel has charged to the proxy's own TCP sockets, on both sides of it, for their
//! queues (`ss -m`: r, f, w, o and bl), both less what they were before. The sum in /proc/net/sockstat would be everybody's, and goes up and
//! down by a MiB. The kernel's structures themselves, between 3 and 4 KiB a socket and so twice that a session, are the same for every proxy
//! and are not counted.

use std::any::Any;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Scale;
use crate::bed::{Login, SOON, canary, certificate, run as run_to_end, scratch, within};
use crate::lean::{Failure, Lean, LeanSession};
use crate::peers::{Peer, program};
use crate::race::{Spread, cpu_seconds};
use crate::report::{Bound, Report, number, spread};
use crate::stub::Stub;

/// Logins under way: enough that both sides work at once, too few to fill a backlog.
const LOGINS: usize = 64;

/// Of each figure, each with a process of its own: an allocator keeps what it once had.
const TIMES: usize = 3;

/// Files of a proxy that are no session's.
const SPARE_FILES: u64 = 200;

/// A proxy, and whether its clients use TLS. Behind it is none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Keyward,
    KeywardTls,
    Haproxy,
    Pgbouncer,
    PgbouncerTls,
}

/// What was found of one kind: KiB of each session, and ms of CPU time a second.
#[derive(Default)]
struct Found {
    memory: Vec<f64>,
    cpu: Vec<f64>,
}

pub fn run(scale: &Scale, report: &mut Report) {
    let many = if scale.smoke { 5 } else { many() };
    let counts = if scale.smoke { vec![many] } else { vec![10, 1000, many] };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table = "\n### Idle sessions\n\n| | sessions | KiB each | CPU of all, ms/s |\n|---|--:|--:|--:|\n".to_owned();
    for count in counts {
        let mut found = Kind::ALL.map(|_| Found::default());
        for _ in 0..scale.rounds.min(TIMES) {
            for (kind, found) in Kind::ALL.into_iter().zip(&mut found) {
                let watched = if count == many { if scale.smoke { scale.lap } else { Duration::from_secs(10) } } else { Duration::ZERO };
                measure(&runtime, kind, count, watched, found);
            }
        }
        for (kind, Found { memory, cpu }) in Kind::ALL.into_iter().zip(found) {
            let memory = Spread::of(memory);
            let cpu = if cpu.is_empty() { String::new() } else { number(Spread::of(cpu).median) };
            table += &format!("| {} | {count} | {} | {cpu} |\n", kind.words(), spread(memory));
            let most = [(Kind::Keyward, 24.0), (Kind::KeywardTls, 48.0)].into_iter().find(|(one, _)| *one == kind);
            if let Some((_, most)) = most.filter(|_| count == many && !scale.smoke) {
                report.goal(&format!("{}: KiB of each of {count} idle sessions", kind.words()), Bound::AtMost(most), memory);
            }
        }
    }
    report.section(&table);
}

impl Kind {
    const ALL: [Self; 5] = [Self::Keyward, Self::KeywardTls, Self::Haproxy, Self::Pgbouncer, Self::PgbouncerTls];

    fn words(self) -> &'static str {
        match self {
            Self::Keyward => "keyward, plain",
            Self::KeywardTls => "keyward, TLS to the client",
            Self::Haproxy => "haproxy, plain",
            Self::Pgbouncer => "pgbouncer, plain",
            Self::PgbouncerTls => "pgbouncer, TLS to the client",
        }
    }
}

/// One running proxy, and a client of it.
struct Between {
    pid: u32,
    lean: Lean,
    /// Ends with this.
    _process: Box<dyn Any>,
}

impl Between {
    fn start(kind: Kind, stub: &Stub, sessions: usize) -> Self {
        let login = Login { name: "app".to_owned(), password: canary() };
        let to = |peer: Peer| {
            let lean = Lean::new(peer.port, &login.name, &login.password, "postgres");
            Self { pid: peer.pid(), lean, _process: Box::new(peer) }
        };
        match kind {
            Kind::Keyward | Kind::KeywardTls => {
                let (keyward, lean) = stub.keyward("");
                let lean = if kind == Kind::KeywardTls { lean.with_tls(&keyward.ca()) } else { lean };
                Self { pid: keyward.pid(), lean, _process: Box::new(keyward) }
            }
            Kind::Haproxy => to(Peer::haproxy_for(sessions + 10, stub.port)),
            Kind::Pgbouncer | Kind::PgbouncerTls => {
                let folder: PathBuf = scratch("pgbouncer-identity");
                certificate(&folder);
                let identity = ["server.key", "server.pem"].map(|name| folder.join(name));
                let mut between = to(Peer::pgbouncer_for(sessions + 10, stub.port, &login, &identity));
                if kind == Kind::PgbouncerTls {
                    between.lean = between.lean.with_tls(&folder.join("ca.pem"));
                }
                between
            }
        }
    }
}

fn measure(runtime: &Runtime, kind: Kind, count: usize, watched: Duration, found: &mut Found) {
    let stub = Stub::start(runtime);
    let Between { pid, lean, _process } = Between::start(kind, &stub, count);
    let lean = Arc::new(lean);
    // What the first session of a process makes once (caches, the store's client) is no session's.
    drop(runtime.block_on(log_in(&lean, 1)));
    gone(&stub);
    let ports = [lean.port(), stub.port];
    let before = settled(pid, ports);
    let sessions = runtime.block_on(log_in(&lean, count));
    assert_eq!(stub.sessions(), count, "{}: sessions at the server", kind.words());
    let after = settled(pid, ports);
    found.memory.push(((after - before) / count as f64).max(0.0));
    if !watched.is_zero() {
        let begun = cpu_seconds(&[pid]);
        thread::sleep(watched);
        found.cpu.push((cpu_seconds(&[pid]) - begun) * 1000.0 / watched.as_secs_f64());
    }
    assert_eq!(stub.sessions(), count, "{}: sessions that lasted", kind.words());
    drop(sessions);
    gone(&stub);
}

/// Logs in this often and runs a query each: a pool gives a session its server only then.
async fn log_in(lean: &Arc<Lean>, count: usize) -> Vec<LeanSession> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..LOGINS.min(count) {
        let (lean, begun) = (Arc::clone(lean), Arc::clone(&begun));
        tasks.spawn(async move {
            let mut mine = Vec::new();
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                let mut session = lean.connect().await?;
                session.select().await?;
                mine.push(session);
            }
            Ok::<_, Failure>(mine)
        });
    }
    let mut sessions = Vec::with_capacity(count);
    while let Some(mine) = tasks.join_next().await {
        sessions.extend(mine.unwrap().unwrap_or_else(|failure| panic!("a login: {failure}")));
    }
    sessions
}

fn gone(stub: &Stub) {
    within(3 * SOON, "no session is left at the server", || (stub.sessions() == 0).then_some(()));
}

/// Memory of the process in KiB, once it has stopped to change by more than noise, and of these ports' sockets.
fn settled(pid: u32, ports: [u16; 2]) -> f64 {
    const NOISE: f64 = 64.0;
    const READINGS: usize = 5;
    let (mut last, mut still) = (f64::NEG_INFINITY, 0);
    let resident = within(3 * SOON, "memory has settled", || {
        thread::sleep(Duration::from_millis(200));
        let now = resident(pid);
        still = if (now - last).abs() > NOISE { 1 } else { still + 1 };
        last = now;
        (still == READINGS).then_some(now)
    });
    resident + of_sockets(ports)
}

fn resident(pid: u32) -> f64 {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Of those that were accepted at the first port, and those that lead to the second.
fn of_sockets([accepted, dialled]: [u16; 2]) -> f64 {
    let mut command = Command::new(program("ss"));
    command.args(["-HtmnO", "state", "established", &format!("( sport = :{accepted} or dport = :{dialled} )")]);
    let all = run_to_end(command, "", SOON);
    let charged = |line: &str| {
        let fields = line.split_once("skmem:(")?.1.split_once(')')?.0;
        let of = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.parse::<f64>().ok());
        ["r", "f", "w", "o", "bl"].into_iter().map(of).sum::<Option<f64>>()
    };
    all.ok().lines().map(|line| charged(line).unwrap_or_else(|| panic!("ss said {line:?}"))).sum::<f64>() / 1024.0
}

/// 10 000, or what the limit on open files allows: a session takes two files of a proxy, and two of ours. A process of ours inherits ours.
fn many() -> usize {
    const WANTED: u64 = 10_000;
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let possible = hard.map_or(WANTED, |hard| hard.saturating_sub(SPARE_FILES) / 2 / 100 * 100).min(WANTED);
    assert!(possible > 1000, "the hard limit on open files, {hard:?}, is too low: `ulimit -Hn 65536` as root, or run benches/run.sh");
    if possible < WANTED {
        println!("\nThe hard limit on open files, {}, leaves room for {possible} sessions, not {WANTED}.", hard.unwrap_or_default());
    }
    usize::try_from(possible).unwrap()
}
