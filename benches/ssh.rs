//! SSH beside no proxy at all and beside OpenSSH's own `-J` through a second server: much down and up, and from nothing to the end of `true`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Scale;
use crate::bed::{SshKey, SshPlan, SshScene, Sshd, scratch};
use crate::race::{Better, Contestant, Lap, Race, Standing};
use crate::report::{Bound, Report};

/// Each has servers of its own that know no other, so that all links of all ways use it: Keyward does not let an operator choose, and asks an
/// upstream for the first of these.
const CIPHERS: [&str; 2] = ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"];

/// On all links, too: what two OpenSSH choose between them may take them a hundred milliseconds more than what Keyward knows.
const KEY_EXCHANGE: &str = "curve25519-sha256";

/// The name of each way, and that of its destination in the `ssh_config`.
const WAYS: [(&str, &str); 4] = [("direct", "straight"), ("openssh -J", "far"), ("keyward user+server", "plus"), ("keyward -J", "web-1")];

/// Connects of one lap.
const CONNECTS: u32 = 10;

#[derive(Clone, Copy)]
enum Direction {
    Down,
    Up,
}

pub fn run(scale: &Scale, report: &mut Report) {
    for cipher in CIPHERS {
        // At the level of the tests each server would write hundreds of lines a connection.
        let keys = format!("Ciphers {cipher}\nKexAlgorithms {KEY_EXCHANGE}\nLogLevel ERROR");
        let (server, hop) = (Sshd::own(&keys), Sshd::own(&keys));
        let scene = SshScene::with(&server, SshPlan { client: client(&server, &hop, cipher), ..SshPlan::default() });
        for direction in [Direction::Down, Direction::Up] {
            bulk(&scene, direction, cipher, scale).contend(scale, report, goals);
        }
        if cipher == CIPHERS[0] {
            connects(&scene, scale).contend(scale, report, |_, _| {});
        }
    }
}

/// The destinations that the scene does not know. `far` is what `ProxyJump hop` stands for, spelt out as the scene does it for Keyward.
fn client(server: &Sshd, hop: &Sshd, cipher: &str) -> String {
    let (key, folder) = (SshKey::new(), scratch("jump"));
    let known = folder.join("known_hosts");
    let line = |sshd: &Sshd| format!("[127.0.0.1]:{} {}\n", sshd.port(), sshd.host_key());
    fs::write(&known, line(server) + &line(hop)).unwrap();
    let host = |name: &str, sshd: &Sshd, more: &str| {
        sshd.authorize("deploy", &key.public());
        format!(
            "Host {name}\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentityFile {}\nUserKnownHostsFile {}\n{more}",
            sshd.port(),
            sshd.login("deploy").name,
            key.file().display(),
            known.display()
        )
    };
    let all = format!("Ciphers {cipher}\nKexAlgorithms {KEY_EXCHANGE}\nCompression no\nConnectTimeout 20\nServerAliveInterval 20\n");
    // The file that the scene will write is not there yet: `ssh` below puts its name into the environment.
    all + &host("straight", server, "") + &host("hop", hop, "") + &host("far", server, "ProxyCommand ssh -F $SSH_CONFIG -W [%h]:%p hop\n")
}

fn race<'a>(
    title: String,
    unit: &'static str,
    better: Better,
    scene: &'a SshScene<'a>,
    lap: impl Fn(&'static str) -> Lap + Copy + 'a,
) -> Race<'a> {
    let contestant = |(name, host): (&'static str, &'static str)| {
        // What stands between in OpenSSH's own way is processes of one connection, gone when it ends: nobody can ask what they cost.
        let between = if name.starts_with("keyward") { vec![scene.keyward.pid()] } else { vec![] };
        Contestant::new(name, &between, move || lap(host))
    };
    let operation = if better == Better::More { "MiB" } else { "connect" };
    Race { title, unit, operation, better, contestants: WAYS.into_iter().map(contestant).collect() }
}

fn bulk<'a>(scene: &'a SshScene<'a>, direction: Direction, cipher: &str, scale: &Scale) -> Race<'a> {
    let (bytes, mebibytes) = (scale.bulk, scale.bulk as f64 / f64::from(1 << 20));
    let words = if matches!(direction, Direction::Down) { "down" } else { "up" };
    let lap = move |host| Lap { value: mebibytes / seconds_of_bulk(scene, host, direction, bytes), operations: mebibytes };
    race(format!("SSH, {mebibytes} MiB {words}, {cipher}"), "MiB/s", Better::More, scene, lap)
}

/// From the start of the command there, by the clock that all of them share, to the end of `ssh` here: how long it took to connect is another
/// question.
fn seconds_of_bulk(scene: &SshScene<'_>, host: &str, direction: Direction, bytes: u64) -> f64 {
    let stamp = "date +%s%N >&2";
    let (mut source, there) = match direction {
        Direction::Down => (None, format!("{stamp}; head -c {bytes} /dev/zero")),
        Direction::Up => {
            let source = Command::new("head").args(["-c", &bytes.to_string(), "/dev/zero"]).stdout(Stdio::piped()).spawn();
            (Some(source.expect("head")), format!("{stamp}; cat > /dev/null"))
        }
    };
    let stdin = source.as_mut().and_then(|head| head.stdout.take()).map_or_else(Stdio::null, Stdio::from);
    let said =
        ssh(scene, host, &there).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    if let Some(mut head) = source {
        assert!(head.wait().unwrap().success(), "not all of it was taken");
    }
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{host}: {} {stderr}", said.status);
    let began = stderr.trim().parse().map(Duration::from_nanos).unwrap_or_else(|_| panic!("{host}: {stderr}"));
    (end - began).as_secs_f64()
}

fn connects<'a>(scene: &'a SshScene<'a>, scale: &Scale) -> Race<'a> {
    let count = if scale.smoke { 1 } else { CONNECTS };
    let lap = move |host| {
        let begun = Instant::now();
        for _ in 0..count {
            let said = ssh(scene, host, "true").stdin(Stdio::null()).output().unwrap();
            assert!(said.status.success(), "{host}: {said:?}");
        }
        Lap { value: begun.elapsed().as_secs_f64() * 1e3 / f64::from(count), operations: f64::from(count) }
    };
    race("SSH, from nothing to the end of `true`".to_owned(), "ms", Better::Less, scene, lap)
}

fn ssh(scene: &SshScene<'_>, host: &str, there: &str) -> Command {
    let mut command = scene.tools.ssh();
    command.args([host, there]).env("SSH_CONFIG", scene.tools.config());
    command
}

fn goals(standing: &Standing, report: &mut Report) {
    let title = &standing.title;
    report.goal(&format!("{title}: user+server to direct"), Bound::AtLeast(0.85), standing.ratio("keyward user+server", "direct"));
    report.goal(&format!("{title}: -J to OpenSSH's own"), Bound::AtLeast(1.0), standing.ratio("keyward -J", "openssh -J"));
}
