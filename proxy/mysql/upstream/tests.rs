use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use keyward_auth::tls::SystemRoots;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::mysql::sample::{self, Client};
use crate::mysql::wire::{ClientFirst, client_first};
use crate::mysql::{NAME, PREFACE};
use crate::read_ahead::ReadAhead;
use crate::upstream::VerifiedBy;

const SCRAMBLE: [u8; 20] = *b"scramble of 20 bytes";
/// What a MySQL of today can do, but for TLS.
const MYSQL: Capabilities = Capabilities(0xdfff_ffff & !Capabilities::SSL.0);
const CLIENT: Capabilities = Capabilities::PROTOCOL_41
    .or(Capabilities::LONG_PASSWORD)
    .or(Capabilities::SECURE_CONNECTION)
    .or(Capabilities::PLUGIN_AUTH)
    .or(Capabilities::CONNECT_ATTRS)
    .or(Capabilities::TRANSACTIONS)
    .or(Capabilities::DEPRECATE_EOF);

fn greets(plugin: &str, capabilities: Capabilities) -> Greeting {
    Greeting {
        version: b"9.7.4".to_vec(),
        thread_id: 77,
        scramble: SCRAMBLE.to_vec(),
        capabilities,
        charset: 255,
        status: 2,
        plugin: plugin.as_bytes().to_vec(),
    }
}

fn asking() -> Asking<'static> {
    Asking {
        client: CLIENT,
        offered: capabilities::offer(MYSQL, true, false),
        max_packet: 1 << 24,
        charset: 45,
        database: Some(b"shop"),
        attributes: vec![(b"program_name".to_vec(), b"mysql".to_vec())],
    }
}

/// How a whole login went: what was reached and what became of it, each as the caller of both would see it.
struct Met {
    by: VerifiedBy,
    login: Result<Ready, Failure>,
}

/// Connects and logs in as `app` with the password `hidden`. `rest` are further keys of the connection.
async fn log_in(address: &str, rest: &str, asking: &Asking<'_>) -> Result<Met, SessionError> {
    let password = if rest.contains("private_key") { "" } else { ", password: { literal: hidden }" };
    let gate = sample::gate(&format!(
        "connections:\n  orders: {{ protocol: {NAME}, address: \"{address}\", username: {{ literal: app }}{password}{rest} }}\n"
    ));
    let [grant] = gate.operator_grants().try_into().ok().unwrap();
    let credential = gate.lease(&grant).await.unwrap().credential().unwrap();
    let endpoint = Endpoint::of(&grant, &PREFACE, &Arc::new(SystemRoots::default()))?;
    let mut reached = connect(endpoint, asking).await?;
    let methods = Methods::default();
    let rules = Rules { methods: &methods, server_public_key: None };
    let login = login(&mut reached, &credential, &rules).await;
    Ok(Met { by: reached.verified.by(), login })
}

