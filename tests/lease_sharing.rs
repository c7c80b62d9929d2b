//! Leases that sessions use together: one role in PostgreSQL for all who overlap, and gone with the last of them.

use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::bed::{
    Bao, Config, Database, Dsn, Hello, Keyward, MysqlLeased, Postgres, Psql, bao, canary, eventually, flag, mariadb, mysql9, postgres15,
    psql,
};

/// alice and bob may reach `orders_rw`, whose credential is a lease.
struct Scene<'a> {
    keyward: Keyward,
    database: &'a Database<'a>,
    config: Box<dyn Fn(&str) -> Config + 'a>,
    alice: String,
    bob: String,
}

impl<'a> Scene<'a> {
    /// `keys` are further keys of the connection.
    fn new(bao: &'a Bao, database: &'a Database<'a>, keys: &str) -> Self {
        Self::before(postgres15(), bao, database, keys)
    }

    /// The same before a server of the test's own.
    fn before(postgres: &Postgres, bao: &'a Bao, database: &'a Database<'a>, keys: &str) -> Self {
        let (alice, bob) = (canary(), canary());
        let approle = bao.approle(&[&database.creds()]);
        let base = Config::new().store("corp", bao, &approle).user("alice", &alice).user("bob", &bob);
        let base = base.allow("alice", "orders*").allow("bob", "orders*").line("limits: { drain_timeout: 1s }");
        let place = format!("address: \"{}\", database: postgres, store: corp, credential: {}", postgres.address(), database.creds());
        let config = Box::new(move |keys: &str| base.clone().connection("orders_rw", &format!("{place}, {keys}")));
        Self { keyward: Keyward::start(&config(keys)), database, config, alice, bob }
    }

    fn alice(&self) -> Dsn {
        self.keyward.dsn("alice", &self.alice, "orders_rw")
    }

    fn bob(&self) -> Dsn {
        self.keyward.dsn("bob", &self.bob, "orders_rw")
    }

    /// Nobody was refused, nor asked for more than the second role.
    #[track_caller]
    fn has_asked_for_two(&self) {
        let metrics = self.keyward.http("/metrics").body;
        assert!(metrics.contains("event=\"issued\"} 2\n") && !metrics.contains("refusals_total{"), "{metrics}");
    }

    #[track_caller]
    fn until_nothing_is_left(&self, role: &str) {
        eventually(&format!("the role {role} is gone"), || (!postgres15().has_role(role)).then_some(()));
        eventually("no lease is left", || (self.database.leases() == 0).then_some(()));
    }
}

fn role(client: &Psql) -> String {
    client.ask("SELECT current_user")
}

#[test]
fn sessions_of_a_user_that_overlap_use_one_role_and_the_last_gives_it_back() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: per_user");
    let first = Psql::open(&scene.alice());
    let shared = role(&first);
    let second = Psql::open(&scene.alice());
    assert_eq!(role(&second), shared);
    let other = Psql::open(&scene.bob());
    assert_ne!(role(&other), shared, "another user has his own");
    assert_eq!(database.leases(), 2);
    assert_eq!(first.end(), "");
    let third = Psql::open(&scene.alice());
    assert_eq!(role(&third), shared, "it lives as long as somebody uses it");
    assert_eq!((second.end(), third.end()), (String::new(), String::new()));
    eventually("the shared role is gone", || (!postgres15().has_role(&shared)).then_some(()));
    let others = role(&other);
    assert_eq!(other.end(), "");
    scene.until_nothing_is_left(&others);
    let next = Psql::open(&scene.alice());
    assert_ne!(role(&next), shared, "they did not overlap");
    let opened = scene.keyward.until_audit("opened", 5);
    let leases: Vec<_> = opened.iter().map(|line| line["lease"].as_str().unwrap()).collect();
    assert!(leases[0] == leases[1] && leases[0] == leases[3], "{opened:?}");
    assert!(leases[0] != leases[2] && leases[0] != leases[4], "{opened:?}");
    let joined: Vec<_> = opened.iter().map(|line| line["joined"].as_bool().unwrap()).collect();
    assert_eq!(joined, [false, true, false, true, false]);
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.contains("event=\"joined\"} 2") && metrics.contains("event=\"issued\"} 3"), "{metrics}");
}

#[test]
fn sessions_of_all_users_share_one_role_where_the_connection_says_so() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let (alices, bobs) = (Psql::open(&scene.alice()), Psql::open(&scene.bob()));
    let shared = role(&alices);
    assert_eq!((role(&bobs), database.leases()), (shared.clone(), 1));
    assert_eq!(alices.end(), "");
    assert_eq!(role(&bobs), shared);
    assert_eq!(bobs.end(), "");
    scene.until_nothing_is_left(&shared);
}

#[test]
fn a_session_may_end_another_one_that_shares_its_role() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: per_user");
    let (busy, idle) = (Psql::open(&scene.alice()), Psql::open(&scene.alice()));
    let process = busy.ask("SELECT pg_backend_pid()");
    busy.tell("SELECT pg_sleep(600);");
    eventually("the query runs and can be cancelled", || {
        let active = format!("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = {process} AND query LIKE '%pg_sleep(600)%'");
        (idle.ask(&active) == "t").then_some(())
    });
    assert!(busy.end().contains("canceling statement due to user request"));
}

