//! The greeting of MySQL's protocol: it tells the truth about the servers behind it, before anybody is known, and no server is asked for
//! it by a client.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::bed::{
    Certificate, Config, FLAGS, Greeting, Hello, Keyward, Mysql, MysqlClient, MysqlImpostor, MysqlRaw, MysqlScene, MysqlTold, bao, canary,
    eventually, flag, mariadb, mysql_packet, mysql_servers, within,
};

/// What only a side that looks into the bytes could pass on, or what would change the login.
const NEVER: u32 = flag::COMPRESS | flag::ZSTD | flag::MULTI_FACTOR | flag::CAN_HANDLE_EXPIRED_PASSWORDS | 1 << 29 | 1 << 30 | 1 << 31;
/// What Keyward speaks itself.
const OURS: u32 = flag::PROTOCOL_41
    | flag::SECURE_CONNECTION
    | flag::PLUGIN_AUTH
    | flag::PLUGIN_AUTH_LENENC
    | flag::CONNECT_ATTRS
    | flag::CONNECT_WITH_DB;

/// A listener that leads to `orders` alone.
fn alone(config: Config) -> Config {
    config.only_listener("protocol: mysql, address: \"127.0.0.1:0\", connection: orders")
}

fn greeting(port: u16) -> Greeting {
    MysqlRaw::to(port).greeting()
}

/// Waits until the listener greets with this version.
#[track_caller]
fn until_version(port: u16, version: &str) -> Greeting {
    // A server that did not answer is asked again after a while that doubles.
    within(Duration::from_secs(90), &format!("it greets as {version}"), || {
        Some(greeting(port)).filter(|greeting| greeting.version == version)
    })
}

#[test]
fn a_listener_with_one_connection_greets_as_its_server_does() {
    for server in mysql_servers() {
        let own = greeting(server.port);
        for (keys, local_files) in [("", 0), ("local_infile: true", flag::LOCAL_FILES)] {
            let scene = MysqlScene::with(server, keys, alone);
            let shown = until_version(scene.port(), &own.version);
            assert_eq!((shown.charset, shown.status, shown.extended), (own.charset, own.status, own.extended & !2), "{own:?}");
            let wanted = (own.flags & !NEVER & !flag::LOCAL_FILES) | local_files | flag::SSL | OURS;
            assert_eq!(shown.flags, wanted, "{:#x} instead of {wanted:#x}, of {:#x}", shown.flags, own.flags);
            assert_eq!(shown.plugin, "caching_sha2_password");
            assert!(shown.id >= 1 << 31, "no server has come as far");
            assert!(shown.scramble.len() == 20 && shown.scramble.iter().all(u8::is_ascii_graphic));
        }
    }
}

#[test]
fn a_flag_that_was_not_offered_changes_nothing() {
    for server in mysql_servers() {
        let scene = MysqlScene::with(server, "", alone);
        until_version(scene.port(), &greeting(server.port).version);
        for (flags, rest) in [
            (flag::COMPRESS, vec![]),
            (flag::COMPRESS | flag::ZSTD, vec![3]),
            (flag::MULTI_FACTOR | flag::CAN_HANDLE_EXPIRED_PASSWORDS, vec![]),
            (flag::LOCAL_FILES, vec![]),
            (1 << 29 | 1 << 30 | 1 << 31, vec![]),
        ] {
            let mut raw = scene.raw();
            raw.answer(&Hello { flags: FLAGS | flag::CONNECT_WITH_DB | flags, rest, ..Hello::new("alice", Some("orders")) });
            raw.prove(&scene.alice).unwrap();
            // Neither compressed nor otherwise different.
            assert_eq!(raw.query("SELECT repeat('x', 3000)").unwrap(), ["x".repeat(3000)], "{flags:#x}");
            raw.query("CREATE TABLE IF NOT EXISTS t (id int)").unwrap();
            let told = raw.query("LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE t").unwrap_err();
            assert!([1148, 3948, 4166].contains(&told.code), "the server does not ask for a file: {told:?}");
            assert_eq!(raw.query("SELECT count(*) FROM t").unwrap(), ["0"]);
        }
    }
}

