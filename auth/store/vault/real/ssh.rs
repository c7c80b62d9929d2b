//! The SSH engine: certificates and one-time passwords; and keys that stand in KV.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use keyward_ssh_transport::certificate::{Certificate, Permission, UserCheck};
use keyward_ssh_transport::key::{PublicKey, SkPolicy};
use keyward_ssh_transport::revocation::Revocations;
use keyward_ssh_transport::sign::read_private_key;

use super::*;
use crate::StoreErrorKind;

/// A connection to a server of this name whose account has these keys.
fn server(host: &str, keys: &str) -> String {
    format!("protocol: ssh, address: '{host}', {keys}")
}

/// An SSH mount whose authority signs; its name.
async fn authority(kind: &str) -> String {
    let mount = unique("ssh");
    post(&format!("sys/mounts/{mount}"), json!({"type": "ssh"})).await;
    post(&format!("{mount}/config/ca"), json!({"generate_signing_key": true, "key_type": kind})).await;
    mount
}

async fn signing_role(mount: &str, name: &str, settings: Value) {
    let mut role = json!({"key_type": "ca", "allow_user_certificates": true, "allowed_users": "app,web", "max_ttl": "30m"});
    role.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    post(&format!("{mount}/roles/{name}"), role).await;
}

async fn otp_role(mount: &str) {
    let role = json!({"key_type": "otp", "default_user": "ubuntu", "allowed_users": "ubuntu,web", "cidr_list": "127.0.0.0/8,::1/128"});
    post(&format!("{mount}/roles/otp"), role).await;
}

/// Asks the store as a server would that was given this password. `None`: it knows no such one, or not any more.
async fn verify(mount: &str, otp: &str) -> Option<Value> {
    let url = format!("{}/v1/{mount}/verify", bao());
    let answer = reqwest::Client::new().post(url).json(&json!({ "otp": otp })).send().await.unwrap();
    let (ok, body): (bool, Value) = (answer.status().is_success(), answer.json().await.unwrap());
    assert!(ok || body["errors"][0] == "OTP not found", "{body}");
    ok.then(|| body["data"].clone())
}

