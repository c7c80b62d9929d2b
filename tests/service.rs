//! Keyward under a service manager: what it tells systemd, and what its unit file promises.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::bed::{Config, Dialogue, SOON, eventually, installed, run, scratch, uninterrupted};

/// A Keyward whose service manager we are. Ended with the test.
struct Service {
    child: Child,
    told: UnixDatagram,
}

impl Service {
    fn start(name: &str, told: UnixDatagram, folder: &Path, config: &Config) -> Self {
        let file = folder.join("keyward.yaml");
        std::fs::write(&file, config.text(&folder.join("state"), folder)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(["run", "--config"]).arg(&file).env("NOTIFY_SOCKET", name).env_remove("RUST_LOG").stderr(Stdio::null());
        told.set_read_timeout(Some(SOON)).unwrap();
        Self { child: command.spawn().unwrap(), told }
    }

    fn hears(&self) -> String {
        let mut text = [0; 256];
        let length = uninterrupted(|| self.told.recv(&mut text)).expect("it tells something in time");
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    fn ended(&mut self) -> ExitStatus {
        eventually("Keyward has ended", || self.child.try_wait().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn ready_then_stopping(name: &str, told: UnixDatagram, folder: &Path) {
    let mut service = Service::start(name, told, folder, &Config::new());
    assert_eq!(service.hears(), "READY=1");
    assert!(service.child.try_wait().unwrap().is_none(), "it serves");
    kill_process(Pid::from_child(&service.child), Signal::TERM).unwrap();
    assert_eq!(service.hears(), "STOPPING=1");
    assert!(service.ended().success());
}

#[test]
fn the_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    let folder = scratch("service");
    let socket = folder.join("notify");
    ready_then_stopping(socket.to_str().unwrap(), UnixDatagram::bind(&socket).unwrap(), &folder);
}

#[test]
fn a_service_manager_behind_an_abstract_socket_hears_it_too() {
    let name = format!("keyward-test-{}", std::process::id());
    let told = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    ready_then_stopping(&format!("@{name}"), told, &scratch("service"));
}

#[test]
fn a_process_that_cannot_serve_never_says_that_it_is_ready() {
    let (folder, taken) = (scratch("service"), TcpListener::bind("127.0.0.1:0").unwrap());
    let socket = folder.join("notify");
    let told = UnixDatagram::bind(&socket).unwrap();
    let config = Config::new().only_listener(&format!("protocol: postgres, address: \"{}\"", taken.local_addr().unwrap()));
    let mut service = Service::start(socket.to_str().unwrap(), told, &folder, &config);
    assert_eq!(service.ended().code(), Some(1));
    service.told.set_nonblocking(true).unwrap();
    assert_eq!(service.told.recv(&mut [0; 256]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Holds a lease on a file (fcntl(2), F_SETLEASE): whoever opens it waits until the lease is given back, or for 45 seconds, as for a file
/// system whose server does not answer.
const HOLD: &str = "
import fcntl, signal, sys
signal.signal(signal.SIGIO, lambda *_: print('asked', flush=True))
held = open(sys.argv[1])
fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
while True:
    signal.pause()
";

#[test]
fn a_file_that_cannot_be_read_keeps_nobody_from_ending_the_process() {
    let folder = scratch("service");
    let told = UnixDatagram::bind(folder.join("notify")).unwrap();
    let mut service = Service::start(folder.join("notify").to_str().unwrap(), told, &folder, &Config::new());
    assert_eq!(service.hears(), "READY=1");
    let mut holds = Command::new(installed("python").join("bin/python"));
    let holder = Dialogue::with_program(holds.args(["-c", HOLD]).arg(folder.join("keyward.yaml")));
    assert_eq!(holder.line(), "held");
    kill_process(Pid::from_child(&service.child), Signal::HUP).unwrap();
    assert_eq!(holder.line(), "asked");
    kill_process(Pid::from_child(&service.child), Signal::TERM).unwrap();
    assert_eq!(service.hears(), "STOPPING=1");
    assert!(service.ended().success());
}

#[test]
fn the_reload_of_the_unit_file_says_whether_the_file_was_taken() {
    let folder = scratch("service");
    let told = UnixDatagram::bind(folder.join("notify")).unwrap();
    let mut service = Service::start(folder.join("notify").to_str().unwrap(), told, &folder, &Config::new());
    assert_eq!(service.hears(), "READY=1");
    let file = folder.join("keyward.yaml");
    let unit = include_str!("../docker/keyward.service");
    let reload =
        unit.lines().find_map(|line| line.strip_prefix("ExecReload=/usr/local/bin/keyward ")).expect("it reloads by Keyward itself");
    let reload = || {
        let words = reload.split(' ').map(|word| if word == "/etc/keyward/keyward.yaml" { file.to_str().unwrap() } else { word });
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(words).env_remove("KEYWARD_CONFIG");
        run(command, "", SOON)
    };
    reload().ok();
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}colour: green\n")).unwrap();
    assert_eq!(reload().code, Some(1));
    // The record that was moved away is begun anew, as logrotate wants it.
    std::fs::write(&file, good).unwrap();
    let record = folder.join("state/audit.jsonl");
    std::fs::remove_file(&record).unwrap();
    reload().ok();
    eventually("the record is there", || record.exists().then_some(()));
    kill_process(Pid::from_child(&service.child), Signal::TERM).unwrap();
    assert!(service.ended().success());
}

#[test]
fn the_unit_file_leaves_more_time_for_the_end_than_a_drain_takes() {
    let unit = include_str!("../docker/keyward.service");
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')?.parse().ok());
    let drain = keyward_config::Limits::default().drain_timeout.get();
    // After the drain, what is left is cut and leases are given back.
    assert!(Duration::from_secs(seconds.expect("a time in seconds")) > drain + Duration::from_secs(30));
}
