//! A store under load: a thousand connects a second against its cache, and a herd against its dynamic leases.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::Scale;
use crate::bed::{Config, Keyward, SOON, bao, canary, eventually, postgres15};
use crate::lean::{Failure, Lean};
use crate::race::{Spread, cpu_seconds};
use crate::report::{Report, number};
use crate::stub::{ROOM, Stub};

/// Connects a second.
const RATE: u32 = 1000;

/// After this a client has gone.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(scale: &Scale, report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table = format!(
        "\n### {RATE} connects a second, cached KV credential, plain (connect, SCRAM, `SELECT 1`, end)\n\n\
         | cache | due | served | a second | median ms | p99 ms | store asked | cache said | CPU µs each: Keyward | client and server |\n\
         |---|--:|--:|--:|--:|--:|--:|---|--:|--:|\n"
    );
    for ttl in ["60s", "1s"] {
        table += &cached(&runtime, ttl, if scale.smoke { 20 } else { RATE * 10 });
    }
    report.section(&table);
    let (herd, quota) = if scale.smoke { (8, 2) } else { (200, 20) };
    report.section(&leased(&runtime, herd, quota));
}

/// A row: so many connects, begun by the clock, and not by the end of those before.
fn cached(runtime: &Runtime, ttl: &str, count: u32) -> String {
    let stub = Stub::start(runtime);
    let (keyward, lean) = stub.keyward(&format!("cache_ttl: {ttl}"));
    let lean = Arc::new(lean);
    // The first login of a process, and the keys of the client, are not what is measured.
    runtime.block_on(one(&lean)).unwrap_or_else(|failure| panic!("a login: {failure}"));
    let (calls, said, processes) = (calls(&keyward), cache(&keyward), [keyward.pid(), std::process::id()]);
    let spent = processes.map(|process| cpu_seconds(&[process]));
    let (mut waited, failures, seconds) = runtime.block_on(by_the_clock(&lean, count));
    let spent = [0, 1].map(|one| (cpu_seconds(&[processes[one]]) - spent[one]) * 1e6 / f64::from(count));
    for (failure, times) in &failures {
        println!("{times} times: {failure}");
        keyward.expect_log(&format!("\"level\":\"{}\"", "WARN"));
    }
    assert!(!waited.is_empty(), "nobody was served");
    waited.sort_by(f64::total_cmp);
    let p99 = waited[(waited.len() * 99 / 100).min(waited.len() - 1)];
    let (median, rate) = (Spread::of(waited.iter().copied()).median, waited.len() as f64 / seconds);
    let asked = self::calls(&keyward) - calls;
    let cache: Vec<String> = cache(&keyward)
        .into_iter()
        .map(|(event, n)| (n - said.get(&event).unwrap_or(&0.0), event))
        .map(|(n, event)| format!("{event} {n}"))
        .collect();
    eventually("no session is left", || (stub.sessions() == 0).then_some(()));
    let [keyward_cpu, ours] = spent.map(number);
    let (served, [median, p99, rate]) = (waited.len(), [median, p99, rate].map(number));
    format!("| {ttl} | {count} | {served} | {rate} | {median} | {p99} | {asked} | {} | {keyward_cpu} | {ours} |\n", cache.join(", "))
}

/// Milliseconds from when each was due until it had its row, why others had none, and how long all of it took.
async fn by_the_clock(lean: &Arc<Lean>, count: u32) -> (Vec<f64>, BTreeMap<String, usize>, f64) {
    let (mut tasks, begun) = (JoinSet::new(), Instant::now());
    for number in 0..count {
        let due = begun + Duration::from_secs(1) * number / RATE;
        sleep_until(due).await;
        let lean = Arc::clone(lean);
        tasks.spawn(async move {
            let done = timeout(PATIENCE, one(&lean)).await.unwrap_or_else(|_| Err(Failure::Broken(std::io::ErrorKind::TimedOut.into())));
            done.map(|()| due.elapsed().as_secs_f64() * 1e3)
        });
    }
    let (mut waited, mut failures) = (Vec::new(), BTreeMap::new());
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            Ok(milliseconds) => waited.push(milliseconds),
            Err(failure) => *failures.entry(failure.to_string()).or_default() += 1,
        }
    }
    (waited, failures, begun.elapsed().as_secs_f64())
}

async fn one(lean: &Lean) -> Result<(), Failure> {
    let mut session = lean.connect().await?;
    session.select().await?;
    session.end().await
}