#[test]
fn each_greeting_has_a_number_and_a_scramble_of_its_own() {
    let scene = MysqlScene::new(mariadb());
    let mut open: Vec<MysqlRaw> = (0..50).map(|_| scene.raw()).collect();
    let said: Vec<Greeting> = open.iter_mut().map(MysqlRaw::greeting).collect();
    let distinct = |mut all: Vec<Vec<u8>>| {
        all.sort();
        all.dedup();
        all.len()
    };
    assert_eq!(distinct(said.iter().map(|greeting| greeting.scramble.clone()).collect()), 50);
    assert_eq!(distinct(said.iter().map(|greeting| greeting.id.to_le_bytes().to_vec()).collect()), 50);
}

#[test]
fn a_listener_with_several_connections_greets_with_what_all_of_them_have() {
    let (kv, alice) = (bao().mount_kv2(), canary());
    let path = kv.path("all");
    let servers = mysql_servers();
    let mut config = Config::mysql().store("corp", bao(), &bao().approle(&[&path]));
    // One login that all servers know.
    let login = servers[0].login(servers[0].plugins()[0]);
    kv.put("all", &[("username", &login.name), ("password", &login.password)]);
    for (index, server) in servers.iter().enumerate() {
        let create = format!("CREATE USER IF NOT EXISTS '{}'@'%' IDENTIFIED BY '{}'", login.name, login.password);
        server.sql("", &create);
        let place = format!("address: \"{}\", store: corp", server.address());
        config = config.mysql_connection(
            &format!("server_{index}"),
            &format!("{place}, username: \"{path}?username\", password: \"{path}?password\""),
        );
    }
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "*"));
    let own: Vec<Greeting> = servers.iter().map(|server| greeting(server.port)).collect();
    let common = own.iter().fold(u32::MAX, |flags, greeting| flags & greeting.flags);
    // Bit 0 is the mark of a MySQL among them; then MariaDB's further flags mean nothing.
    let mysql = own.iter().any(|greeting| greeting.has(flag::LONG_PASSWORD));
    eventually("it greets for all of them", || {
        let shown = greeting(keyward.port("mysql"));
        let known = shown.flags & !NEVER & !flag::LOCAL_FILES & !OURS & !flag::SSL & !flag::LONG_PASSWORD;
        let wanted = common & !NEVER & !flag::LOCAL_FILES & !OURS & !flag::SSL & !flag::LONG_PASSWORD;
        let whole = shown.has(flag::LONG_PASSWORD) == mysql && (!mysql || shown.extended == 0);
        (known == wanted && whole && own.iter().any(|greeting| greeting.version == shown.version)).then_some(())
    });
    // And every client gets to each of them.
    for index in 0..servers.len() {
        for client in MysqlClient::all() {
            let dsn = keyward.mysql_dsn("alice", &alice).database(&format!("server_{index}"));
            assert_eq!(client.run(&dsn, "SELECT current_user()").ok(), format!("{}@%", login.name), "{client:?}, {index}");
        }
    }
}

#[test]
fn a_server_that_comes_up_later_is_learnt_without_a_restart() {
    let server = Mysql::own("mariadb", Certificate::OfTheBed, &[]).unwrap();
    let own = greeting(server.port);
    let (login, database) = (server.login(server.plugins()[0]), server.database());
    server.kill9();
    let scene = MysqlScene::of(login, &database, &server.address(), "", alone);
    let unknown = greeting(scene.port());
    assert_eq!(unknown.version, "8.0.11-keyward");
    assert!(unknown.has(FLAGS | flag::SSL) && unknown.flags & (NEVER | flag::DEPRECATE_EOF) == 0, "{unknown:?}");
    // Nobody has to log in for it.
    server.start();
    until_version(scene.port(), &own.version);
    assert_eq!(scene.session().query("SELECT database()").unwrap(), [database]);
}

#[test]
fn a_session_greeted_before_its_server_was_known_is_served() {
    for server in mysql_servers() {
        let gate = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = gate.local_addr().unwrap();
        // Nobody is told what the server is: its probe finds a listener that never says a word, until somebody connects for real.
        let scene = MysqlScene::with(server, &format!("address: \"{address}\""), |config| config);
        let mut raw = scene.raw();
        assert_eq!(raw.greeting().version, "8.0.11-keyward");
        let to = server.port;
        std::thread::spawn(move || {
            for client in gate.incoming() {
                let (client, upstream) = (client.unwrap(), std::net::TcpStream::connect(("127.0.0.1", to)).unwrap());
                let (mut up, mut down) = ((client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up.0, &mut up.1);
                    up.1.shutdown(Shutdown::Write)
                });
                std::thread::spawn(move || std::io::copy(&mut down.0, &mut down.1));
            }
        });
        scene.log_in(&mut raw).unwrap();
        assert_eq!(raw.query("SELECT 1").unwrap(), ["1"]);
    }
}

