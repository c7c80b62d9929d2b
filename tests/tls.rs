//! TLS on both sides: what clients insist on and get, and that no upstream is given a credential before it has proven who it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::bed::{
    Dsn, Login, Method, Postgres, SSL_REQUEST, Scene, canary, eventually, installed, own_address, pin, postgres15, postgres18, psql, run,
};

const INSIDE: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
const UNVERIFIED: &str = "the server behind this connection could not be verified";
const REJECTED: &str = "the server behind this connection refused the login";

#[test]
fn psql_verifies_the_name_the_authority_and_the_channel() {
    let scene = Scene::new(postgres15());
    let bound = scene.dsn().with("channel_binding", "require");
    assert_eq!(psql(&bound, "SELECT 1").ok(), "1");
    assert_eq!(psql(&bound.clone().with("ssl_max_protocol_version", "TLSv1.2"), "SELECT 1").ok(), "1");
    assert_eq!(psql(&scene.dsn().with("sslmode", "disable"), "SELECT 1").ok(), "1");
    let proofs: Vec<_> = scene.keyward.until_audit("opened", 3).iter().map(|record| record["proof"].clone()).collect();
    assert_eq!(proofs, ["scram-sha-256-plus", "scram-sha-256-plus", "scram-sha-256"]);
    // What psql refuses by itself.
    let other_ca = postgres15().ca().display().to_string();
    assert!(psql(&bound.clone().with("sslrootcert", &other_ca), "SELECT 1").refused().contains("certificate verify failed"));
    assert!(psql(&bound.clone().with("host", "keyward.example"), "SELECT 1").refused().contains("does not match host name"));
    let unbound = bound.with("sslmode", "disable");
    assert!(psql(&unbound, "SELECT 1").refused().contains("channel binding required"));
}

#[test]
fn libpq_18_opens_with_tls_at_once_and_speaks_protocol_3_2() {
    let scene = Scene::new(postgres15());
    let direct = scene.dsn().with("sslnegotiation", "direct").with("channel_binding", "require");
    for (least, most) in [("3.0", "3.0"), ("3.2", "latest")] {
        let dsn = direct.clone().with("min_protocol_version", least).with("max_protocol_version", most);
        assert_eq!(libpq18(&scene, &dsn), scene.app.name);
    }
    let asked = scene.dsn().with("min_protocol_version", "3.2").with("max_protocol_version", "latest");
    assert_eq!(libpq18(&scene, &asked), scene.app.name);
}

#[test]
fn direct_tls_without_the_name_of_the_protocol_is_refused() {
    let scene = Scene::new(postgres15());
    // A browser that was made to speak to us (ALPACA): no name, or another one. Neither hears a byte of PostgreSQL.
    assert_eq!(scene.raw().tls(&scene.ca(), None).expect("TLS itself").rest(), b"");
    assert!(scene.raw().tls(&scene.ca(), Some("http/1.1")).is_err());
    // An older libpq names no protocol behind its SSLRequest; that is fine.
    let mut asked = scene.raw();
    assert_eq!(asked.send(&SSL_REQUEST).byte(), Some(b'S'));
    scene.log_in(&mut asked.tls(&scene.ca(), None).unwrap()).unwrap();
    scene.log_in(&mut scene.raw().tls(&scene.ca(), Some("postgresql")).unwrap()).unwrap();
    scene.keyward.until_malformed(2);
}

#[test]
fn a_listener_shows_the_certificate_of_its_own() {
    let data = postgres15().ca().with_file_name("data");
    let (certificate, key) = (data.join("server.pem"), data.join("server.key"));
    let tls = format!("tls: {{ certificate: \"{}\", private_key: \"{}\" }}", certificate.display(), key.display());
    let listener = format!("protocol: postgres, address: \"127.0.0.1:0\", {tls}");
    let scene = Scene::with(postgres15(), "", |config| config.only_listener(&listener));
    let dsn = scene.dsn().with("sslrootcert", &postgres15().ca().display().to_string()).with("channel_binding", "require");
    assert_eq!(psql(&dsn, "SELECT 1").ok(), "1");
}

/// The keys of a connection to `postgres18()` by name.
fn keys(tls: &str) -> String {
    format!("address: \"localhost:{}\", tls: {tls}", postgres18().port)
}

fn mode(mode: &str, rest: &str) -> String {
    keys(&format!("{{ mode: {mode}, {rest} }}"))
}