#[test]
fn a_client_killed_beside_others_disturbs_none_of_them() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let (first, second) = (Psql::open(&scene.alice()), Psql::open(&scene.bob()));
    let shared = role(&second);
    first.tell("SELECT pg_sleep(600);");
    first.kill9();
    scene.keyward.until_audit("closed", 1);
    eventually("its query is stopped", || (postgres15().sessions_of(&shared) == 1).then_some(()));
    assert_eq!((role(&second), database.leases()), (shared.clone(), 1));
    assert_eq!(role(&Psql::open(&scene.alice())), shared, "and it can be joined still");
    assert_eq!(second.end(), "");
    scene.until_nothing_is_left(&shared);
}

#[test]
fn a_client_killed_while_the_role_is_made_takes_it_from_nobody() {
    let bao = Bao::own();
    let database = bao.enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(&bao, &database, "lease: shared, limits: { max_sessions: 2 }");
    assert_eq!(psql(&scene.alice(), "SELECT 1").ok(), "1");
    eventually("that lease is back", || (database.leases() == 0).then_some(()));
    bao.signal(Signal::STOP);
    let journal = scene.keyward.state().join("leases.journal");
    let asked = || std::fs::read_to_string(&journal).unwrap_or_default().matches("\"asked\"").count();
    let mut first = Command::new("psql");
    let mut first = first.args(["-X", "-w", "-c", "SELECT 1"]).envs(scene.alice().environment()).spawn().unwrap();
    eventually("the role is asked for", || (asked() == 2).then_some(()));
    let others = [scene.bob(), scene.bob()].map(|dsn| thread::spawn(move || psql(&dsn, "SELECT session_user")));
    // There is a place for one of them: that the other is sent away says that this one has it, and waits for the role too.
    eventually("one is sent away", || others.iter().any(thread::JoinHandle::is_finished).then_some(()));
    first.kill().unwrap();
    first.wait().unwrap();
    bao.signal(Signal::CONT);
    let others = others.map(|client| client.join().unwrap());
    let (stayed, sent): (Vec<_>, Vec<_>) = others.iter().partition(|output| output.code == Some(0));
    assert!(stayed.len() == 1 && sent[0].refused().contains("too many"), "{others:?}");
    scene.until_nothing_is_left(stayed[0].ok());
    let opened = scene.keyward.until_audit("opened", 2);
    assert!(opened.iter().all(|line| line["joined"] == (line["user"] == "bob")), "{opened:?}");
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.contains("event=\"issued\"} 2") && metrics.contains("event=\"joined\"} 1"), "{metrics}");
}

#[test]
fn a_lease_that_leaves_a_session_too_little_is_not_joined() {
    let database = bao().enable_database(postgres15(), "50s", "50s");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let (first, second) = (Psql::open(&scene.alice()), Psql::open(&scene.alice()));
    assert_ne!(role(&first), role(&second), "the least is a minute where the file does not say otherwise");
    drop(scene);
    let scene = Scene::new(bao(), &database, "lease: shared, min_session: 1s");
    let (first, second) = (Psql::open(&scene.alice()), Psql::open(&scene.alice()));
    assert_eq!(role(&first), role(&second));
}

#[test]
fn twenty_clients_at_once_make_one_role() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let dsns: Vec<Dsn> = (0..20).map(|n| if n % 2 == 0 { scene.alice() } else { scene.bob() }).collect();
    let clients: Vec<_> = dsns.into_iter().map(|dsn| thread::spawn(move || Psql::open(&dsn))).collect();
    let clients: Vec<Psql> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let shared = role(&clients[0]);
    assert!(clients.iter().all(|client| role(client) == shared));
    assert_eq!((database.leases(), postgres15().sessions_of(&shared)), (1, 20));
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.contains("event=\"issued\"} 1") && metrics.contains("event=\"joined\"} 19"), "{metrics}");
    drop(clients);
    scene.until_nothing_is_left(&shared);
}

#[test]
fn a_shared_role_that_the_database_lost_is_replaced_at_the_next_login() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let first = Psql::open(&scene.alice());
    let lost = first.ask("SELECT session_user");
    postgres15().sql("postgres", &format!("DROP ROLE \"{lost}\""));
    let second = Psql::open(&scene.bob());
    assert_ne!(role(&second), lost);
    assert_eq!(role(&Psql::open(&scene.alice())), role(&second));
    scene.has_asked_for_two();
}

#[test]
fn who_changes_the_password_of_a_shared_role_keeps_nobody_out() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let first = Psql::open(&scene.alice());
    let changed = role(&first);
    first.ask(&format!("ALTER ROLE CURRENT_USER PASSWORD '{}'", canary()));
    let second = Psql::open(&scene.bob());
    let shared = role(&second);
    assert_ne!(shared, changed);
    assert_eq!(role(&Psql::open(&scene.alice())), shared);
    scene.has_asked_for_two();
    assert_eq!((role(&first), first.end()), (changed.clone(), String::new()));
    eventually("the changed role is gone", || (!postgres15().has_role(&changed)).then_some(()));
    assert_eq!(second.end(), "");
    scene.until_nothing_is_left(&shared);
}

