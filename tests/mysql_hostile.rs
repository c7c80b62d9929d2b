//! Clients that stay away with their proof, say half of it, ask for what is not theirs by other names, or do not read what they are told.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::bed::{
    Hello, Mysql, MysqlClient, MysqlLeased, MysqlRaw, MysqlScene, MysqlTold, Recorder, SOON, eventually, flag, mariadb, mysql_packet,
    mysql9, uninterrupted,
};

const UTF8MB4: u16 = 45;
const NEVER: &str = "SELECT 'never'";

fn servers() -> impl Iterator<Item = &'static Mysql> {
    [Some(mariadb()), mysql9()].into_iter().flatten()
}

/// What a client of a session still has to say once it has asked for a change of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owes {
    /// The answer to the plugin's question.
    Answer,
    /// The password itself.
    Password,
}

/// A session of alice's, inside TLS and ready to send files, that has said all but this.
#[track_caller]
fn owing(scene: &MysqlScene, owes: Owes) -> MysqlRaw {
    let mut raw = scene.secure_raw();
    let hello = Hello::new("alice", Some("orders"));
    raw.answer(&Hello { flags: hello.flags | flag::LOCAL_FILES, ..hello }).prove(&scene.alice).unwrap();
    assert_eq!(raw.query("SELECT 'recorded'").unwrap(), ["recorded"]);
    raw.command(0x11, b"alice\0\0orders\0\x2d\0caching_sha2_password\0");
    assert_eq!(raw.ordered().unwrap()[0], 0xfe, "the plugin's question");
    if owes == Owes::Password {
        raw.say(&[7; 32]);
        assert_eq!(raw.ordered().unwrap(), [1, 4]);
    }
    raw
}

/// What is sent instead of the packet with this number, what is told then, and what it is.
fn not_whole(number: u8, owes: Owes) -> Vec<(Vec<u8>, u16, &'static str)> {
    let query = mysql_packet(0, &[b"\x03", NEVER.as_bytes()].concat());
    let cut = [&[200, 0, 0, number], query.as_slice()].concat();
    let mut cases = vec![
        (Vec::new(), 1159, "nothing"),
        (vec![200, 0], 1159, "half a header"),
        (cut, 1159, "the first part of a packet"),
        (mysql_packet(99, &query), 1043, "another number"),
        (mysql_packet(number, &query.repeat(5000)), 1043, "a packet longer than a proof"),
        ([&[0xff, 0xff, 0xff, number], query.as_slice()].concat(), 1043, "a packet that goes on in the next one"),
    ];
    if owes == Owes::Password {
        cases.push((mysql_packet(number, &query), 1043, "a query for a password"));
    }
    cases
}

#[test]
fn a_proof_that_is_late_or_not_whole_ends_the_session_and_no_byte_of_it_reaches_a_server() {
    for (server, keys) in servers().flat_map(|server| [(server, ""), (server, ", local_infile: true")]) {
        let recorder = Recorder::before(server.port);
        let keys = format!("address: \"{}\"{keys}", recorder.address);
        let scene = MysqlScene::with(server, &keys, |config| config.line("limits: { handshake_timeout: 7s }"));
        let mut owing: Vec<_> = [Owes::Answer, Owes::Password]
            .into_iter()
            .flat_map(|owes| (0..not_whole(0, owes).len()).map(move |case| (owes, case)))
            .map(|(owes, case)| {
                let mut raw = owing(&scene, owes);
                let (bytes, code, what) = not_whole(raw.next, owes).swap_remove(case);
                raw.send(&bytes);
                (raw, code, format!("{what} while it owes its {owes:?}, {keys}"))
            })
            .collect();
        for (raw, code, what) in &mut owing {
            let (sequence, told) = raw.packet().unwrap_or_else(|| panic!("{what}: an end without a word"));
            assert_eq!((told[0], MysqlTold::of(sequence, &told).code), (0xff, *code), "{what}");
            // It knows better now; its server must not hear it.
            raw.say(&[scene.alice.as_bytes(), &[0]].concat()).ask(NEVER);
            assert_eq!(raw.packet(), None, "{what}: an answer");
        }
        let closed = scene.keyward.until_audit("closed", owing.len());
        assert!(closed.iter().all(|record| record["outcome"] == "client_failed"), "{closed:?}");
        let said = String::from_utf8_lossy(&recorder.until_ended()).into_owned();
        assert_eq!(said.matches("SELECT 'recorded'").count(), owing.len(), "all of it is recorded");
        assert!(!said.contains("never") && !said.contains(&scene.alice), "{said:?}");
        server.until_gone(&scene.app.name);
    }
}