/// The same, with a server on loopback that does what `script` says with its one client.
async fn meet<T>(rest: &str, asking: &Asking<'_>, script: impl AsyncFnOnce(Client) -> T) -> (Result<Met, SessionError>, T) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = async { script(Client::at(Stream::Tcp(listener.accept().await.unwrap().0), 0)).await };
    let both = async { tokio::join!(log_in(&address, rest, asking), server) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("one of the two waits for the other")
}

fn ready(met: Result<Met, SessionError>) -> Ready {
    match met.unwrap_or_else(|error| panic!("{error}")).login {
        Ok(ready) => ready,
        Err(Failure::Rejected(error) | Failure::Other(error)) => panic!("{error}"),
    }
}

/// Why it failed, at whichever of the two steps.
fn failure(met: Result<Met, SessionError>) -> SessionError {
    match met.map(|met| met.login) {
        Err(error) | Ok(Err(Failure::Rejected(error) | Failure::Other(error))) => error,
        Ok(Ok(_)) => panic!("it is in"),
    }
}

/// A certificate for no name by an authority whose PEM file is named, and what shows it.
fn certificate(folder: &Path) -> (String, TlsAcceptor) {
    let params = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let mut authority = params("MySQL_Server_9.7.4_Auto_Generated_CA_Certificate");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = params("MySQL_Server_9.7.4_Auto_Generated_Server_Certificate");
    let shown: CertificateDer<'static> = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap().into();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![shown], key.into()).unwrap();
    (file.display().to_string(), TlsAcceptor::from(Arc::new(config)))
}

/// The server's half of the way to TLS: the SSLRequest's flags, and the client inside.
async fn secure(mut client: Client, acceptor: TlsAcceptor) -> (Capabilities, Client) {
    let request = client.hear().await;
    let Ok(ClientFirst::Tls { capabilities, max_packet, charset }) = client_first(&request) else { panic!("{request:?}") };
    assert_eq!((max_packet, charset), (1 << 24, 45));
    let Stream::Tcp(socket) = client.stream else { panic!("TLS on something that is not TCP") };
    let tls = acceptor.accept(ReadAhead::new(socket)).await.unwrap();
    (capabilities, Client { stream: Stream::TlsServer(Box::new(tls)), packets: client.packets })
}

#[tokio::test]
async fn a_login_says_what_the_client_asked_for_and_whose_account_it_is() {
    let asking = asking();
    let (met, answer) = meet("", &asking, async |mut server| {
        server.say(&greets("mysql_native_password", MYSQL).encode()).await;
        let answer = Answer::parse(&server.hear().await).unwrap();
        server.say(&wire::ok()).await;
        answer
    })
    .await;
    assert_eq!((answer.user.as_slice(), answer.database.as_deref()), (b"app".as_slice(), Some(b"shop".as_slice())));
    assert_eq!((answer.plugin.as_slice(), answer.auth.len()), (b"mysql_native_password".as_slice(), 20));
    assert_eq!((answer.max_packet, answer.charset, &answer.attributes), (1 << 24, 45, &asking.attributes));
    let agreed = CLIENT.or(Capabilities::PLUGIN_AUTH_LENENC);
    assert_eq!(answer.capabilities, agreed.or(Capabilities::CONNECT_WITH_DB));
    let ready = ready(met);
    assert_eq!((ready.thread_id, ready.capabilities, ready.ok), (77, agreed, wire::ok()));
}

#[tokio::test]
async fn a_login_without_a_database_names_none() {
    for database in [None, Some(b"".as_slice())] {
        let asking = Asking { database, ..asking() };
        let (met, answer) = meet("", &asking, async |mut server| {
            server.say(&greets("mysql_native_password", MYSQL).encode()).await;
            let answer = Answer::parse(&server.hear().await).unwrap();
            server.say(&wire::ok()).await;
            answer
        })
        .await;
        assert_eq!((answer.database, answer.capabilities.has(Capabilities::CONNECT_WITH_DB)), (None, false));
        ready(met);
    }
}

#[tokio::test]
async fn inside_tls_the_same_flags_are_said_again_and_a_certificate_without_a_name_will_do_for_verify_ca() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, acceptor) = certificate(folder.path());
    let asking = asking();
    let tls = format!(", tls: {{ mode: verify-ca, ca: {ca} }}");
    let (met, (before, answer, password)) = meet(&tls, &asking, async |mut server| {
        server.say(&greets("caching_sha2_password", MYSQL.or(Capabilities::SSL)).encode()).await;
        let (before, mut server) = secure(server, acceptor).await;
        let answer = Answer::parse(&server.hear().await).unwrap();
        server.say(&wire::auth_more(&[4])).await;
        let password = server.hear().await;
        server.say(&wire::ok()).await;
        (before, answer, password)
    })
    .await;
    assert!(before.has(Capabilities::SSL.or(Capabilities::CONNECT_WITH_DB)));
    assert_eq!(before, answer.capabilities);
    assert_eq!(password, b"hidden\0");
    assert_eq!(met.as_ref().ok().unwrap().by, VerifiedBy::Chain);
    assert_eq!(ready(met).capabilities, CLIENT.or(Capabilities::PLUGIN_AUTH_LENENC));
}