#[test]
fn a_login_learns_what_the_server_says_by_then() {
    let impostor = MysqlImpostor::on("127.0.0.1", Greeting::pretended("9.0.1-one", FLAGS | flag::CONNECT_WITH_DB), |stream, _| {
        let _ = stream.write_all(&mysql_packet(2, b"\xff\xd8\x04#08S01no"));
    });
    let scene = MysqlScene::of(mariadb().login(mariadb().plugins()[0]), "shop", &impostor.address, "", alone);
    scene.keyward.expect_log("upstream_login_rejected");
    until_version(scene.port(), "9.0.1-one");
    impostor.greet_with(Greeting::pretended("9.0.2-two", FLAGS | flag::CONNECT_WITH_DB));
    assert_eq!(greeting(scene.port()).version, "9.0.1-one", "nobody has asked it again");
    scene.log_in(&mut scene.raw()).unwrap_err();
    assert_eq!(greeting(scene.port()).version, "9.0.2-two");
}

#[test]
fn no_server_is_dialled_for_somebody_who_has_proven_nothing() {
    let impostor = MysqlImpostor::on("127.0.0.1", Greeting::pretended("9.0.1", FLAGS | flag::CONNECT_WITH_DB), |_, _| {});
    let scene = MysqlScene::of(mariadb().login(mariadb().plugins()[0]), "shop", &impostor.address, "", |config| config);
    until_version(scene.port(), "9.0.1");
    for (index, user) in ["alice", "mallory", "alice+orders", "mallory+orders"].into_iter().enumerate() {
        let mut raw = MysqlRaw::from(&format!("127.0.3.{index}"), scene.port()).unwrap();
        assert_eq!(raw.log_in(user, Some("orders"), "wrong").unwrap_err().code, 1045);
    }
    for name in ["payroll", "nothing"] {
        assert_eq!(scene.raw().log_in("alice", Some(name), &scene.alice).unwrap_err().code, 1044);
    }
    let mut lobby = scene.raw();
    lobby.log_in("alice", None, &scene.alice).unwrap();
    assert_eq!(lobby.query("SELECT 1").unwrap_err().code, 1046);
    scene.raw().greeting();
    scene.raw().send(b"GET / HTTP/1.1\r\n\r\n").rest();
    assert_eq!(impostor.connections(), 1, "asked for its greeting, once");
}

#[test]
fn a_promise_that_the_server_no_longer_keeps_fails_the_login_and_nothing_is_sent() {
    let before = FLAGS | flag::CONNECT_WITH_DB | flag::DEPRECATE_EOF;
    let impostor = MysqlImpostor::on("127.0.0.1", Greeting::pretended("9.0.1", before), |stream, _| {
        let _ = stream.shutdown(Shutdown::Both);
    });
    let scene = MysqlScene::of(mariadb().login(mariadb().plugins()[0]), "shop", &impostor.address, "", alone);
    scene.keyward.expect_log("unsupported");
    assert!(until_version(scene.port(), "9.0.1").has(flag::DEPRECATE_EOF));
    let asks = |flags: u32| Hello { flags: FLAGS | flag::CONNECT_WITH_DB | flags, ..Hello::new("alice", Some("orders")) };
    let mut greeted = scene.raw();
    greeted.greeting();
    impostor.greet_with(Greeting::pretended("9.0.1", before & !flag::DEPRECATE_EOF));
    let told = greeted.answer(&asks(flag::DEPRECATE_EOF)).prove(&scene.alice).unwrap_err();
    let words = "keyward: the client or the server lacks a feature of the protocol that this login needs (session ID)";
    assert_eq!(told, MysqlTold { sequence: 6, code: 1251, state: Some("08004".to_owned()), message: words.to_owned() });
    // The next one is not promised it. The impostor hears from somebody for the first time.
    let next = scene.raw().greeting();
    assert!(!next.has(flag::DEPRECATE_EOF));
    scene.keyward.expect_log("upstream_unreachable");
    scene.log_in(&mut scene.raw()).unwrap_err();
    assert_eq!(impostor.heard(), b"");
    assert!(scene.keyward.audit().iter().all(|record| record["event"] != "opened"));
}