#[test]
fn the_name_of_a_connection_that_is_not_his_is_no_name_of_a_database() {
    for server in servers() {
        let scene = MysqlScene::with(server, "databases: any", |config| {
            config.listener("protocol: mysql, address: \"127.0.0.1:0\", connection: orders")
        });
        // The server has one of that name, and would let him.
        server.sql("", &format!("CREATE DATABASE IF NOT EXISTS payroll; GRANT ALL ON payroll.* TO '{}'@'%'", scene.app.name));
        // The listener that leads to any connection, and the one that leads to `orders`.
        for (port, connection) in scene.keyward.ports("mysql").into_iter().zip([Some("orders"), None]) {
            let mut raw = MysqlRaw::to(port);
            raw.log_in("alice", connection, &scene.alice).unwrap();
            raw.change_user("alice+orders", "payroll", UTF8MB4, &scene.alice).unwrap();
            assert_eq!(raw.query("SELECT DATABASE()").unwrap(), ["payroll"]);
            raw.change_user("alice+orders", "", UTF8MB4, &scene.alice).unwrap();
            raw.query("SET @mine = 42").unwrap();
            for (user, database) in [
                ("alice+payroll", ""),
                ("alice+payroll", "payroll"),
                ("alice+payroll", "orders"),
                ("alice+payroll", &scene.database),
                ("alice+payroll+default", ""),
            ] {
                let told = raw.change_user(user, database, UTF8MB4, &scene.alice).unwrap_err();
                let wanted = (1044, "keyward: no such connection, or it is not open to you (session ID)");
                assert_eq!((told.code, told.message.as_str()), wanted, "{user} {database}");
                assert_eq!(raw.query("SELECT DATABASE(), @mine").unwrap(), [format!("{}\t42", scene.database)]);
            }
        }
    }
}

#[test]
fn a_change_of_the_user_that_fails_is_on_record_with_the_name_that_was_tried() {
    let stage = MysqlLeased::new(mariadb());
    let (mut raw, _) = stage.session(Some("orders"));
    let tries = [("carol", "wrong"), ("carol", stage.carol.as_str()), ("mallory", "wrong"), ("mallory", &stage.carol), ("alice", "wrong")];
    let told = tries.map(|(user, password)| raw.change_user(user, "orders", UTF8MB4, password).unwrap_err());
    assert_eq!(told[0].code, 1045);
    assert!(told.iter().all(|other| *other == told[0]), "whether it is another user's password is told: {told:?}");
    assert_eq!(raw.change_user("alice", "payroll", UTF8MB4, &stage.scene.alice).unwrap_err().code, 1044);
    let keyward = &stage.scene.keyward;
    let denied = keyward.until_audit("denied", 6);
    let seen: Vec<_> = denied.iter().map(|record| [&record["user"], &record["refusal"]].map(|field| field.as_str().unwrap())).collect();
    let wanted = tries.map(|(user, _)| [user, "not_authenticated"]);
    assert_eq!(seen, [&wanted[..], &[["alice", "not_permitted"]]].concat());
    let opened = keyward.until_audit("opened", 1);
    assert!(denied.iter().all(|record| record["session"] == opened[0]["session"]), "{denied:?}");
    let connections: Vec<_> = denied.iter().map(|record| record["connection"].as_str().unwrap()).collect();
    assert_eq!(connections, ["orders", "orders", "orders", "orders", "orders", "payroll"], "as they were tried");
    let metrics = keyward.http("/metrics").body;
    for line in [
        "{protocol=\"mysql\",refusal=\"not_authenticated\",party=\"client\",stage=\"login\"} 5\n",
        "{protocol=\"mysql\",refusal=\"not_permitted\",party=\"client\",stage=\"authorise\"} 1\n",
    ] {
        assert!(metrics.contains(&format!("keyward_refusals_total{line}")), "{metrics}");
    }
    raw.change_user("alice", "orders", UTF8MB4, &stage.scene.alice).unwrap();
    assert_eq!((keyward.audit().len(), opened.len()), (7, 1), "and one that succeeds is no record");
}

/// One who asks and asks in the lobby and does not read the answers, up to where he is not read from any more. He stays, and goes on as
/// soon as he can.
#[track_caller]
fn stuck(scene: &MysqlScene) {
    let mut raw = scene.raw();
    raw.log_in("alice", None, &scene.alice).expect("alice is let in");
    let (tell, stalled) = mpsc::channel();
    thread::spawn(move || {
        let (mut writer, questions, mut asked) = (raw.writer(), mysql_packet(0, b"\x03SELECT 1").repeat(1000), 0);
        for patience in [Duration::from_millis(500), SOON * 2] {
            writer.set_write_timeout(Some(patience)).unwrap();
            while let Ok(bytes) = uninterrupted(|| writer.write(&questions[asked..])) {
                asked = (asked + bytes) % questions.len();
            }
            let _ = tell.send(());
        }
    });
    stalled.recv_timeout(SOON).expect("he stalls");
}

/// How many sockets of this port a program holds: connected (01), or left by the client alone (08).
fn held(port: u16) -> usize {
    let (table, port) = (std::fs::read_to_string("/proc/net/tcp").unwrap(), format!(":{port:04X}"));
    let of_port = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && ["01", "08"].contains(&fields[3])
    };
    table.lines().skip(1).filter(of_port).count()
}

#[test]
fn who_does_not_read_in_the_lobby_makes_room() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { handshakes: 2, handshake_timeout: 10m }"));
    (0..4).for_each(|_| stuck(&scene));
    eventually("a newcomer gets in", || MysqlClient::Mariadb.run(&scene.dsn(), "SELECT 1").stdout.starts_with('1').then_some(()));
    // Their sockets are closed, and not only their places given away, while they still do not read.
    eventually("no socket is left", || (held(scene.port()) == 0).then_some(()));
}

#[test]
fn a_drain_does_not_wait_for_who_does_not_read_in_the_lobby() {
    let scene = MysqlScene::with(mariadb(), "", |config| config.line("limits: { handshake_timeout: 10m, drain_timeout: 200ms }"));
    (0..3).for_each(|_| stuck(&scene));
    scene.keyward.sigterm();
    // Without a WARN that something was cut, too: that is looked for where the scene ends.
    assert!(scene.keyward.until_ended().success());
}
