//! Secrets that change: the next login has the new one, the store is asked no more often than it must be, and a server's no stands where nothing
//! has changed.

use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{
    Config, Dsn, Keyward, Kv, Login, Method, Postgres, Psql, Recorder, bao, canary, eventually, postgres15, postgres18, psql, within,
};

/// alice may reach `orders`, whose login is in the store.
struct Scene {
    keyward: Keyward,
    alice: Dsn,
}

impl Scene {
    /// `credential` says where in the store it is, `keys` are further keys of the store.
    fn new(address: &str, credential: &str, path: &str, keys: &str) -> Self {
        let alice = canary();
        let body = format!("address: \"{address}\", database: postgres, store: corp, {credential}");
        let config = Config::new().store_with("corp", bao(), &bao().approle(&[path]), keys).connection("orders", &body);
        let keyward = Keyward::start(&config.user("alice", &alice).allow("alice", "orders"));
        let alice = keyward.dsn("alice", &alice, "orders");
        Self { keyward, alice }
    }

    /// With the login of this role in a KV secret.
    fn kv(kv: &Kv<'_>, app: &Login, keys: &str) -> Self {
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        Self::new(&postgres15().address(), &format!("credential: {path}"), &path, keys)
    }

    #[track_caller]
    fn logs_in_as(&self, app: &Login) {
        assert_eq!(psql(&self.alice, "SELECT current_user").ok(), app.name);
    }

    #[track_caller]
    fn all_log_in_at_once_as(&self, app: &Login) {
        let clients: Vec<_> =
            (0..20).map(|_| self.alice.clone()).map(|dsn| thread::spawn(move || psql(&dsn, "SELECT current_user"))).collect();
        clients.into_iter().for_each(|client| assert_eq!(client.join().unwrap().ok(), app.name));
    }

