//! TLS to the store: its authority, its name, and nothing sent to anyone else.

use super::*;
use crate::store::StoreErrorKind;

/// The port of an OpenBao with TLS for `localhost` and `127.0.0.1`, and the file of its authority.
pub(super) fn server() -> (u16, PathBuf) {
    static SERVER: OnceLock<(u16, tempfile::TempDir)> = OnceLock::new();
    let (port, folder) = SERVER.get_or_init(|| {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let mut command = with_us(&binary());
        command.args(["server", "-dev", "-dev-tls", "-dev-no-store-token"]).arg(format!("-dev-root-token-id={ROOT}"));
        command.arg(format!("-dev-tls-cert-dir={}", folder.path().display())).arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        command.env("HOME", folder.path());
        run_for_ever(command);
        wait_until("OpenBao with TLS", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        (port, folder)
    });
    (*port, authority(folder.path()))
}

fn authority(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().filter_map(Result::ok).map(|file| file.path());
    files.into_iter().find(|file| file.to_string_lossy().ends_with("-ca.pem")).expect("the server wrote its authority")
}

async fn status(host: &str, keys: &str) -> Result<crate::StoreStatus, StoreError> {
    status_in(&[], &format!("address: 'https://{host}'{keys}")).await
}

/// With these variables in the environment.
async fn status_in(variables: &[(&str, &str)], keys: &str) -> Result<crate::StoreStatus, StoreError> {
    let text = format!(
        "state: /nowhere\nlisteners: [{{ protocol: postgres, address: '127.0.0.1:0' }}]\n\
         stores: {{ corp: {{ type: vault, auth: {{ method: token, token: {ROOT} }}, {keys} }} }}\n"
    );
    let stores: Vec<_> = crate::KINDS.iter().map(|kind| kind.settings).collect();
    let kinds = keyward_config::Kinds { protocols: sample::PROTOCOLS, stores: &stores };
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let loaded = keyward_config::parse_in(Path::new("keyward.yaml"), &text, &kinds, &value);
    let (config, mut problems) = (loaded.config.unwrap(), loaded.problems);
    let gate = Gate::for_operator(&config, sample::nobody(), &mut problems).unwrap_or_else(|| panic!("{problems}"));
    gate.store_status("corp").await
}

#[tokio::test]
async fn only_a_server_that_its_authority_and_its_name_vouch_for_gets_the_token() {
    use base64::Engine;
    let (port, ca) = server();
    let (host, ca_cert) = (format!("127.0.0.1:{port}"), format!(", ca_cert: '{}'", ca.display()));
    let in_base64 = base64::engine::general_purpose::STANDARD.encode(std::fs::read(&ca).unwrap());
    for keys in [
        ca_cert.clone(),
        format!(", ca_cert_base64: {in_base64}"),
        format!("{ca_cert}, tls_server_name: localhost"),
        ", insecure: 'a test'".to_owned(),
    ] {
        let status = status(&host, &keys).await.unwrap_or_else(|error| panic!("{keys}: {error}"));
        assert!(status.version.starts_with('2'), "{status:?}");
    }
    for (keys, says) in
        [(String::new(), "`ca_cert` names"), (format!("{ca_cert}, tls_server_name: somebody.example"), "`tls_server_name` names")]
    {
        let error = status(&host, &keys).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        assert!(error.detail.contains("certificate") && error.detail.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_told_and_its_server_gets_no_token() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let (file, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let pair = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&file, params.self_signed(&pair).unwrap().pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let (certificate, key) = (file.display(), key.display());
    let listener = format!("  address = \"127.0.0.1:{port}\"\n  tls_cert_file = \"{certificate}\"\n  tls_key_file = \"{key}\"\n");
    let config = folder.path().join("bao.hcl");
    std::fs::write(&config, format!("disable_mlock = true\nstorage \"inmem\" {{}}\nlistener \"tcp\" {{\n{listener}}}\n")).unwrap();
    let mut command = with_us(&binary());
    command.arg("server").arg("-config").arg(&config).env("HOME", folder.path());
    run_for_ever(command);
    wait_until("OpenBao", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let error = status(&format!("127.0.0.1:{port}"), &format!(", ca_cert: '{certificate}'")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.detail.contains("expired") && error.detail.contains("renew the server's certificate"), "{error}");
}

#[tokio::test]
async fn the_authority_may_be_in_a_folder_and_in_each_variable_of_vaults_client() {
    let (port, ca) = server();
    let (host, file, folder) = (format!("127.0.0.1:{port}"), ca.to_str().unwrap(), ca.parent().unwrap().to_str().unwrap());
    let pem = std::fs::read_to_string(&ca).unwrap();
    let address = format!("https://{host}");
    status(&host, &format!(", ca_path: '{folder}'")).await.unwrap();
    for authority in [("VAULT_CACERT", file), ("BAO_CAPATH", folder), ("VAULT_CACERT_BYTES", pem.as_str()), ("VAULT_SKIP_VERIFY", "true")] {
        let status = status_in(&[("VAULT_ADDR", &address), authority], "").await;
        assert!(status.is_ok(), "{}: {status:?}", authority.0);
    }
    // Not for a server that the file names, and not for a name that is not the server's.
    for (variables, keys) in [
        (vec![("VAULT_SKIP_VERIFY", "true")], format!("address: '{address}'")),
        (vec![("VAULT_ADDR", address.as_str()), ("VAULT_CACERT", file), ("VAULT_TLS_SERVER_NAME", "somebody.example")], String::new()),
    ] {
        let error = status_in(&variables, &keys).await.unwrap_err();
        assert!(error.kind == StoreErrorKind::Unavailable && error.detail.contains("certificate"), "{variables:?}: {error}");
    }
}

#[test]
fn settings_that_would_show_the_token_are_problems() {
    for (keys, says) in [
        ("address: 'http://vault.example:8200'", "plain http"),
        ("address: 'https://user:pass-canary@v:8200'", "only a scheme"),
        ("address: 'ftp://v'", "https://"),
        ("address: 'pass-canary'", "https://"),
        ("address: 'https://v', ca_cert: '/nowhere/ca.pem'", "/nowhere/ca.pem"),
        ("address: 'https://v', ca_cert_base64: 'pass-canary!'", "not base64"),
        ("address: 'https://v', client_cert: '/x'", "belong together"),
    ] {
        let text = format!("stores: {{ corp: {{ type: vault, {keys}, auth: {{ method: token, token: t }} }} }}\n");
        let (config, mut problems) = sample::config(&text);
        let leases = tokio::runtime::Runtime::new().unwrap().block_on(async { crate::store::Leases::open(None).unwrap() });
        let policy = crate::policy::Policy::read(&config, &mut problems);
        crate::store::Stores::open(&config, policy.connections(), &leases, &sample::nobody(), None, &mut problems);
        let problems = problems.to_string();
        assert!(problems.contains(says) && !problems.contains("canary"), "{keys}: {problems}");
    }
}