#[test]
fn an_upstream_is_verified_as_far_as_the_connection_says() {
    let (ca, pin) = (format!("ca: \"{}\"", postgres18().ca().display()), pin(&postgres18().ca().with_file_name("data").join("server.pem")));
    let other_name = format!("{ca}, server_name: other.example");
    let pinned = format!("pinned_key: \"{pin}\"");
    for (keys, ssl, by) in [
        (keys("disable"), "f", "local"),
        (keys("require"), "t", "local"),
        (mode("verify-full", &ca), "t", "certificate"),
        (keys(&format!("{{ {ca} }}")), "t", "certificate"),
        (mode("verify-ca", &ca), "t", "chain"),
        (mode("verify-ca", &other_name), "t", "chain"),
        (mode("require", &pinned), "t", "pinned_key"),
        (mode("verify-full", &pinned), "t", "pinned_key"),
    ] {
        let scene = Scene::with(postgres18(), &keys, |config| config);
        assert_eq!(psql(&scene.dsn(), INSIDE).ok(), ssl, "{keys}");
        assert_eq!(scene.keyward.until_audit("opened", 1)[0]["verified_by"], by, "{keys}");
    }
}

#[test]
fn an_upstream_that_does_not_prove_who_it_is_gets_nothing() {
    let ca = |postgres: &Postgres| format!("ca: \"{}\"", postgres.ca().display());
    let wrong_pin = "pinned_key: \"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"";
    for keys in [
        keys("verify-full"),
        keys("verify-ca"),
        mode("verify-full", &ca(postgres15())),
        mode("verify-ca", &ca(postgres15())),
        mode("verify-full", &format!("{}, server_name: other.example", ca(postgres18()))),
        mode("require", wrong_pin),
        mode("verify-full", &format!("{}, {wrong_pin}", ca(postgres18()))),
    ] {
        let scene = Scene::with(postgres18(), &keys, |config| config);
        scene.keyward.expect_log("upstream_unverified");
        let said = psql(&scene.dsn(), "SELECT 1").refused().to_owned();
        assert!(said.contains(UNVERIFIED) && !said.contains("other.example"), "{keys}: {said}");
        let denied = scene.keyward.until_audit("denied", 1);
        assert_eq!(denied[0]["stage"], "connect", "before the login");
    }
}

#[test]
fn a_client_certificate_opens_an_upstream_that_asks_for_one() {
    let postgres = Postgres::own("postgres-18");
    let (login, folder) = (postgres.login(Method::Scram), postgres.ca().parent().unwrap().to_path_buf());
    client_certificate(&folder, &login.name);
    let data = folder.join("data").display().to_string();
    postgres.sql("postgres", &format!("ALTER SYSTEM SET ssl_ca_file = '{}'", folder.join("clients.pem").display()));
    let rule = format!("COPY (VALUES ('hostssl all {} 127.0.0.1/32 cert'), ('host all all 127.0.0.1/32 scram-sha-256'))", login.name);
    postgres.sql("postgres", &format!("{rule} TO '{data}/pg_hba.conf'; SELECT pg_reload_conf()"));
    let base = format!("mode: verify-full, ca: \"{}\"", postgres.ca().display());
    let own = format!("certificate: \"{0}/client.pem\", private_key: \"{0}/client.key\"", folder.display());
    let scene = |tls: &str| {
        let login = Login { name: login.name.clone(), password: login.password.clone() };
        Scene::of(login, "", &format!("address: \"localhost:{}\", tls: {{ {tls} }}", postgres.port), |config| config)
    };
    let shown = scene(&format!("{base}, {own}"));
    let subject = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    eventually("PostgreSQL has read its files again", || psql(&shown.dsn(), subject).stdout.contains(&login.name).then_some(()));
    shown.keyward.expect_log("upstream_login_rejected"); // until it had
    let none = scene(&base);
    none.keyward.expect_log("upstream_login_rejected");
    assert!(psql(&none.dsn(), "SELECT 1").refused().contains(REJECTED));
}

#[test]
fn an_upstream_may_ask_only_for_the_login_that_require_auth_names() {
    let words = ["scram-sha-256", "md5", "password", "none"];
    let methods = [Method::Scram, Method::Md5, Method::Cleartext, Method::Trust];
    for (index, method) in methods.into_iter().enumerate() {
        let others: Vec<_> = words.into_iter().filter(|word| *word != words[index]).collect();
        for (allowed, fits) in [(words[index].to_owned(), true), (format!("[{}]", others.join(", ")), false)] {
            let keys = format!("require_auth: {allowed}");
            let scene = Scene::of(postgres15().login(method), &postgres15().address(), &keys, |config| config);
            if fits {
                assert_eq!(psql(&scene.dsn(), "SELECT current_user").ok(), scene.app.name, "{method:?}");
            } else {
                scene.keyward.expect_log("require_auth does not allow");
                assert!(psql(&scene.dsn(), "SELECT 1").refused().contains(REJECTED), "{method:?}, {allowed}");
            }
        }
    }
}

