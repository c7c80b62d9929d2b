//! Client certificates: vault.md §4.4. The server is one with TLS.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::super::tls;
use super::*;

/// An authority of clients, and a folder for what it makes.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, folder: tempfile::tempdir().unwrap() }
    }

    /// The keys of a store that shows a certificate for this name.
    fn keys(&self, name: &str) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let (certificate, private) = (self.folder.path().join(format!("{name}.pem")), self.folder.path().join(format!("{name}.key")));
        std::fs::write(&certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        format!("client_cert: '{}', client_key: '{}'", certificate.display(), private.display())
    }
}

struct Scene {
    port: u16,
    ca: PathBuf,
    mount: String,
}

impl Scene {
    async fn post(&self, path: &str, body: Value) {
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&self.ca).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
        let url = format!("https://127.0.0.1:{}/v1/{path}", self.port);
        let answer = client.post(url).header("x-vault-token", ROOT).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    fn bed(&self, certificate: &str, name: &str) -> Bed {
        let address = format!("address: 'https://127.0.0.1:{}', ca_cert: '{}', {certificate}", self.port, self.ca.display());
        let auth = format!("auth: {{ method: cert, mount: {}{name} }}, cache_ttl: 60s", self.mount);
        Bed::of(&format!("{address}, {auth}"), &[("db", "credential: secret/data/cert/p")])
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_renews() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (port, ca) = tls::server();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let scene = Scene { port, ca, mount: unique("cert") };
    let certificate = authority.keys("keyward.internal");
    scene.post(&format!("sys/auth/{}", scene.mount), json!({"type": "cert"})).await;
    let rules = "path \"secret/data/cert/p\" { capabilities = [\"read\"] }";
    scene.post("sys/policies/acl/cert", json!({ "policy": rules })).await;
    scene.post("secret/data/cert/p", json!({"data": {"username": "app", "password": "x"}})).await;
    let role =
        json!({"certificate": authority.pem, "allowed_common_names": "keyward.internal", "token_policies": "cert", "token_period": 9});
    scene.post(&format!("auth/{}/certs/keyward", scene.mount), role).await;
    let beds = ["", ", name: keyward"].map(|name| scene.bed(&certificate, name));
    for bed in &beds {
        assert_eq!(password(&*bed.credential("db").await), "x");
    }
    for bed in &beds {
        // Without the certificate a renewal would be refused.
        bed.seen.wait_for("token_renew ok", 2).await;
        assert_eq!(bed.seen.count("token_renew refused"), 0);
    }
    let said = refused(&scene.bed(&certificate, ", name: nobody")).await;
    assert!(said.contains("certificate"), "{said}");
    let said = refused(&scene.bed(&authority.keys("somebody.internal"), "")).await;
    assert!(said.contains("certificate"), "{said}");
    let said = refused(&scene.bed(&stranger.keys("keyward.internal"), "")).await;
    assert!(said.contains("invalid certificate") || said.contains("no chain"), "{said}");
}

#[tokio::test]
async fn a_certificate_that_is_renewed_under_its_name_is_shown_from_then_on() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (port, ca) = tls::server();
    let (former, next) = (Authority::new(), Authority::new());
    let scene = Scene { port, ca, mount: unique("cert") };
    scene.post(&format!("sys/auth/{}", scene.mount), json!({"type": "cert"})).await;
    scene.post("secret/data/cert/p", json!({"data": {"username": "app", "password": "x"}})).await;
    scene.post("sys/policies/acl/cert", json!({ "policy": "path \"secret/data/cert/p\" { capabilities = [\"read\"] }" })).await;
    let role = |authority: &Authority| json!({"certificate": authority.pem, "token_policies": "cert", "token_ttl": 600});
    scene.post(&format!("auth/{}/certs/keyward", scene.mount), role(&former)).await;
    let bed = scene.bed(&former.keys("keyward.internal"), "");
    bed.credential("db").await;
    // Only the next authority's certificates are good from now on. They come one file after the other, as they do.
    scene.post(&format!("auth/{}/certs/keyward", scene.mount), role(&next)).await;
    next.keys("keyward.internal");
    for (end, seen, times) in [("pem", "login refused", 1), ("key", "login ok", 2)] {
        let file = format!("keyward.internal.{end}");
        std::fs::copy(next.folder.path().join(&file), former.folder.path().join(&file)).unwrap();
        bed.seen.wait_for(seen, times).await;
    }
    assert_eq!(bed.gate.store_status("corp").await.unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_login_by_certificate_without_one_is_a_problem() {
    let text = "stores: { corp: { type: vault, address: 'https://v:8200', auth: { method: cert } } }\n";
    let (config, mut problems) = sample::config(text);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gate = runtime.block_on(async { Gate::for_operator(&config, sample::nobody(), &mut problems).is_some() });
    assert!(!gate && problems.to_string().contains("client_cert"), "{problems}");
}