#[tokio::test]
async fn a_certificate_without_a_name_is_refused_by_verify_full_before_anything_is_said_inside() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, acceptor) = certificate(folder.path());
    let tls = format!(", tls: {{ mode: verify-full, ca: {ca} }}");
    let (met, heard) = meet(&tls, &asking(), async |mut server| {
        server.say(&greets("caching_sha2_password", MYSQL.or(Capabilities::SSL)).encode()).await;
        server.hear().await;
        let Stream::Tcp(socket) = server.stream else { panic!() };
        acceptor.accept(socket).await.map(drop)
    })
    .await;
    assert!(heard.is_err());
    assert_eq!(failure(met).refusal, Refusal::UpstreamUnverified);
}

#[tokio::test]
async fn a_server_without_tls_is_told_nothing_if_the_connection_wants_it() {
    let (met, heard) = meet(", tls: require", &asking(), async |mut server| {
        server.say(&greets("mysql_native_password", MYSQL).encode()).await;
        server.hear().await
    })
    .await;
    assert_eq!(failure(met).refusal, Refusal::UpstreamUnverified);
    assert_eq!(heard, b"");
}

#[tokio::test]
async fn what_a_server_says_before_tls_is_not_taken_for_what_it_says_inside() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, acceptor) = certificate(folder.path());
    let tls = format!(", tls: {{ mode: verify-ca, ca: {ca} }}");
    let (met, ()) = meet(&tls, &asking(), async |mut server| {
        let greeting = packet::framed(0, &greets("mysql_native_password", MYSQL.or(Capabilities::SSL)).encode());
        server.stream.write_all(&[greeting, packet::framed(2, &wire::ok())].concat()).await.unwrap();
        server.packets = Packets::at(1);
        server.hear().await;
        let Stream::Tcp(socket) = server.stream else { panic!() };
        assert!(acceptor.accept(socket).await.is_err());
    })
    .await;
    assert_eq!(failure(met).refusal, Refusal::UpstreamUnverified);
}

#[tokio::test]
async fn a_password_that_goes_in_clear_text_goes_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mysqld.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let asking = asking();
    let script = async {
        let mut server = Client::at(Stream::Unix(listener.accept().await.unwrap().0), 0);
        server.say(&greets("caching_sha2_password", MYSQL.or(Capabilities::SSL)).encode()).await;
        server.hear().await;
        // As MariaDB says it: unmarked.
        server.say(&[4]).await;
        let password = server.hear().await;
        server.say(&wire::ok()).await;
        password
    };
    let address = path.display().to_string();
    let (met, password) = tokio::join!(log_in(&address, "", &asking), script);
    assert_eq!(password, b"hidden\0");
    assert_eq!(met.as_ref().ok().unwrap().by, VerifiedBy::Local);
    ready(met);
}

#[tokio::test]
async fn a_mariadb_may_leave_what_its_plugin_says_unmarked() {
    let (met, signature) = meet("", &asking(), async |mut server| {
        server.say(&greets("mysql_native_password", MYSQL).encode()).await;
        server.hear().await;
        server.say(&[b"\xfeparsec\0".as_slice(), &[7; 32]].concat()).await;
        assert_eq!(server.hear().await, b"");
        server.say(&[b"P\0".as_slice(), &[9; 18]].concat()).await;
        let signature = server.hear().await;
        server.say(&wire::ok()).await;
        signature
    })
    .await;
    assert_eq!(signature.len(), 96);
    ready(met);
}

#[tokio::test]
async fn a_server_that_lacks_what_the_client_was_promised_is_reached_and_gets_no_answer() {
    let server = MYSQL.without(Capabilities::DEPRECATE_EOF);
    let (met, heard) = meet("", &asking(), async |mut client| {
        client.say(&greets("mysql_native_password", server).encode()).await;
        client.hear().await
    })
    .await;
    assert!(met.is_ok(), "its greeting is worth knowing");
    let error = failure(met);
    assert_eq!(error.refusal, Refusal::Unsupported);
    assert!(error.source.contains("DEPRECATE_EOF"), "{error}");
    assert_eq!(heard, b"");
}