/// A herd of one user at once, who may have only so many leases; real OpenBao, real PostgreSQL. Beside the table it must hold that there
/// are never more than he may have, that the others are told so, and that nothing is left.
fn leased(runtime: &Runtime, herd: usize, quota: usize) -> String {
    let (postgres, alice) = (postgres15(), canary());
    let leases = bao().enable_database(postgres, "1h", "2h");
    let creds = leases.creds();
    let body = format!(
        "address: \"{}\", database: postgres, store: corp, credential: {creds}, limits: {{ max_leases_per_user: {quota} }}",
        postgres.address()
    );
    let config = Config::new()
        .store("corp", bao(), &bao().approle(&[&creds]))
        .connection("orders_rw", &body)
        .user("alice", &alice)
        .allow("alice", "orders_rw")
        .line(ROOM);
    let keyward = Keyward::start(&config);
    keyward.expect_log("max_leases_per_user");
    let lean = Arc::new(Lean::new(keyward.port("postgres"), "alice", &alice, "orders_rw"));
    let over = AtomicBool::new(false);
    let (served, refused, most) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(leases.leases());
            }
            most
        });
        let (served, refused) = runtime.block_on(at_once(&lean, herd));
        over.store(true, Ordering::Relaxed);
        (served, refused, watch.join().unwrap())
    });
    assert!(most <= quota, "{most} leases at once, and {quota} are allowed");
    assert!(!served.is_empty() && served.len() <= quota, "{} of {herd} were served, and {quota} may be", served.len());
    assert_eq!(served.len() + refused.values().sum::<usize>(), herd);
    eventually("no lease is left", || (leases.leases() == 0).then_some(()));
    eventually("none waits to be given back", || (metric(&keyward, "keyward_leases_waiting").values().sum::<f64>() == 0.0).then_some(()));
    let refused: Vec<String> = refused.into_iter().map(|(words, times)| format!("{times} × {words}")).collect();
    let (first, last) = (served.iter().copied().fold(f64::INFINITY, f64::min), served.iter().copied().fold(0.0, f64::max));
    format!(
        "\n### {herd} connects at once of one user who may have {quota} dynamic leases\n\n| served | refused | most leases at once | first in, ms | last in, ms |\n\
         |--:|---|--:|--:|--:|\n| {} | {} | {most} | {} | {} |\n",
        served.len(),
        refused.join("; "),
        number(first),
        number(last)
    )
}

/// The milliseconds of those who got in, and how often the others heard what. Nobody leaves before all have an answer.
async fn at_once(lean: &Arc<Lean>, herd: usize) -> (Vec<f64>, BTreeMap<String, usize>) {
    let (mut tasks, begun, sessions) = (JoinSet::new(), Instant::now(), Arc::new(Mutex::new(Vec::new())));
    for _ in 0..herd {
        let (lean, sessions) = (Arc::clone(lean), Arc::clone(&sessions));
        tasks.spawn(async move {
            let mut session = lean.connect().await?;
            session.select().await?;
            sessions.lock().unwrap().push(session);
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        });
    }
    let (mut served, mut refused) = (Vec::new(), BTreeMap::new());
    while let Some(done) = timeout(3 * SOON, tasks.join_next()).await.expect("all have an answer within a minute") {
        match done.unwrap() {
            Ok(milliseconds) => served.push(milliseconds),
            // Its last line is the id of the session.
            Err(Failure::Refused { code, text }) => *refused.entry(format!("{code} {}", without_id(&text))).or_default() += 1,
            Err(Failure::Broken(error)) => panic!("neither served nor refused: {error}"),
        }
    }
    let sessions = std::mem::take(&mut *sessions.lock().unwrap());
    for session in sessions {
        session.end().await.unwrap_or_else(|failure| panic!("a good-bye: {failure}"));
    }
    (served, refused)
}

fn without_id(text: &str) -> &str {
    text.split(" (session").next().unwrap_or(text)
}

/// How often the store was asked for a secret.
fn calls(keyward: &Keyward) -> f64 {
    metric(keyward, "keyward_store_calls_total")
        .into_iter()
        .filter(|(labels, _)| labels.contains("operation=\"kv_read\""))
        .map(|(_, n)| n)
        .sum()
}

/// What the cache said, by word.
fn cache(keyward: &Keyward) -> BTreeMap<String, f64> {
    let word = |labels: &str| labels.split("event=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an event").to_owned();
    metric(keyward, "keyward_store_cache_total").into_iter().map(|(labels, n)| (word(&labels), n)).collect()
}

/// The values of a metric by their labels.
fn metric(keyward: &Keyward, name: &str) -> BTreeMap<String, f64> {
    let text = keyward.http("/metrics").body;
    let lines = text.lines().filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?.rsplit_once(' '));
    lines.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap())).collect()
}
