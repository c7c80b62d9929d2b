//! What stores have in common that are opened one after the other.

use std::path::Path;
use std::sync::Mutex;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::store::vault::client::tests::answer;
use crate::store::vault::client::{Call, Retry};

type Certificate = rcgen::CertifiedKey<rcgen::KeyPair>;

fn certificate() -> Certificate {
    rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap()
}

/// As a tool that renews certificates does it: under their names.
fn put(folder: &Path, certificate: &Certificate) {
    for (name, text) in [("cert.pem", certificate.cert.pem()), ("key.pem", certificate.signing_key.serialize_pem())] {
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
}

/// A server that answers only to who shows one of these certificates, with a token; and which one was shown at each call.
async fn server(known: &[&Certificate]) -> (String, Arc<Mutex<Vec<CertificateDer<'static>>>>) {
    let own = certificate();
    let mut roots = RootCertStore::empty();
    known.iter().for_each(|known| roots.add(known.cert.der().clone()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier).with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (address, shown) = (format!("https://{}", listener.local_addr().unwrap()), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&shown);
    let auth = json!({"client_token": "s.1", "lease_duration": 3600, "renewable": true});
    let answer = answer("200 OK", "", &json!({ "auth": auth }).to_string());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(mut client) = acceptor.accept(client).await else { continue };
            seen.lock().unwrap().push(client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned());
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"}") {
                let length = client.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..length]);
            }
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.shutdown().await;
        }
    });
    (address, shown)
}

fn store(keys: &str) -> keyward_config::Store {
    crate::sample::config(&format!("stores: {{ s: {{ type: vault, {keys} }} }}\n")).0.stores.remove("s").unwrap()
}

fn open(store: &keyward_config::Store, former: Option<(&keyward_config::Store, &Arc<Access>)>) -> Arc<Access> {
    let settings = store.settings.downcast_ref::<Settings>().unwrap();
    let login = Login::from_settings(settings, None, crate::store::Stay::Serves, &crate::sample::nowhere()).unwrap();
    let client = Arc::new(Client::new("s", settings, crate::sample::nobody()).unwrap());
    let former = former.map(|(store, access)| {
        let login: Arc<Access> = Arc::clone(access);
        Former { node: &store.node, same_outer: true, login }
    });
    Access::open(client, login, (&store.node, settings), former.as_ref())
}

#[tokio::test]
async fn a_renewed_client_certificate_is_shown_also_by_the_stores_of_before_a_reload() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), certificate(), certificate());
    put(folder.path(), &old);
    let (address, shown) = server(&[&old, &new]).await;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let keys = format!(
        "address: '{address}', insecure: 'a test', client_cert: '{}', client_key: '{}', auth: {{ method: cert",
        file("cert.pem"),
        file("key.pem")
    );
    let (first, same, other) =
        (store(&format!("{keys} }}")), store(&format!("cache_ttl: 1s, {keys} }}")), store(&format!("{keys}, name: n }}")));
    let before = open(&first, None);
    before.get().await.unwrap();
    let shares = open(&same, Some((&first, &before)));
    shares.begin();
    let has_its_own = open(&other, Some((&same, &shares)));
    has_its_own.begin();
    put(folder.path(), &new);
    has_its_own.get().await.unwrap();
    for access in [&before, &shares, &has_its_own] {
        access.way.client.call(&Call::get("lease_revoke", "sys/leases/revoke"), None, Retry::Idempotent).await.ok().unwrap();
    }
    let shown: Vec<_> = shown.lock().unwrap().iter().map(|shown| if shown == old.cert.der() { "old" } else { "new" }).collect();
    assert_eq!(shown, ["old", "new", "new", "new", "new"]);
}