#[tokio::test]
async fn a_server_that_does_not_greet_as_we_need_it_is_refused() {
    let closed = Refusal::UpstreamUnreachable;
    let full = Refusal::UpstreamRefused(UpstreamRefusal::TooManyConnections);
    let rejected = Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected);
    let cases: [(Vec<u8>, Refusal); 9] = [
        (b"".to_vec(), closed),
        (b"\x09old".to_vec(), closed),
        (b"SSH-2.0-OpenSSH_9.2".to_vec(), closed),
        (vec![b'x'; packet::UPSTREAM_MAX + 1], closed),
        (wire::error_before_greeting(1040, "Too many connections"), full),
        (wire::error_before_greeting(1129, "Host '10.0.0.1' is blocked"), full),
        (wire::error_before_greeting(1130, "Host '10.0.0.1' is not allowed"), rejected),
        (greets("mysql_native_password", MYSQL.without(Capabilities::PLUGIN_AUTH)).encode(), Refusal::Unsupported),
        (greets("mysql_native_password", MYSQL.without(Capabilities::PROTOCOL_41)).encode(), Refusal::Unsupported),
    ];
    for (greeting, refusal) in cases {
        let (met, ()) = meet("", &asking(), async |mut server| {
            // The client may have left in the middle of what is too long.
            let _ = server.packets.write(&mut server.stream, &greeting).await;
        })
        .await;
        let error = failure(met);
        assert_eq!((error.refusal, error.party, error.stage), (refusal, Party::Upstream, Stage::Connect), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_in_its_login_is_left() {
    let in_order = packet::framed(2, &wire::ok());
    let cases: [Vec<u8>; 8] = [
        Vec::new(),
        in_order.get(..5).unwrap().to_vec(),
        packet::framed(3, &wire::ok()),
        packet::framed(2, b""),
        packet::framed(2, b"\xfe"),
        packet::framed(2, b"\x02mysql_native_password\0"),
        packet::framed(2, b"\x01\x04"),
        vec![0xff, 0xff, 0xff, 2],
    ];
    for answer in cases {
        let (met, ()) = meet("", &asking(), async |mut server| {
            server.say(&greets("mysql_native_password", MYSQL).encode()).await;
            server.hear().await;
            server.stream.write_all(&answer).await.unwrap();
        })
        .await;
        let error = failure(met);
        assert_eq!((error.refusal, error.party, error.stage), (Refusal::UpstreamUnreachable, Party::Upstream, Stage::Inject), "{answer:?}");
    }
}

#[tokio::test]
async fn what_a_server_says_when_it_refuses_is_escaped_and_for_the_log_alone() {
    let (met, ()) = meet("", &asking(), async |mut server| {
        server.say(&greets("mysql_native_password", MYSQL).encode()).await;
        server.hear().await;
        server.say(&wire::error(1045, "28000", "Access denied for user 'app'@'10.0.0.1'\n\x1b[31m")).await;
    })
    .await;
    let Err(Failure::Rejected(error)) = met.ok().unwrap().login else { panic!("another credential may do") };
    assert_eq!(error.refusal, Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected));
    assert_eq!(error.source, "1045 (28000): Access denied for user \\'app\\'@\\'10.0.0.1\\'\\n\\u{1b}[31m");
}

#[tokio::test]
async fn an_account_without_a_password_is_not_even_named() {
    let (met, heard) = meet(", private_key: { literal: none }", &asking(), async |mut server| {
        server.say(&greets("mysql_native_password", MYSQL).encode()).await;
        server.hear().await
    })
    .await;
    assert_eq!(failure(met).refusal, Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected));
    assert_eq!(heard, b"");
}