#[test]
fn a_server_without_tls_is_refused_where_the_connection_wants_it() {
    for mode in ["verify-full", "require"] {
        let (address, heard) = impostor("127.0.0.1", |stream| drop(stream.write_all(b"N")));
        let scene = Scene::of(login(), &address, &format!("tls: {mode}"), |config| config);
        scene.keyward.expect_log("upstream_unverified");
        assert!(psql(&scene.dsn(), "SELECT 1").refused().contains(UNVERIFIED), "{mode}");
        assert_eq!(heard.recv_timeout(Duration::from_secs(20)).unwrap(), b"", "{mode}: something behind the SSLRequest");
    }
}

#[test]
fn a_server_elsewhere_without_proof_gets_no_secret_even_where_it_may_be_used() {
    let here = own_address();
    // It says that it is a PostgreSQL without TLS, and asks for the clear text or an MD5 hash.
    for (tls, asks) in [("disable", [0, 0, 0, 8, 0, 0, 0, 3].as_slice()), ("disable", &[0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4])] {
        let (address, heard) = impostor(&here, move |stream| drop(stream.write_all(&[b"R", asks].concat())));
        let insecure = format!("tls: {tls}, insecure: \"a test\"");
        let scene = Scene::of(login(), &address, &insecure, |config| config);
        scene.keyward.expect_log("WARN");
        assert!(psql(&scene.dsn(), "SELECT 1").refused().contains(REJECTED));
        assert_eq!(heard.recv_timeout(Duration::from_secs(20)).unwrap(), b"", "an answer to the question for the password");
    }
}

#[test]
fn the_login_upstream_is_bound_to_the_tls_channel_where_the_server_can() {
    let (address, heard) = impostor("127.0.0.1", |stream| {
        stream.write_all(b"S").unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(server_config(postgres18())).unwrap(), &mut *stream);
        let mut startup = [0; 4];
        tls.read_exact(&mut startup).unwrap();
        tls.read_exact(&mut vec![0; usize::try_from(u32::from_be_bytes(startup)).unwrap() - 4]).unwrap();
        let mechanisms = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let length = u32::try_from(mechanisms.len() + 8).unwrap();
        tls.write_all(&[b"R", length.to_be_bytes().as_slice(), &10_u32.to_be_bytes(), mechanisms].concat()).unwrap();
        let mut answer = [0; 5 + 19 + 4 + 24];
        tls.read_exact(&mut answer).unwrap();
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert!(said[5..].starts_with("SCRAM-SHA-256-PLUS\0") && said.ends_with("p=tls-server-end-point,,"), "{said:?}");
    });
    let tls = format!("tls: {{ mode: verify-full, ca: \"{}\" }}", postgres18().ca().display());
    let scene = Scene::of(login(), &address, &tls, |config| config);
    scene.keyward.expect_log("upstream_unreachable");
    psql(&scene.dsn(), "SELECT 1").refused();
    heard.recv_timeout(Duration::from_secs(20)).expect("the impostor saw what it wanted");
    // And the real server takes such a proof.
    let real = Scene::of(
        postgres18().login(Method::ScramTls),
        "",
        &mode("verify-full", &tls[tls.find("ca:").unwrap()..tls.len() - 2]),
        |config| config,
    );
    assert_eq!(psql(&real.dsn(), INSIDE).ok(), "t");
}

/// psycopg on libpq 18: the newest libpq with TLS that is at hand.
#[track_caller]
fn libpq18(scene: &Scene, dsn: &Dsn) -> String {
    let program = "import sys, psycopg\nassert psycopg.pq.version() >= 180000\n\
                   print(psycopg.connect(sys.argv[1]).execute('SELECT current_user').fetchone()[0])";
    let mut command = Command::new(installed("python").join("bin/python"));
    command.env("PGPASSWORD", &scene.alice).args(["-c", program, &dsn.text()]);
    run(command, "", Duration::from_secs(60)).ok().to_owned()
}

fn login() -> Login {
    Login { name: "app".to_owned(), password: canary() }
}

/// A server on this address that reads a first packet, does as it is told, and tells what it was sent after that. An answer that never
/// comes (`recv` fails) means that nobody connected, or that it did not see what it wanted.
fn impostor(ip: &str, act: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let (address, (tell, heard)) = (listener.local_addr().unwrap(), mpsc::channel());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        stream.read_exact(&mut vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4]).unwrap();
        act(&mut stream);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        tell.send(rest)
    });
    (address.to_string(), heard)
}

fn server_config(postgres: &Postgres) -> Arc<ServerConfig> {
    let data = postgres.ca().with_file_name("data");
    let chain = vec![CertificateDer::from_pem_file(data.join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data.join("server.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::new(builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// `clients.pem`, an authority, and `client.pem` and `client.key`, its certificate for this name.
fn client_certificate(folder: &Path, name: &str) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "The authority for clients");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("clients.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, name);
    std::fs::write(folder.join("client.pem"), leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem()).unwrap();
    std::fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
}
