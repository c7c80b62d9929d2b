//! JWTs, and those of Kubernetes: vault.md §4.2, §4.3. OpenBao's own method for Kubernetes asks a cluster of ours for its judgement.

use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// An issuer of JWTs.
struct Issuer {
    key: rcgen::KeyPair,
}

impl Issuer {
    fn new() -> Self {
        Self { key: rcgen::KeyPair::generate().unwrap() }
    }

    /// `lives`: how many seconds from now; may be past.
    fn sign(&self, mut claims: Value, lives: i64) -> String {
        let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        claims["iat"] = json!(now - 60);
        claims["nbf"] = json!(now - 60);
        claims["exp"] = json!(now + lives);
        let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(json!({"alg": "ES256", "typ": "JWT"})), text(claims));
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn a_jwt_of_a_trusted_issuer_logs_in_and_each_login_reads_its_file_anew() {
    let ((secrets, policy), issuer, mount) = (secrets().await, Issuer::new(), unique("jwt"));
    post(&format!("sys/auth/{mount}"), json!({"type": "jwt"})).await;
    let mut keys = json!({"jwt_validation_pubkeys": [issuer.key.public_key_pem()], "bound_issuer": "https://issuer.test"});
    post(&format!("auth/{mount}/config"), keys.clone()).await;
    let role = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "bound_subject": "keyward", "token_policies": policy});
    post(&format!("auth/{mount}/role/keyward"), role).await;
    let claims = || json!({"iss": "https://issuer.test", "sub": "keyward", "aud": "vault"});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    let open = |role: &str| {
        let auth = format!("{{ method: jwt, mount: {mount}{role}, jwt: {{ file: '{}' }} }}", file.display());
        Bed::open(&auth, &[("db", &credential(&secrets)), ("again", &format!("{}, database: x", credential(&secrets)))])
    };
    std::fs::write(&file, issuer.sign(claims(), 600)).unwrap();
    let said = refused(&open("")).await;
    assert!(said.contains("missing role"), "there is none that would be the default: {said}");
    keys["default_role"] = json!("keyward");
    post(&format!("auth/{mount}/config"), keys).await;
    for role in ["", ", role: keyward"] {
        assert_eq!(password(&*open(role).credential("db").await), "x");
    }
    let said = refused(&open(", role: nobody")).await;
    assert!(said.contains("role \"nobody\" could not be found"), "{said}");

    let other = |key: &str, value: &str| {
        let mut claims = claims();
        claims[key] = json!(value);
        claims
    };
    for (jwt, says) in [
        (issuer.sign(other("aud", "somebody"), 600), "audience"),
        (issuer.sign(other("sub", "somebody"), 600), "subject"),
        (issuer.sign(other("iss", "somebody"), 600), "issuer"),
        (Issuer::new().sign(claims(), 600), "error verifying token"),
        ("no.jwt.at-all".to_owned(), "error"),
    ] {
        std::fs::write(&file, &jwt).unwrap();
        let said = refused(&open("")).await;
        assert!(said.contains(says) && !said.contains(&jwt), "{says}: {said}");
    }
    // One that is over is not even sent; the file is read anew, and its successor is.
    std::fs::write(&file, issuer.sign(claims(), -5)).unwrap();
    let bed = open("");
    let error = bed.error("db").await;
    assert!(error.kind == StoreErrorKind::LoginFailed && error.detail.contains("it is not sent"), "{error}");
    assert_eq!(bed.seen.count("login refused"), 0);
    std::fs::write(&file, issuer.sign(claims(), 600)).unwrap();
    assert_eq!(password(&*bed.credential("db").await), "x");
}

/// A Kubernetes that vouches for the tokens of one service account. Its address.
async fn kubernetes(namespace: &'static str, account: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = Vec::new();
            let asked: Value = loop {
                let mut buffer = [0; 4096];
                let length = client.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..length]);
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str(body)
                {
                    assert!(text.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews"), "{text}");
                    break body;
                }
                assert!(length > 0, "{text}");
            };
            let good = !asked["spec"]["token"].as_str().unwrap().ends_with("forged");
            let user = json!({"username": format!("system:serviceaccount:{namespace}:{account}"), "uid": "u-1",
                "groups": ["system:serviceaccounts", "system:authenticated"]});
            let status = if good { json!({"authenticated": true, "user": user}) } else { json!({"authenticated": false, "error": "no"}) };
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}).to_string();
            let head =
                format!("HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}", body.len());
            client.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_service_account_logs_in_if_its_role_names_it_and_its_cluster_vouches_for_it() {
    let ((secrets, policy), issuer, mount) = (secrets().await, Issuer::new(), unique("kubernetes"));
    post(&format!("sys/auth/{mount}"), json!({"type": "kubernetes"})).await;
    let account = json!({"namespace": "payments", "serviceaccount": {"name": "keyward", "uid": "u-1"}});
    let claims =
        json!({"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:payments:keyward", "kubernetes.io": account});
    let jwt = issuer.sign(claims.clone(), 600);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, &jwt).unwrap();
    let open = |role: &str| {
        let auth = format!("{{ method: kubernetes, mount: {mount}, role: {role}, jwt: {{ file: '{}' }} }}", file.display());
        Bed::open(&auth, &[("db", &credential(&secrets))])
    };
    // It must have the cluster's authority, though this cluster has no TLS.
    let authority = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&issuer.key).unwrap().pem();
    let host = kubernetes("payments", "keyward").await;
    let config = json!({"kubernetes_host": host, "disable_local_ca_jwt": true, "kubernetes_ca_cert": authority});
    for (role, namespace, name) in [("keyward", "payments", "keyward"), ("elsewhere", "other", "keyward"), ("another", "payments", "other")]
    {
        let bound =
            json!({"bound_service_account_names": [name], "bound_service_account_namespaces": [namespace], "token_policies": policy});
        post(&format!("auth/{mount}/role/{role}"), bound).await;
    }
    let early = open("keyward");
    // More often than it takes for a store to count as away.
    for _ in 0..6 {
        let error = early.error("db").await;
        assert!(error.kind == StoreErrorKind::Unavailable, "{error}");
        assert!(error.detail.contains("could not load backend configuration"), "{error}");
    }
    post(&format!("auth/{mount}/config"), config).await;
    assert_eq!(password(&*early.credential("db").await), "x", "what the store could not judge is not held back");
    assert_eq!((early.seen.count("login server_error"), early.seen.count("away")), (6, 0));
    for role in ["elsewhere", "another"] {
        let said = refused(&open(role)).await;
        assert!(said.contains("not authorized") && said.contains("Kubernetes") && !said.contains(&jwt), "{said}");
    }
    let said = refused(&open("nobody")).await;
    assert!(said.contains("invalid role name"), "{said}");
    std::fs::write(&file, format!("{}forged", jwt.trim_end())).unwrap();
    let said = refused(&open("keyward")).await;
    assert!(said.contains("vouch"), "{said}");
    std::fs::write(&file, issuer.sign(claims, -5)).unwrap();
    let bed = open("keyward");
    assert!(bed.error("db").await.detail.contains("it is not sent"));
    assert_eq!(bed.seen.count("login refused") + bed.seen.count("login forbidden"), 0);
}
