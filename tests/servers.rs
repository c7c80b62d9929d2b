//! The servers by themselves, without Keyward: that they do what the other tests rely on. If one of these fails, look here first.

use serde_json::{Value, json};

use crate::bed::{Bao, Database, Dsn, Login, Method, Postgres, bao, eventually, postgres15, postgres18, psql, psql18, request};

fn direct(postgres: &Postgres, login: &Login, sslmode: &str) -> Dsn {
    let (port, ca) = (postgres.port.to_string(), postgres.ca().display().to_string());
    let place = [("host", "localhost"), ("hostaddr", "127.0.0.1"), ("port", &port), ("user", &login.name), ("dbname", "postgres")];
    Dsn::new(&login.password, &place).with("sslmode", sslmode).with("sslrootcert", &ca)
}

#[test]
fn postgres_asks_each_role_for_the_proof_that_it_was_made_for() {
    for postgres in [postgres15(), postgres18()] {
        for method in [Method::Trust, Method::Cleartext, Method::Md5, Method::Scram] {
            let login = postgres.login(method);
            let dsn = direct(postgres, &login, "disable");
            assert_eq!(psql18(&dsn, "SELECT current_user").ok(), login.name, "{method:?}");
            let wrong = psql18(&dsn.clone().with_password("wrong"), "SELECT 1");
            assert_eq!(wrong.code == Some(0), method == Method::Trust, "{method:?}: {wrong:?}");
            let asked = match method {
                Method::Trust => "none",
                Method::Cleartext => "password",
                Method::Md5 => "md5",
                Method::Scram | Method::ScramTls => "scram-sha-256",
            };
            psql18(&dsn.with("require_auth", asked), "SELECT 1").ok();
        }
    }
}

#[test]
fn postgres_has_tls_with_a_certificate_that_verifies_and_a_role_may_require_it() {
    for postgres in [postgres15(), postgres18()] {
        let login = postgres.login(Method::ScramTls);
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(psql(&direct(postgres, &login, "verify-full"), ssl).ok(), "t");
        assert!(psql(&direct(postgres, &login, "disable"), ssl).refused().contains("rejects connection"));
    }
    assert!(postgres18().sql("postgres", "SHOW server_version").starts_with("18"));
}

#[test]
fn an_approle_may_read_its_paths_and_give_back_its_own_leases_and_nothing_else() {
    let (kv, database) = (bao().mount_kv2(), bao().enable_database(postgres15(), "1m", "1h"));
    kv.put("mine", &[("username", "somebody")]);
    kv.put("other", &[("username", "nobody")]);
    let approle = bao().approle(&[&kv.path("mine"), &database.creds()]);
    let login = json!({ "role_id": approle.role_id, "secret_id": approle.secret_id }).to_string();
    let call = |token: &str, method: &str, path: &str, body: &str| {
        let address = bao().address().replace("http://", "");
        request(&address, method, &format!("/v1/{path}"), &[("X-Vault-Token", token)], body).unwrap()
    };
    let token = call("", "POST", "auth/approle/login", &login).json()["auth"]["client_token"].as_str().unwrap().to_owned();
    let read = |path: &str| call(&token, "GET", path, "");
    assert_eq!(read(&kv.path("mine")).json()["data"]["data"]["username"], "somebody");
    assert_eq!(read(&kv.path("other")).status, 403);
    let (lease, foreign) = (read(&database.creds()).json(), bao().call("GET", &database.creds(), Value::Null).json());
    let role = lease["data"]["username"].as_str().unwrap();
    assert!(postgres15().has_role(role) && database.leases() == 2);
    let revoke = |lease: &Value| {
        let body = json!({ "lease_id": lease["lease_id"], "sync": false }).to_string();
        call(&token, "POST", "sys/leases/revoke", &body).status
    };
    assert_eq!(revoke(&lease), 202);
    eventually("the role is gone", || (!postgres15().has_role(role)).then_some(()));
    // Named for this role, so that the foreign one may be given back as well: the policy scopes by role, not by owner.
    assert_eq!(revoke(&foreign), 202);
    assert_eq!(call(&token, "POST", "sys/leases/revoke", "{\"lease_id\": \"other/creds/x/1\", \"sync\": false}").status, 403);
}

#[test]
fn servers_of_a_tests_own_can_be_killed_and_started_again() {
    let (bao, postgres) = (Bao::own(), Postgres::own("postgres-debian"));
    let login = postgres.login(Method::Scram);
    let database = bao.enable_database(&postgres, "1h", "2h");
    let path = database.static_role(&login.name);
    let read = |database: &Database<'_>| (bao.call("GET", &path, Value::Null).json()["data"]["password"].clone(), database.leases());
    let before = read(&database);
    bao.kill9();
    bao.start_again();
    assert_eq!(read(&database), before);
    postgres.kill9();
    postgres.start();
    let taken_over = Login { password: before.0.as_str().unwrap().to_owned(), ..login };
    assert_eq!(psql(&direct(&postgres, &taken_over, "disable"), "SELECT 1").ok(), "1");
}
