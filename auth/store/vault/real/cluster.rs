//! A cluster of three: its standbys answer reads by themselves and lag behind, its leader steps down, is sealed, is killed.

use reqwest::header::HeaderValue;

use super::leases::accounts;
use super::own::{Keys, Own, secret};
use super::*;
use crate::store::vault::client::{Call, Client, Retry};
use crate::store::vault::login::Login;
use crate::store::vault::settings::Settings;
use crate::store::{Stay, StoreErrorKind};

/// A client that knows this node only.
fn client_of(node: &Own) -> Client {
    let settings = json!({"address": node.address(), "auth": {"method": "token", "token": "unused"}});
    let settings: Settings = serde_json::from_value(settings).unwrap();
    Client::new("corp", &settings, sample::nobody()).unwrap()
}

/// What a fresh read gives.
async fn number(client: &Client, path: &str, root: &HeaderValue) -> u64 {
    let call = Call { fresh: true, ..Call::get("kv_read", path) };
    let mut answer = client.call(&call, Some(root), Retry::Idempotent).await.unwrap_or_else(|failure| panic!("{}", failure.brief()));
    answer.take_data()["data"]["n"].as_u64().unwrap()
}

#[tokio::test]
async fn a_fresh_read_a_login_and_the_first_use_of_a_token_are_no_victims_of_a_standby_that_lags() {
    let (nodes, keys) = Own::cluster(&binary()).await;
    let (leader, standby) = (&nodes[0], client_of(&nodes[1]));
    let mount = leader.kv(&keys).await;
    let (path, root) = (format!("{mount}/data/n"), HeaderValue::from_str(&keys.root).unwrap());
    leader.post(&keys, "sys/auth/approle", json!({"type": "approle"})).await;
    leader.post(&keys, "auth/approle/role/r", json!({"token_policies": "default"})).await;
    let role_id = leader.ask(Method::GET, "auth/approle/role/r/role-id", Some(&keys), Value::Null).await.1["data"]["role_id"].clone();
    let secret_id = leader.post(&keys, "auth/approle/role/r/secret-id", json!({})).await["data"]["secret_id"].clone();
    let body = json!({"role_id": role_id, "secret_id": secret_id});
    leader.post(&keys, &path, json!({"data": {"n": 0}})).await;
    nodes[1].eventually("to know the mount", async || nodes[1].ask(Method::GET, &path, Some(&keys), Value::Null).await.0 == 200).await;
    // As in life, a fresh read is not the first call: an answer has said which cluster this is.
    let known = standby.call(&Call::get("token_lookup", "auth/token/lookup-self"), Some(&root), Retry::Idempotent).await;
    assert!(known.is_ok());
    for n in 1..=50_u64 {
        // Somebody else writes, at the leader: nothing told us how far it is.
        leader.post(&keys, &path, json!({"data": {"n": n}})).await;
        assert_eq!(number(&standby, &path, &root).await, n);
        let login = Call { method: Method::POST, body: Some(&body), ..Call::get("login", "auth/approle/login") };
        let answer = standby.call(&login, None, Retry::Unsent).await.unwrap_or_else(|failure| panic!("{}", failure.brief()));
        let token = HeaderValue::from_str(answer.body["auth"]["client_token"].as_str().unwrap()).unwrap();
        let first = standby.call(&Call::get("token_lookup", "auth/token/lookup-self"), Some(&token), Retry::Idempotent).await;
        assert!(first.is_ok(), "{}", first.err().map(|failure| failure.brief()).unwrap_or_default());
        if n <= 10 {
            // Somebody has just made another secret id: as a wrong one it would be held back for an hour, and count towards a lock.
            let made = leader.post(&keys, "auth/approle/role/r/secret-id", json!({})).await["data"]["secret_id"].clone();
            log_in(&standby, &json!({"method": "approle", "role_id": role_id, "secret_id": made})).await;
        }
    }
}

/// A login by a store with these keys.
async fn log_in(client: &Client, auth: &Value) {
    let settings: Settings = serde_json::from_value(json!({ "auth": auth })).unwrap();
    let login = Login::from_settings(&settings, None, Stay::Serves, &sample::nowhere()).unwrap();
    let ready = login.prepare(client).await.unwrap();
    let granted = login.perform(client, &ready).await;
    assert!(granted.is_ok(), "{}", granted.err().map(|rejected| rejected.error.detail).unwrap_or_default());
}

#[tokio::test]
async fn a_node_that_is_sealed_and_a_leader_that_steps_down_are_not_noticed() {
    let (nodes, keys) = Own::cluster(&binary()).await;
    let (mount, role) = (nodes[0].kv(&keys).await, nodes[0].database(&keys, postgres(), "", 3600).await);
    let connections = [("db", secret(&mount)), ("role", format!("credential: {role}/creds/r"))];
    let connections: Vec<(&str, &str)> = connections.iter().map(|(name, keys)| (*name, keys.as_str())).collect();
    let bed = Own::bed_of(&[&nodes[1], &nodes[0], &nodes[2]], &keys, "", &connections);
    bed.credential("db").await;
    nodes[1].ask(Method::PUT, "sys/seal", Some(&keys), json!({})).await;
    for _ in 0..3 {
        assert_eq!(password(&*bed.credential("db").await), "x");
        drop(bed.lease("role").await.unwrap());
    }
    nodes[1]
        .eventually("to be open again", async || {
            nodes[1].unseal(&keys).await;
            nodes[1].ask(Method::GET, "sys/health?standbyok=true", None, Value::Null).await.0 == 200
        })
        .await;
    nodes[0].ask(Method::PUT, "sys/step-down", Some(&keys), json!({})).await;
    assert_eq!(password(&*bed.credential("db").await), "x");
    nodes[2].eventually("to issue leases again", async || bed.lease("role").await.is_ok()).await;
    assert_eq!(bed.gate.drain(Duration::from_secs(60)).await, 0);
    assert_eq!(bed.seen.count("away"), 0);
    all_given_back(&nodes[2], &keys, &role, &[&bed]).await;
}