#[test]
fn a_login_that_the_server_refuses_for_what_was_asked_costs_the_others_nothing() {
    let postgres = Postgres::own("postgres-debian");
    let file = postgres.sql("postgres", "SHOW hba_file");
    postgres.sql(
        "postgres",
        &format!(
            "CREATE TEMP TABLE lines AS SELECT * FROM regexp_split_to_table(pg_read_file('{file}'), E'\\n') AS line; \
             COPY (SELECT 'host closed all all reject' UNION ALL SELECT line FROM lines) TO '{file}'; SELECT pg_reload_conf()"
        ),
    );
    let database = bao().enable_database(&postgres, "1h", "2h");
    let scene = Scene::before(&postgres, bao(), &database, "lease: shared, databases: any");
    scene.keyward.expect_log("upstream_login_rejected").expect_log("upstream_no_such_database");
    let first = Psql::open(&scene.alice());
    let closed = scene.bob().with("user", "bob+orders_rw").with("dbname", "closed");
    eventually("the server has read its file and refuses", || {
        psql(&closed, "SELECT 1").refused().contains("refused the login").then_some(())
    });
    assert_eq!(role(&Psql::open(&scene.bob())), role(&first));
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.contains("event=\"issued\"} 1\n"), "{metrics}");
}

#[test]
fn a_reload_that_changes_the_connection_makes_new_sessions_share_a_new_role() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let before = Psql::open(&scene.alice());
    scene.keyward.rewrite(&(scene.config)("lease: shared, application_name: keep"));
    scene.keyward.cli(&["reload"]).ok();
    let after = Psql::open(&scene.alice());
    assert_ne!(role(&before), role(&after));
    assert_eq!(role(&Psql::open(&scene.bob())), role(&after));
    let old = role(&before);
    assert_eq!(before.end(), "");
    eventually("the old role is gone", || (!postgres15().has_role(&old)).then_some(()));
    assert!(postgres15().has_role(&role(&after)));
}

#[test]
fn a_terminated_keyward_gives_a_shared_lease_back_before_it_ends() {
    let database = bao().enable_database(postgres15(), "1h", "2h");
    let scene = Scene::new(bao(), &database, "lease: shared");
    let clients = [Psql::open(&scene.alice()), Psql::open(&scene.bob())];
    let shared = role(&clients[0]);
    scene.keyward.sigterm();
    assert!(scene.keyward.until_ended().success());
    // Nobody is there any more who could still ask for that.
    eventually("the role is gone", || (!postgres15().has_role(&shared)).then_some(()));
    eventually("the store has it back", || (database.leases() == 0).then_some(()));
}

#[test]
fn nothing_that_a_user_of_mysql_asks_for_looks_like_a_lost_account() {
    for server in [Some(mariadb()), mysql9()].into_iter().flatten() {
        let stage = MysqlLeased::with(server, "lease: shared, databases: any", |config| config);
        stage.scene.keyward.expect_log("upstream_").expect_log("malformed");
        let (mut first, _) = stage.session(Some("orders_rw"));
        let comes = |database: &[u8], charset: u8, attributes: &[u8]| {
            let hello = Hello::new("carol+orders_rw", Some(""));
            let flags = hello.flags | if attributes.is_empty() { 0 } else { flag::CONNECT_ATTRS };
            let mut payload = Hello { flags, database: Some(database.to_vec()), rest: attributes.to_vec(), ..hello }.encode();
            payload[8] = charset;
            let mut raw = stage.scene.raw();
            raw.greeting();
            raw.say(&payload).prove(&stage.carol).is_ok()
        };
        assert!(comes(b"", 8, b"") && comes(b"", 45, b"\x04\x01a\x01b"));
        // swe7, which has other letters for some of ASCII's; filename, ucs2, utf16 and utf32, which no client may have; binary; and none.
        for charset in [10, 17, 35, 54, 60, 63, 254, 255] {
            comes(b"", charset, b"");
        }
        for database in [b"absent".as_slice(), b"mysql", &[b'x'; 64], &[b'x'; 1000], b"\xff\xfe", b"a`'\"%_/../"] {
            assert!(!comes(database, 45, b""));
        }
        for attributes in [b"\x00".as_slice(), b"\x06\x01\xff\x03\xff\xfe\0"] {
            comes(b"", 45, attributes);
        }
        let long = [b"\xfc\x05\xea\x01a\xfc\x00\xea".as_slice(), &[b'x'; 0xea00]].concat();
        comes(b"", 45, &long);
        assert_eq!(stage.carols_session(Some("orders_rw")).0.account(), first.account());
        let metrics = stage.scene.keyward.http("/metrics").body;
        assert!(metrics.contains("event=\"issued\"} 1\n"), "{metrics}");
    }
}