/// A token that may do only this, as `auth:` in the file.
async fn token(policy: &str) -> String {
    let name = unique("policy");
    post(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    let token = post("auth/token/create", json!({"policies": [name], "no_parent": true, "ttl": "1h"})).await;
    format!("{{ method: token, token: {} }}", token["auth"]["client_token"].as_str().unwrap())
}

fn public(credential: &Credential) -> PublicKey {
    let passphrase = credential.passphrase().map(crate::Secret::expose);
    read_private_key(credential.private_key().unwrap().expose(), passphrase).unwrap().public().clone()
}

#[tokio::test]
async fn each_session_has_a_key_of_its_own_that_the_authority_certifies_for_a_moment() {
    let mount = authority("ed25519").await;
    signing_role(&mount, "app", json!({"default_extensions": {"permit-pty": ""}})).await;
    let names = kv("2", "linux", json!({"account": "web"})).await;
    let auth = token(&format!(
        "path \"{mount}/sign/app\" {{ capabilities = [\"update\"] }}\npath \"{names}/data/linux\" {{ capabilities = [\"read\"] }}"
    ))
    .await;
    let bed = Bed::open(
        &auth,
        &[
            ("given", &server("web-1", &format!("username: {{ literal: app }}, credential: {mount}/sign/app"))),
            ("named", &server("web-1", &format!("username: '{names}/data/linux?account', credential: {mount}/sign/app"))),
        ],
    );
    let trusted = admin_text(&format!("{mount}/public_key")).await;
    let trusted = PublicKey::parse_line(&trusted).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut keys = Vec::new();
    for (connection, user) in [("given", "app"), ("given", "app"), ("named", "web")] {
        let lease = bed.lease(connection).await.unwrap();
        let credential = lease.credential().unwrap();
        assert_eq!((credential.username(), credential.password().is_none(), lease.is_leased()), (user, true, false));
        let certificate = Certificate::parse_line(credential.certificate().unwrap()).unwrap();
        let check = UserCheck {
            authorities: std::slice::from_ref(&trusted),
            revocations: &Revocations::default(),
            principal: user,
            source: None,
            now,
            policy: SkPolicy::TOUCH,
        };
        let granted = certificate.check_user(&check).unwrap();
        assert!(granted.key == public(&credential) && granted.permissions == [Permission::Pty], "{granted:?}");
        assert!((now + 100..=now + 150).contains(&granted.valid_before), "{} at {now}", granted.valid_before);
        keys.push(granted.key);
        // What was made for this login alone is not tried again.
        assert!(bed.gate.refetch(&bed.grant(connection), &lease).await.unwrap().is_none());
        let provenance = lease.provenance();
        assert!(!provenance.cached && provenance.request_id.len() == 36 && provenance.lease.is_none(), "{provenance:?}");
        assert_eq!(provenance.certificate, Some(granted.serial));
        assert_eq!(provenance.paths[0], format!("{mount}/sign/app"));
    }
    assert_eq!(bed.lease("named").await.unwrap().provenance().paths[1], format!("{names}/data/linux?account"));
    assert!(keys[0] != keys[1] && keys[1] != keys[2]);
    assert_eq!((bed.seen.count("sign ok"), bed.seen.count("kv_read ok"), bed.gate.lease_stats().live), (4, 1, 0));
}

async fn admin_text(path: &str) -> String {
    reqwest::get(format!("{}/v1/{path}", bao())).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn what_a_role_does_not_sign_says_what_to_change() {
    let (mount, rsa, empty) = (authority("ed25519").await, authority("ssh-rsa").await, unique("ssh"));
    let (transit, secrets) = (unique("transit"), kv("2", "x", json!({"username": "u"})).await);
    post(&format!("sys/mounts/{empty}"), json!({"type": "ssh"})).await;
    post(&format!("sys/mounts/{transit}"), json!({"type": "transit"})).await;
    for (mount, role, settings) in [
        (&mount, "app", json!({})),
        (&mount, "short", json!({"ttl": "60s", "max_ttl": "60s"})),
        (&mount, "nobody", json!({"allowed_users": ""})),
        (&mount, "hosts", json!({"allow_user_certificates": false, "allow_host_certificates": true, "allowed_domains": "*"})),
        (&mount, "no_ed25519", json!({"allowed_user_key_lengths": {"rsa": 2048}})),
        (&mount, "many", json!({"allowed_users": "*"})),
        (&rsa, "sha1", json!({"algorithm_signer": "ssh-rsa"})),
        (&rsa, "sha2", json!({})),
        (&empty, "app", json!({})),
    ] {
        signing_role(mount, role, settings).await;
    }
    otp_role(&mount).await;
    let keys = |user: &str, role: &str| server("web-1", &format!("username: {{ literal: '{user}' }}, credential: {role}"));
    let cases = [
        ("stranger", "canary", format!("{mount}/sign/app"), StoreErrorKind::Denied, "allowed_users"),
        ("short", "app", format!("{mount}/sign/short"), StoreErrorKind::Denied, "raise it to 2m"),
        ("nobody", "canary", format!("{mount}/sign/nobody"), StoreErrorKind::Denied, "allowed_users"),
        ("hosts", "app", format!("{mount}/sign/hosts"), StoreErrorKind::Denied, "allow_user_certificates"),
        ("otp", "app", format!("{mount}/sign/otp"), StoreErrorKind::Denied, "key_type=ca"),
        ("no_ed25519", "app", format!("{mount}/sign/no_ed25519"), StoreErrorKind::Denied, "allowed_user_key_lengths"),
        ("many", "app,canary", format!("{mount}/sign/many"), StoreErrorKind::Malformed, "comma"),
        ("sha1", "app", format!("{rsa}/sign/sha1"), StoreErrorKind::Malformed, "algorithm_signer"),
        ("no_role", "canary", format!("{mount}/sign/absent"), StoreErrorKind::NotFound, "no such role"),
        ("no_authority", "app", format!("{empty}/sign/app"), StoreErrorKind::NotFound, "config/ca"),
        ("not_ssh", "app", format!("{transit}/sign/app"), StoreErrorKind::Malformed, "of type transit"),
        ("kv", "app", format!("{secrets}/sign/app"), StoreErrorKind::Malformed, "has no roles"),
        ("no_mount", "app", "nowhere-at-all/sign/app".to_owned(), StoreErrorKind::NotFound, "nowhere-at-all/sign/app"),
    ];
    let mut connections: Vec<(&str, String)> = cases.iter().map(|(name, user, role, ..)| (*name, keys(user, role))).collect();
    connections.push(("sha2", keys("app", &format!("{rsa}/sign/sha2"))));
    let connections: Vec<(&str, &str)> = connections.iter().map(|(name, keys)| (*name, keys.as_str())).collect();
    let bed = Bed::as_root(&connections);
    for (connection, _, _, kind, says) in cases {
        let error = bed.error(connection).await;
        assert_eq!(error.kind, kind, "{connection}: {error}");
        assert!(error.detail.contains(says) && !error.detail.contains("canary"), "{connection}: {error}");
    }
    assert!(bed.credential("sha2").await.certificate().is_some(), "an RSA authority signs by SHA-2 if nobody tells it otherwise");
    let auth = token(&format!("path \"{secrets}/data/x\" {{ capabilities = [\"read\"] }}")).await;
    let forbidden = Bed::open(&auth, &[("web", &keys("app", &format!("{mount}/sign/app")))]);
    assert_eq!(forbidden.error("web").await.kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn a_one_time_password_is_what_the_server_is_told_and_is_given_back_once_it_was_used() {
    let mount = authority("ed25519").await;
    otp_role(&mount).await;
    let auth = token(&format!(
        "path \"{mount}/creds/otp\" {{ capabilities = [\"update\"] }}\npath \"sys/leases/revoke\" {{ capabilities = [\"update\"] }}"
    ))
    .await;
    let role = format!("credential: {mount}/creds/otp");
    let bed = Bed::open(
        &auth,
        &[
            ("default", &server("127.0.0.1:2200", &role)),
            ("named", &server("127.0.0.2", &format!("username: {{ literal: web }}, {role}"))),
            ("resolved", &server("localhost", &role)),
            ("version_6", &server("[::1]:22", &role)),
        ],
    );
    for (connection, user, addresses) in [
        ("default", "ubuntu", ["127.0.0.1"].as_slice()),
        ("named", "web", &["127.0.0.2"]),
        ("resolved", "ubuntu", &["127.0.0.1", "::1"]),
        ("version_6", "ubuntu", &["::1"]),
    ] {
        let mut lease = bed.lease(connection).await.unwrap();
        let credential = lease.credential().unwrap();
        assert_eq!(credential.username(), user, "{connection}");
        assert!(lease.is_leased() && !lease.is_own() && lease.provenance().lease.is_some());
        let told = verify(&mount, password(&credential)).await.unwrap();
        assert_eq!((told["username"].as_str(), told["role_name"].as_str()), (Some(user), Some("otp")));
        assert!(addresses.contains(&told["ip"].as_str().unwrap()), "{connection}: {told}");
        assert!(verify(&mount, password(&credential)).await.is_none(), "once");
        assert!(bed.gate.refetch(&bed.grant(connection), &lease).await.unwrap().is_none());
        // Logged in: the lease goes, the session stays.
        assert_eq!(bed.gate.lease_stats().live, 1);
        lease.forget_credential();
        assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
        assert!(lease.ended().now_or_never().is_none());
    }
    assert_eq!((bed.seen.count("issued"), bed.seen.count("revoked")), (4, 4));
}

#[tokio::test]
async fn a_one_time_password_that_nobody_used_opens_nothing_afterwards() {
    let mount = authority("ed25519").await;
    otp_role(&mount).await;
    let bed = Bed::as_root(&[("web", &server("127.0.0.1", &format!("credential: {mount}/creds/otp")))]);
    let lease = bed.lease("web").await.unwrap();
    let credential = lease.credential().unwrap();
    let journal = std::fs::read_to_string(bed.state.path().join("leases.journal")).unwrap();
    assert!(journal.contains(&format!("{mount}/creds/otp/")) && !journal.contains(password(&credential)), "{journal}");
    drop(lease);
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
    // The store has taken it back, which is not yet to have ended it.
    let url = format!("{}/v1/sys/leases/lookup/{mount}/creds/otp", bao());
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let list = reqwest::Client::new().request(Method::from_bytes(b"LIST").unwrap(), &url).header("x-vault-token", ROOT);
        if list.send().await.unwrap().status() == reqwest::StatusCode::NOT_FOUND {
            break;
        }
        assert!(Instant::now() < end, "the lease did not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(verify(&mount, password(&credential)).await.is_none());
}

#[tokio::test]
async fn what_a_role_gives_no_one_time_password_for_says_what_to_change() {
    let mount = authority("ed25519").await;
    otp_role(&mount).await;
    signing_role(&mount, "ca", json!({})).await;
    let role = |role: &str| format!("credential: {mount}/creds/{role}");
    let named = |user: &str, at: &str| format!("username: {{ literal: {user} }}, {}", role(at));
    let database = super::leases::database(60, 60).await;
    let bed = Bed::as_root(&[
        ("elsewhere", &server("192.0.2.7", &role("otp"))),
        ("stranger", &server("127.0.0.1", &named("canary", "otp"))),
        ("no_role", &server("127.0.0.1", &named("canary", "absent"))),
        ("of_certificates", &server("127.0.0.1", &role("ca"))),
        ("of_certificates_named", &server("127.0.0.1", &named("app", "ca"))),
        ("unknown_host", &server("no-such-host.invalid", &role("otp"))),
        ("shared", &server("127.0.0.1", &format!("{}, lease: shared", role("otp")))),
        ("of_a_database", &server("127.0.0.1", &format!("username: {{ literal: app }}, credential: {database}/creds/r"))),
    ]);
    for (connection, kind, says) in [
        ("elsewhere", StoreErrorKind::Denied, "cidr_list"),
        ("stranger", StoreErrorKind::Denied, "allowed_users"),
        ("no_role", StoreErrorKind::NotFound, "no such role"),
        ("of_certificates", StoreErrorKind::Malformed, "default_user"),
        ("of_certificates_named", StoreErrorKind::Denied, "key_type=otp"),
        ("unknown_host", StoreErrorKind::Unavailable, "name is unknown"),
        ("of_a_database", StoreErrorKind::Malformed, "only that of an SSH engine takes one"),
    ] {
        let error = bed.error(connection).await;
        assert_eq!(error.kind, kind, "{connection}: {error}");
        assert!(error.detail.contains(says) && !error.detail.contains("canary"), "{connection}: {error}");
    }
    assert_eq!((bed.seen.count("issued"), bed.seen.count("possible_orphan")), (0, 0));
    let identity = Identity::of("alice", Proof::ScramSha256, Source::local());
    let shared = bed.gate.authorise(&identity, "ssh", "shared", None, SessionId::random()).unwrap();
    let error = bed.gate.lease(&shared).await.unwrap_err();
    assert!(error.detail.contains("per_session"), "{error}");
    assert_eq!(bed.gate.drain(Duration::from_secs(20)).await, 0);
}

/// A key as `ssh-keygen` writes it, and its public half.
fn keygen(folder: &Path, name: &str, arguments: &[&str]) -> (String, PublicKey) {
    let file = folder.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-f"]).arg(&file).args(arguments).output().expect("apt-get install openssh-client");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let public = std::fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap();
    (std::fs::read_to_string(file).unwrap(), PublicKey::parse_line(&public).unwrap())
}

#[tokio::test]
async fn keys_that_were_pasted_into_kv_on_any_system_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let mount = unique("kv");
    post(&format!("sys/mounts/{mount}"), json!({"type": "kv", "options": {"version": "2"}})).await;
    let kinds: [(&str, &[&str]); 5] = [
        ("ed25519", &["-t", "ed25519", "-N", ""]),
        ("ecdsa", &["-t", "ecdsa", "-b", "384", "-N", ""]),
        ("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]),
        ("rsa_pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""]),
        ("sealed", &["-t", "ed25519", "-N", "the passphrase"]),
    ];
    let mut connections = Vec::new();
    let mut expected = Vec::new();
    for (name, arguments) in kinds {
        let (text, public) = keygen(folder.path(), name, arguments);
        for (way, pasted) in [
            ("unix", text.clone()),
            ("windows", text.replace('\n', "\r\n")),
            ("cut", text.trim_end().to_owned()),
            ("windows_cut", text.trim_end().replace('\n', "\r\n")),
        ] {
            let secret = format!("{name}-{way}");
            put(&mount, "2", &secret, json!({"username": "ops", "private_key": pasted, "passphrase": "the passphrase"})).await;
            let path = format!("{mount}/data/{secret}");
            connections.push((format!("{secret}-whole"), server("web-1", &format!("credential: {path}"))));
            let parts = format!("username: {{ literal: ops }}, private_key: '{path}?private_key', passphrase: '{path}?passphrase'");
            connections.push((format!("{secret}-parts"), server("web-1", &parts)));
            expected.push((secret, public.clone()));
        }
    }
    let connections: Vec<(&str, &str)> = connections.iter().map(|(name, keys)| (name.as_str(), keys.as_str())).collect();
    let bed = Bed::as_root(&connections);
    for (secret, key) in expected {
        for form in ["whole", "parts"] {
            let credential = bed.credential(&format!("{secret}-{form}")).await;
            assert!(credential.username() == "ops" && public(&credential) == key, "{secret}-{form}");
            assert!(credential.certificate().is_none());
        }
    }
}

#[tokio::test]
async fn a_certificate_may_stand_beside_its_key_in_kv() {
    let folder = tempfile::tempdir().unwrap();
    let (text, key) = keygen(folder.path(), "key", &["-t", "ed25519", "-N", ""]);
    keygen(folder.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let signed =
        Command::new("ssh-keygen").args(["-q", "-s", "ca", "-I", "id", "-n", "ops", "key.pub"]).current_dir(folder.path()).status();
    assert!(signed.unwrap().success());
    let line = std::fs::read_to_string(folder.path().join("key-cert.pub")).unwrap();
    let mount = kv("2", "ops", json!({"username": "ops", "private_key": text, "certificate": line})).await;
    put(&mount, "2", "db", json!({"username": "app", "password": "x", "certificate": {"of": "something else"}})).await;
    let db = format!("credential: {mount}/data/db");
    let bed = Bed::as_root(&[("web", &server("web-1", &format!("credential: {mount}/data/ops"))), ("db", &db)]);
    let credential = bed.credential("web").await;
    let certificate = Certificate::parse_line(credential.certificate().unwrap()).unwrap();
    assert!(*certificate.key() == key && public(&credential) == key);
    assert_eq!(bed.credential("db").await.certificate(), None, "of a database it means something else");
}