/// Each lease was given back, long before its time, and no more accounts and leases are left than were told to the operator.
async fn all_given_back(node: &Own, keys: &Keys, mount: &str, beds: &[&Bed]) {
    for bed in beds {
        let issued = bed.seen.count("issued");
        assert!(issued > 0 && issued == bed.seen.count("revoked"), "{:?}", bed.seen.0.borrow());
    }
    let told: usize = beds.iter().map(|bed| bed.seen.count("possible_orphan")).sum();
    let accounts_of = |mount: &str| accounts(mount).parse::<usize>().unwrap();
    node.eventually("to have dropped the accounts", async || accounts_of(mount) <= told).await;
    node.eventually("to have ended the leases", async || node.leases(keys, mount).await.is_some_and(|left| left <= told)).await;
}

/// Asks for leases, one after the other, until it is told to stop. Whatever fails must be an outage.
async fn ask_for_leases(bed: &Bed, mut stop: watch::Receiver<bool>) -> usize {
    let mut given = 0;
    while !*stop.borrow_and_update() {
        match bed.lease("role").await {
            Ok(_) => given += 1,
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    given
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_killed_reads_go_on_and_no_lease_is_lost() {
    kill_the_leader(&binary()).await;
}

/// The scene of that test, with a server of any age.
pub(super) async fn kill_the_leader(program: &Path) {
    let (nodes, keys): (Vec<Own>, Keys) = Own::cluster(program).await;
    let (mount, role) = (nodes[0].kv(&keys).await, nodes[0].database(&keys, postgres(), "", 3600).await);
    // What is held meanwhile is renewed once there is another leader.
    let held = nodes[0].database(&keys, postgres(), "", 24).await;
    let of = |role: &str| format!("credential: {role}/creds/r");
    let connections = [("db", secret(&mount)), ("role", of(&role)), ("held", of(&held))];
    let connections: Vec<(&str, &str)> = connections.iter().map(|(name, keys)| (*name, keys.as_str())).collect();
    let bed = Own::bed_of(&nodes.iter().collect::<Vec<_>>(), &keys, "", &connections);
    // Another Keyward knows one standby only, where it logs in, and which sends it to the dead leader.
    let rights = |path: String, right: &str| format!("path \"{path}\" {{ capabilities = [\"{right}\"] }}\n");
    let reads = [format!("{mount}/data/p"), format!("{role}/creds/r"), format!("{held}/creds/r")].map(|path| rights(path, "read"));
    let auth = nodes[0].approle(&keys, &(reads.concat() + &rights("sys/leases/revoke".to_owned(), "update"))).await;
    let by_standby = Bed::of(&format!("address: '{}', auth: {auth}, cache_ttl: 0s", nodes[1].address()), &connections);
    // It knows what was written before the last that it knows: an id that it did not know yet would be held back as a wrong one.
    let last = format!("{mount}/data/last");
    nodes[0].post(&keys, &last, json!({"data": {}})).await;
    nodes[1].eventually("to have come so far", async || nodes[1].ask(Method::GET, &last, Some(&keys), Value::Null).await.0 == 200).await;
    let held = (nodes[0].lease(&bed, "held").await, nodes[0].lease(&by_standby, "held").await);
    let closing = nodes[0].lease(&by_standby, "role").await;
    let (stop, stopped) = watch::channel(false);
    let asking = ask_for_leases(&bed, stopped);
    let scene = async {
        nodes[0].kill();
        // It is given back to a standby that sends us to nobody.
        drop(closing);
        let renewed = (bed.seen.count("renewed"), by_standby.seen.count("renewed"));
        let end = Instant::now() + Duration::from_secs(60);
        let mut led = false;
        while !led && Instant::now() < end {
            assert_eq!(password(&*bed.credential("db").await), "x", "reads go on");
            assert_eq!(password(&*by_standby.credential("db").await), "x", "reads go on");
            for node in &nodes[1..] {
                led |= node.ask(Method::GET, "sys/health", None, Value::Null).await.0 == 200;
            }
        }
        assert!(led, "another leader");
        bed.seen.wait_for("renewed", renewed.0 + 1).await;
        by_standby.seen.wait_for("renewed", renewed.1 + 1).await;
        stop.send_replace(true);
    };
    let (given, ()) = tokio::join!(asking, scene);
    assert!(given > 0, "leases are given on");
    nodes[1].eventually("to issue leases again", async || by_standby.lease("role").await.is_ok()).await;
    assert_eq!((bed.seen.count("lost"), by_standby.seen.count("lost")), (0, 0));
    drop(held);
    assert_eq!((bed.gate.drain(Duration::from_secs(60)).await, by_standby.gate.drain(Duration::from_secs(60)).await), (0, 0));
    all_given_back(&nodes[1], &keys, &role, &[&bed, &by_standby]).await;
}
