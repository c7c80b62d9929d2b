//! Kills in the middle of many sessions with leases. After each, every account that was made for a session is gone from the databases, but those that
//! nobody can know of: a request for one was cut off, so that neither Keyward nor the store has its name (each is named in the log as
//! a possible orphan, and cannot log in after its time), and those that the database itself does not let go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{
    Bao, Certificate, Config, Database, Dsn, Keyward, Mysql, MysqlClient, MysqlDsn, MysqlTls, Postgres, Psql, bao, canary, eventually,
    free_port, postgres15, psql, within,
};

/// How often each of them is killed.
const ROUNDS: usize = 3;
/// Logins between two kills.
const LOGINS: usize = 12;
/// A store tries again to drop an account ten seconds after it failed, then after twenty, then after forty.
const STORES_OWN_TIME: Duration = Duration::from_secs(120);

/// The servers of one test, each of which may be killed.
struct Servers {
    bao: Bao,
    postgres: Postgres,
    mariadb: Mysql,
}

/// Keyward before them, and those that ran before it.
struct Scene<'a> {
    servers: &'a Servers,
    leases: [Database<'a>; 2],
    processes: Vec<Keyward>,
    ways: Ways,
}

#[derive(Clone)]
struct Ways {
    postgres: Dsn,
    mysql: MysqlDsn,
}

/// Clients that come and go until they are stopped, whatever they are told.
struct Crowd {
    stop: Arc<AtomicBool>,
    logins: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start() -> Self {
        let mariadb = Mysql::own("mariadb", Certificate::OfTheBed, &[]).expect("it is always there");
        Self { bao: Bao::own(), postgres: Postgres::own("postgres-debian"), mariadb }
    }
}

impl<'a> Scene<'a> {
    fn new(servers: &'a Servers) -> Self {
        let Servers { bao, postgres, mariadb } = servers;
        // None ends by itself while we look: what is gone was given back.
        let leases = [bao.enable_database(postgres, "1h", "2h"), bao.enable_mysql_database(mariadb, "1h", "2h")];
        let (alice, creds) = (canary(), [leases[0].creds(), leases[1].creds()]);
        // Clients come back to the same ports.
        let config = Config::new()
            .only_listener(&format!("protocol: postgres, address: \"127.0.0.1:{}\"", free_port()))
            .listener(&format!("protocol: mysql, address: \"127.0.0.1:{}\"", free_port()))
            .store("corp", bao, &bao.approle(&[&creds[0], &creds[1]]))
            .connection(
                "orders_rw",
                &format!("address: \"{}\", database: postgres, store: corp, credential: {}", postgres.address(), creds[0]),
            )
            .mysql_connection("shop_rw", &format!("address: \"{}\", store: corp, credential: {}", mariadb.address(), creds[1]))
            .user("alice", &alice)
            .allow("alice", "*")
            .line("limits: { drain_timeout: 1s }");
        let keyward = Keyward::start(&config);
        keyward.expect_log("WARN").expect_log("ERROR");
        let mysql = MysqlDsn::new("127.0.0.1", keyward.port("mysql"), "alice", &alice).tls(MysqlTls::Verified(keyward.ca()));
        let ways = Ways { postgres: keyward.dsn("alice", &alice, "orders_rw"), mysql: mysql.database("shop_rw") };
        Self { servers, leases, processes: vec![keyward], ways }
    }

    fn keyward(&self) -> &Keyward {
        self.processes.last().unwrap()
    }

    /// Kills it and starts another one.
    fn kill_keyward(&mut self) {
        self.keyward().kill9();
        let next = self.keyward().start_again();
        next.expect_log("WARN").expect_log("ERROR");
        self.processes.push(next);
    }

    /// The accounts that were made for sessions and are there still, in both databases.
    fn accounts(&self) -> Vec<String> {
        let roles = self.servers.postgres.sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'");
        let users = self.servers.mariadb.sql("", "SELECT user FROM mysql.user WHERE user LIKE 'v-%'");
        roles.lines().chain(users.lines()).map(str::to_owned).collect()
    }

    /// How many requests for an account were said to have had no clear answer.
    fn named(&self) -> usize {
        let lines = self.processes.iter().flat_map(Keyward::log);
        lines.filter(|line| line.to_string().contains("a lease may be orphaned")).count()
    }

    /// The leases that the store has.
    fn held(&self) -> usize {
        self.leases.iter().map(Database::leases).sum()
    }

    /// As an admin does where nobody else can.
    fn revoke_all(&self) {
        for Database { mount, .. } in &self.leases {
            self.servers.bao.call("PUT", &format!("sys/leases/revoke-prefix/{mount}/creds/rw"), json!({ "sync": true }));
        }
    }