    /// How many requests of this kind the store has answered.
    fn reads(&self, operation: &str) -> u64 {
        let metrics = self.keyward.http("/metrics").body;
        let counter = format!("keyward_store_calls_total{{store=\"corp\",operation=\"{operation}\",outcome=\"ok\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&counter)).map_or(0, |count| count.parse().unwrap())
    }
}

/// A new password for the role in the database; the store is told by the test.
fn change(server: &Postgres, app: &mut Login) {
    app.password = canary();
    server.sql("postgres", &format!("ALTER ROLE {} PASSWORD '{}'", app.name, app.password));
}

#[test]
fn twenty_logins_at_once_read_the_secret_once_and_once_again_when_it_has_changed() {
    let (kv, mut app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
    let scene = Scene::kv(&kv, &app, "");
    scene.all_log_in_at_once_as(&app);
    assert_eq!(scene.reads("kv_read"), 1);
    change(postgres15(), &mut app);
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    scene.all_log_in_at_once_as(&app);
    assert_eq!(scene.reads("kv_read"), 2);
    let versions: Vec<_> = scene.keyward.until_audit("opened", 40).iter().map(|record| record["version"].as_u64()).collect();
    assert_eq!((&versions[..20], &versions[20..]), (&[Some(1); 20][..], &[Some(2); 20][..]));
}

#[test]
fn a_password_that_changed_in_the_database_alone_is_read_again_and_not_tried_again() {
    let (kv, mut app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let (path, way) = (kv.path("orders"), Recorder::before(postgres15().port));
    let scene = Scene::new(&way.address, &format!("credential: {path}"), &path, "");
    scene.keyward.expect_log("upstream_login_rejected");
    scene.logs_in_as(&app);
    change(postgres15(), &mut app);
    let begin = Instant::now();
    for _ in 0..5 {
        let output = psql(&scene.alice, "SELECT 1");
        assert!(output.refused().contains("refused the login"), "{output:?}");
    }
    // The way to the server begins with the name of the user.
    let name = app.name.as_bytes();
    let logins = way.until_ended().windows(name.len()).filter(|bytes| *bytes == name).count();
    assert_eq!(logins, 6, "one login upstream for each of alice's");
    let most = 2 + begin.elapsed().as_secs() / 5;
    assert!(scene.reads("kv_read") <= most, "{} of {most}", scene.reads("kv_read"));
    // The store learns of it. Nobody has to wait until the cache forgets.
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    eventually("the next login has it", || (psql(&scene.alice, "SELECT 1").code == Some(0)).then_some(()));
}

#[test]
fn a_cached_password_logs_in_again_and_again_bound_to_the_channel_and_so_does_the_next_one() {
    for server in [postgres15(), postgres18()] {
        let (kv, mut app) = (bao().mount_kv2(), server.login(Method::ScramTls));
        kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        let path = kv.path("orders");
        let tls = format!("tls: {{ mode: verify-full, ca: \"{}\" }}, require_auth: scram-sha-256", server.ca().display());
        let scene = Scene::new(&server.address(), &format!("credential: {path}, {tls}"), &path, "");
        for reads in 1..=2 {
            for _ in 0..3 {
                scene.logs_in_as(&app);
            }
            scene.all_log_in_at_once_as(&app);
            assert_eq!(scene.reads("kv_read"), reads);
            change(server, &mut app);
            kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
        }
    }
}

#[test]
fn servers_that_stored_a_password_with_one_salt_or_with_their_own_let_in_who_has_it() {
    let (kv, mut app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
    let other = postgres18().login(Method::Scram);
    let secret = |app: &Login, other: &Login| {
        kv.put("orders", &[("username", &app.name), ("password", &app.password), ("other", &other.name)]);
    };
    let path = kv.path("orders");
    let alice = canary();
    let mut config = Config::new().store("corp", bao(), &bao().approle(&[&path]));
    for (name, server, key) in [("orders", postgres15(), "username"), ("copy", postgres18(), "other")] {
        let credential = format!("username: \"{path}?{key}\", password: \"{path}?password\"");
        let body = format!("address: \"{}\", database: postgres, store: corp, {credential}", server.address());
        config = config.connection(name, &body).allow("alice", name);
    }
    secret(&app, &other);
    let stored = |app: &Login| postgres15().sql("postgres", &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", app.name));
    let copy = |stored: &str| postgres18().sql("postgres", &format!("ALTER ROLE {} PASSWORD '{stored}'", other.name));
    copy(&stored(&app));
    let keyward = Keyward::start(&config.user("alice", &alice));
    let log_in = |connection: &str| psql(&keyward.dsn("alice", &alice, connection), "SELECT current_user").ok().to_owned();
    let all = |app: &Login| {
        for _ in 0..2 {
            assert_eq!((log_in("orders"), log_in("copy")), (app.name.clone(), other.name.clone()));
        }
    };
    all(&app);
    // The same password with another salt, as each server that is told it by itself makes one.
    copy(&app.password);
    all(&app);
    change(postgres15(), &mut app);
    copy(&stored(&app));
    secret(&app, &other);
    all(&app);
}

#[test]
fn a_secret_that_is_used_is_read_again_before_its_time() {
    let (kv, app) = (bao().mount_kv2(), postgres15().login(Method::Scram));
    let scene = Scene::kv(&kv, &app, "cache_ttl: 20s");
    within(Duration::from_secs(90), "it was read for the third time", || {
        scene.logs_in_as(&app);
        std::thread::sleep(Duration::from_millis(300));
        (scene.reads("kv_read") >= 3).then_some(())
    });
    let metrics = scene.keyward.http("/metrics").body;
    assert!(metrics.contains("keyward_store_cache_total{store=\"corp\",event=\"miss\"} 1\n"), "only the first login waited: {metrics}");
}

#[test]
fn a_pinned_version_stays_until_it_is_destroyed() {
    let (kv, app, other) = (bao().mount_kv2(), postgres15().login(Method::Scram), postgres15().login(Method::Scram));
    kv.put("orders", &[("username", &app.name), ("password", &app.password)]);
    let path = kv.path("orders");
    let credential = format!("username: \"{path}?username&version=1\", password: \"{path}?password&version=1\"");
    let scene = Scene::new(&postgres15().address(), &credential, &path, "cache_ttl: 1s");
    scene.keyward.expect_log("credentials_unavailable");
    scene.logs_in_as(&app);
    kv.put("orders", &[("username", &other.name), ("password", &other.password)]);
    let before = scene.reads("kv_read");
    eventually("it was read again", || {
        scene.logs_in_as(&app);
        (scene.reads("kv_read") > before).then_some(())
    });
    let destroy = format!("{}/destroy/orders", kv.mount);
    bao().call("PUT", &destroy, serde_json::json!({ "versions": [1] }));
    eventually("it is gone", || {
        let output = psql(&scene.alice, "SELECT 1");
        (output.code != Some(0)).then(|| assert!(output.refused().contains("is not available"), "{output:?}"))
    });
}

#[test]
fn a_static_role_that_was_rotated_underneath_is_read_again_by_the_next_login() {
    let (database, app) = (bao().enable_database(postgres15(), "1h", "2h"), postgres15().login(Method::Scram));
    let path = database.static_role(&app.name);
    let scene = Scene::new(&postgres15().address(), &format!("credential: {path}"), &path, "");
    let session = Psql::open(&scene.alice);
    database.rotate(&app.name);
    scene.all_log_in_at_once_as(&app);
    assert_eq!(scene.reads("static_read"), 2);
    assert_eq!(session.ask("SELECT current_user"), app.name, "who is in stays in");
}

#[test]
fn nobody_is_refused_while_a_static_role_is_rotated_again_and_again() {
    let (database, app) = (bao().enable_database(postgres15(), "1h", "2h"), postgres15().login(Method::Scram));
    let path = database.static_role_every(&app.name, "7s");
    let scene = Scene::new(&postgres15().address(), &format!("credential: {path}"), &path, "");
    let hash = || postgres15().sql("postgres", &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", app.name));
    let (mut last, mut changes) = (hash(), 0);
    within(Duration::from_secs(60), "it was rotated twice", || {
        scene.logs_in_as(&app);
        let now = hash();
        changes += usize::from(now != last);
        last = now;
        (changes == 2).then_some(())
    });
}

#[test]
fn an_account_that_a_replica_learns_of_late_gets_in_at_the_second_try() {
    let primary = Postgres::own("postgres-debian");
    let replica = primary.replica("300ms");
    let database = bao().enable_database(&primary, "1h", "2h");
    let path = database.creds();
    let scene = Scene::new(&replica.address(), &format!("credential: {path}"), &path, "");
    // On a slow machine the first try may come late enough.
    eventually("one came too early", || {
        let session = Psql::open(&scene.alice);
        let role = session.ask("SELECT current_user");
        assert_eq!(session.ask("SELECT pg_is_in_recovery()"), "t");
        assert_eq!(database.leases(), 1, "the same account again, and no second one");
        assert_eq!(session.end(), "");
        eventually("no lease is left", || (database.leases() == 0).then_some(()));
        replica.has_refused(&role).then_some(())
    });
}