    /// How many leases this process has seen come to this.
    fn counted(&self, event: &str) -> usize {
        let metrics = self.keyward().http("/metrics").body;
        let name = format!("keyward_leases_total{{store=\"corp\",event=\"{event}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }

    /// All sessions are over: what is left of them?
    #[track_caller]
    fn comes_to_rest(&self) {
        let count = |name: &str| self.keyward().http("/metrics").body.lines().any(|line| line == format!("{name} 0"));
        within(STORES_OWN_TIME, "Keyward has no lease any more", || {
            (count("keyward_leases_live") && count("keyward_leases_waiting")).then_some(())
        });
        assert_eq!(self.keyward().cli(&["sessions", "--format", "json"]).ok(), "[]");
        if self.processes.len() == 1 {
            assert_eq!(self.counted("revoked"), self.counted("issued"), "each was given back");
        }
        within(STORES_OWN_TIME, "the store has no lease but those that nobody can know of", || (self.held() <= self.named()).then_some(()));
        within(STORES_OWN_TIME, "no account is left but those that nobody can know of", || {
            (self.accounts().len() <= self.named()).then_some(())
        });
        // Who nobody can know of ends all the same, where the database knows such an end.
        let endless = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%' AND (rolvaliduntil IS NULL OR rolvaliduntil > now() + interval '65 min')";
        assert_eq!(self.servers.postgres.sql("postgres", endless), "0", "those that are left cannot log in for longer than a lease lives");
        let forgotten = self.held();
        self.revoke_all();
        within(STORES_OWN_TIME, "an admin can end what the store still knows of", || {
            (self.held() == 0 && self.accounts().len() + forgotten <= self.named()).then_some(())
        });
        let sessions = |event: &str| -> BTreeSet<String> {
            let records = self.keyward().audit().into_iter().filter(|record| record["event"] == event);
            records.map(|record| record["session"].as_str().unwrap().to_owned()).collect()
        };
        eventually("every session has its end in the record", || (sessions("opened") == sessions("closed")).then_some(()));
        assert_eq!(psql(&self.ways.postgres, "SELECT 1").ok(), "1");
        assert_eq!(MysqlClient::of("mariadb").run(&self.ways.mysql, "SELECT 1").ok(), "1");
    }
}

impl Crowd {
    fn start(ways: &Ways) -> Self {
        let (stop, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |number: usize| {
            let (stop, logins, ways) = (Arc::clone(&stop), Arc::clone(&logins), ways.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Some are at work when the blow falls.
                    let output = match number % 4 {
                        0 => psql(&ways.postgres, "SELECT 1"),
                        1 => MysqlClient::of("mariadb").run(&ways.mysql, "SELECT 1"),
                        2 => psql(&ways.postgres, "SELECT 1; SELECT pg_sleep(1)"),
                        _ => MysqlClient::of("mariadb").run(&ways.mysql, "SELECT 1; SELECT sleep(1)"),
                    };
                    logins.fetch_add(usize::from(output.stdout.starts_with('1')), Ordering::Relaxed);
                }
            })
        };
        let clients = (0..8).map(client).collect();
        Self { stop, logins, clients }
    }

    /// Waits until so many more were in.
    #[track_caller]
    fn until_in(&self, more: usize) {
        let wanted = self.logins.load(Ordering::Relaxed) + more;
        within(STORES_OWN_TIME, "clients get in", || (self.logins.load(Ordering::Relaxed) >= wanted).then_some(()));
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
    }
}

/// Has it happen again and again among many sessions.
#[track_caller]
fn among_many_sessions(servers: &Servers, mut happens: impl FnMut(&mut Scene<'_>)) {
    let mut scene = Scene::new(servers);
    let crowd = Crowd::start(&scene.ways);
    for _ in 0..ROUNDS {
        crowd.until_in(LOGINS);
        happens(&mut scene);
    }
    crowd.until_in(LOGINS);
    crowd.stop();
    scene.comes_to_rest();
}

#[test]
fn a_keyward_that_is_killed_among_many_sessions_leaves_nothing_that_the_next_one_can_know_of() {
    among_many_sessions(&Servers::start(), |scene| scene.kill_keyward());
}

#[test]
fn a_store_that_is_killed_among_many_sessions_gets_every_lease_back_that_it_has_made() {
    let servers = Servers::start();
    among_many_sessions(&servers, |_| {
        servers.bao.kill9();
        servers.bao.start_again();
    });
}

#[test]
fn databases_that_are_killed_among_many_sessions_keep_no_account_of_them() {
    let servers = Servers::start();
    let mut postgres_is_next = true;
    among_many_sessions(&servers, |_| {
        if std::mem::replace(&mut postgres_is_next, false) {
            servers.postgres.kill9();
            servers.postgres.start();
        } else {
            servers.mariadb.kill9();
            servers.mariadb.start();
        }
    });
}

#[test]
fn a_role_that_owns_a_table_stays_as_long_as_the_database_wants_it_and_goes_with_the_table() {
    let (database, alice) = (bao().enable_database(postgres15(), "1h", "2h"), canary());
    let (creds, owned) = (database.creds(), postgres15().database());
    let body = format!("address: \"{}\", database: {owned}, store: corp, credential: {creds}", postgres15().address());
    let config = Config::new().store("corp", bao(), &bao().approle(&[&creds])).connection("orders_rw", &body);
    let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders*"));
    let client = Psql::open(&keyward.dsn("alice", &alice, "orders_rw"));
    let role = client.ask("SELECT current_user");
    client.ask("CREATE TABLE mine (id int)");
    assert_eq!(client.end(), "");
    // Keyward has given the lease back; the store cannot drop the role while it owns the table, and tries again.
    eventually("the lease is given back", || keyward.http("/metrics").body.contains("event=\"revoked\"} 1\n").then_some(()));
    let waits = |line: &Value| line.to_string().contains("could not be given back");
    assert!(postgres15().has_role(&role) && !keyward.log().iter().any(waits), "{:?}", keyward.log());
    postgres15().sql(&owned, &format!("DROP OWNED BY \"{role}\""));
    within(STORES_OWN_TIME, "the store has tried again", || (!postgres15().has_role(&role)).then_some(()));
}
