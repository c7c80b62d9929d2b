//! The ways in for clients of MySQL: by which transport, with which proof, and how they name the connection and its database.

use crate::bed::{
    CACHING_SHA2, Certificate, Config, FLAGS, Hello, Mysql, MysqlClient, MysqlDsn, MysqlRaw, MysqlScene, MysqlTls, Plugin, canary, flag,
    mariadb, masked, mysql_servers, mysql9, own_address, pymysql, scratch, seal,
};

const NOT_OPEN: &str = "keyward: no such connection, or it is not open to you (session ID)";

fn account(scene: &MysqlScene) -> String {
    format!("{}@%", scene.app.name)
}

#[test]
fn each_client_comes_in_by_each_transport() {
    for server in mysql_servers() {
        let scene = MysqlScene::new(server);
        for client in MysqlClient::all() {
            for dsn in [scene.dsn(), scene.dsn().tls(MysqlTls::Unverified), scene.plain(), scene.local()] {
                assert_eq!(client.run(&dsn, "SELECT current_user()").ok(), account(&scene), "{client:?}");
            }
        }
        for dsn in [scene.dsn(), scene.plain(), scene.local()] {
            assert_eq!(pymysql(&dsn), "1");
        }
    }
}

#[test]
fn from_another_machine_each_client_takes_tls_by_itself() {
    let here = own_address();
    let listener = format!("protocol: mysql, address: \"{here}:0\"");
    let scene = MysqlScene::with(mariadb(), "", |config| config.listener(&listener));
    let elsewhere = MysqlDsn::new(&here, scene.keyward.ports("mysql")[1], "alice", &scene.alice).database("orders");
    for client in MysqlClient::all() {
        // Without TLS it would not be served. MariaDB's client insists on a verified server since 11.4, and our CA it has to be told.
        let itself = elsewhere.clone().tls(MysqlTls::AsItLikes);
        let itself = if client == MysqlClient::Mariadb11 { itself.with(&format!("ssl-ca={}", scene.ca().display())) } else { itself };
        assert_eq!(client.run(&itself, "SELECT current_user()").ok(), account(&scene), "{client:?}");
        let verified = elsewhere.clone().tls(MysqlTls::Verified(scene.ca()));
        assert_eq!(client.run(&verified, "SELECT current_user()").ok(), account(&scene), "{client:?}");
        assert!(
            client.run(&elsewhere.clone().tls(MysqlTls::Verified(mariadb().ca())), "SELECT 1").refused().contains("2026"),
            "{client:?}"
        );
    }
}

#[test]
fn a_client_that_was_given_the_key_seals_its_password_at_once() {
    let scene = MysqlScene::new(mariadb());
    let mut asks = scene.raw();
    asks.answer(&Hello::new("alice", Some("orders"))).ordered().unwrap();
    let key = asks.say(&[2]).ordered().unwrap()[1..].to_vec();
    for place in ["plain", "socket"] {
        let mut knows = if place == "plain" { scene.raw() } else { MysqlRaw::unix(&scene.socket()) };
        let scramble = knows.greeting().scramble;
        knows.say(&Hello::new("alice", Some("orders")).encode());
        assert_eq!(knows.ordered().unwrap(), [1, 4]);
        assert_eq!(knows.say(&seal(&key, &scramble, &scene.alice)).ordered().unwrap()[0], 0, "{place}");
    }
    if mysql9().is_some() {
        let file = scratch("key").join("public.pem");
        std::fs::write(&file, &key).unwrap();
        let dsn = scene.plain().tls(MysqlTls::AsItLikes).with("ssl-mode=DISABLED");
        let named = dsn.clone().with(&format!("server-public-key-path={}", file.display()));
        assert_eq!(MysqlClient::Mysql9.run(&named, "SELECT 1").ok(), "1");
        // Without it, and without leave to ask for it, it does not say its password; that is its own refusal.
        assert!(MysqlClient::Mysql9.run(&dsn, "SELECT 1").refused().contains("2061"));
    }
}

#[test]
fn on_a_unix_socket_the_password_comes_as_it_is_or_sealed() {
    let scene = MysqlScene::new(mariadb());
    let mut clear = MysqlRaw::unix(&scene.socket());
    scene.log_in(&mut clear).unwrap();
    let mut sealed = MysqlRaw::unix(&scene.socket());
    let scramble = sealed.greeting().scramble;
    sealed.say(&Hello::new("alice", Some("orders")).encode()).ordered().unwrap();
    let key = sealed.say(&[2]).ordered().unwrap();
    assert_eq!(sealed.say(&seal(&key[1..], &scramble, &scene.alice)).ordered().unwrap()[0], 0);
    assert_eq!(sealed.next, 7);
}

#[test]
fn a_client_that_names_another_plugin_or_none_is_asked_by_the_right_one() {
    let scene = MysqlScene::new(mariadb());
    for plugin in ["mysql_native_password", "sha256_password", "mysql_clear_password", "dialog", ""] {
        for auth in [vec![], vec![7; 20], vec![7; 32]] {
            let mut raw = scene.secure_raw();
            raw.say(&Hello { plugin: plugin.into(), auth, ..Hello::new("alice", Some("orders")) }.encode());
            raw.prove(&scene.alice).unwrap();
            assert_eq!(raw.query("SELECT 1").unwrap(), ["1"], "{plugin}");
        }
    }
}

#[test]
fn a_listener_for_clear_text_takes_users_of_either_stored_form_inside_tls() {
    let carol = canary();
    let listener = "protocol: mysql, address: \"127.0.0.1:0\", login: cleartext";
    let scene =
        MysqlScene::with(mariadb(), "", |config| config.only_listener(listener).user_with_argon2("carol", &carol).allow("carol", "orders"));
    for (user, password) in [("alice", &scene.alice), ("carol", &carol)] {
        let dsn = scene.dsn().with_user(user).with_password(password);
        for client in MysqlClient::all() {
            let dsn = if client == MysqlClient::Mysql9 { dsn.clone().with("enable-cleartext-plugin") } else { dsn.clone() };
            assert_eq!(client.run(&dsn, "SELECT current_user()").ok(), account(&scene), "{client:?}");
            let wrong = client.run(&dsn.with_password("wrong"), "SELECT 1");
            assert_eq!(masked(wrong.refused()), "ERROR 1045 (28000): keyward: login failed (session ID)", "{client:?}");
        }
        assert_eq!(pymysql(&dsn), "1");
        // Said at once, by a client that names the plugin.
        let mut raw = scene.secure_raw();
        let auth = format!("{password}\0").into_bytes();
        raw.say(&Hello { plugin: b"mysql_clear_password".to_vec(), auth, ..Hello::new(user, Some("orders")) }.encode());
        assert_eq!(raw.ordered().unwrap()[0], 0);
    }
    if mysql9().is_some() {
        // Without leave to say it in clear text it says nothing; that is its own refusal.
        assert!(MysqlClient::Mysql9.run(&scene.dsn(), "SELECT 1").refused().contains("2059"));
    }
    let opened = scene.keyward.until_audit("opened", 2);
    assert!(opened.iter().all(|record| record["proof"] == "cleartext"), "{opened:?}");
}

#[test]
fn the_default_listener_takes_users_of_either_stored_form() {
    let carol = canary();
    let scene = MysqlScene::with(mariadb(), "", |config| config.user_with_argon2("carol", &carol).allow("carol", "orders"));
    for client in MysqlClient::all() {
        for dsn in [scene.dsn(), scene.plain(), scene.local()] {
            let dsn = dsn.with_user("carol").with_password(&carol);
            assert_eq!(client.run(&dsn, "SELECT current_user()").ok(), account(&scene), "{client:?}");
        }
    }
}

/// The connection is named by the listener, the login or the database; the database is the connection's own, or one that it serves.
#[test]
fn the_connection_is_named_by_the_listener_the_login_or_the_database() {
    for server in mysql_servers() {
        let (own, served, other) = (server.database(), server.database(), server.database());
        let change = |config: Config| config.listener("protocol: mysql, address: \"127.0.0.1:0\", connection: orders");
        let login = server.login(server.plugins()[0]);
        let scene = MysqlScene::of(login, &own, &server.address(), &format!("databases: [{served}]"), change);
        let behind = MysqlDsn::new("127.0.0.1", scene.keyward.ports("mysql")[1], "alice", &scene.alice);
        let behind = behind.tls(MysqlTls::Verified(scene.ca()));
        let (lobby, full) = (scene.lobby().with_user("alice+orders"), scene.lobby().with_user("alice+orders+default"));
        let asked = "SELECT database()";
        for client in MysqlClient::all() {
            for dsn in [&lobby, &full, &behind, &behind.clone().with_user("alice+orders")] {
                assert_eq!(client.run(dsn, asked).ok(), own, "{client:?}");
                for (name, database) in [("orders", &own), (own.as_str(), &own), (served.as_str(), &served)] {
                    assert_eq!(client.run(&dsn.clone().database(name), asked).ok(), database, "{client:?} {name}");
                }
                for name in [other.as_str(), "payroll", "mysql"] {
                    let said = client.run(&dsn.clone().database(name), asked);
                    assert_eq!(masked(said.refused()), format!("ERROR 1044 (42000): {NOT_OPEN}"), "{client:?} {name}");
                }
            }
            assert_eq!(client.run(&scene.dsn(), asked).ok(), own);
            // Behind the listener there is no other connection.
            let said = client.run(&behind.clone().with_user("alice+payroll"), asked);
            assert_eq!(masked(said.refused()), format!("ERROR 1044 (42000): {NOT_OPEN}"), "{client:?}");
        }
        assert_eq!(pymysql(&lobby), "1");
        assert_eq!(pymysql(&behind.database(&served)), "1");
    }
}

#[test]
fn the_connections_own_name_is_its_database_in_a_use_too() {
    for server in mysql_servers() {
        let other = server.database();
        let scene = MysqlScene::with(server, "databases: any", |config| config);
        for client in MysqlClient::all() {
            // The client itself takes these for a command of its own, and sends COM_INIT_DB or a query.
            for spelled in ["USE orders;", "use `orders`;"] {
                let sql = format!("USE {other};\nSELECT database();\n{spelled}\nSELECT database();\n");
                let said = client.run(&scene.dsn(), &sql);
                assert_eq!(said.ok(), format!("{other}\n{}", scene.database), "{client:?} {spelled}");
            }
            let missing = client.run(&scene.dsn(), "USE no_such_database;");
            assert!(missing.refused().contains("ERROR 1044 (42000)") || missing.refused().contains("ERROR 1049 (42000)"), "{missing:?}");
        }
        let mut raw = scene.session();
        for command in [b"\x02orders".to_vec(), b"\x03USE orders".to_vec(), b"\x03/* why */ use /*!50000 `orders` */ ;".to_vec()] {
            raw.query(&format!("USE {other}")).unwrap();
            raw.next = 0;
            raw.say(&command);
            assert_eq!(raw.ordered().unwrap()[0], 0);
            let now = raw.query("SELECT database()").unwrap().concat();
            assert_eq!(now, scene.database, "{:?}", String::from_utf8_lossy(&command));
        }
    }
}

#[test]
fn who_it_is_stands_in_the_attributes_of_the_servers_session() {
    let Some(own) = Mysql::own("mysql-9", Certificate::OfTheBed, &["--performance-schema=ON"]) else { return };
    let login = own.login(Plugin::CachingSha2);
    own.sql("", &format!("GRANT SELECT ON performance_schema.* TO '{}'@'%'", login.name));
    let scene = MysqlScene::of(login, &own.database(), &own.address(), "", |config| config);
    let attributes = [b"\x0ckeyward_user\x07mallory".as_slice(), b"\x04mine\x03yes"].concat();
    let rest = [&[u8::try_from(attributes.len()).unwrap()], attributes.as_slice()].concat();
    let mut raw = scene.raw();
    raw.answer(&Hello {
        flags: FLAGS | flag::CONNECT_WITH_DB | flag::CONNECT_ATTRS,
        plugin: CACHING_SHA2.into(),
        rest,
        ..Hello::new("alice", Some("orders"))
    });
    raw.prove(&scene.alice).unwrap();
    let asked = "SELECT attr_name, attr_value FROM performance_schema.session_account_connect_attrs \
                 WHERE attr_name IN ('keyward_user', 'keyward_session', 'mine') ORDER BY attr_name";
    let session = scene.keyward.until_audit("opened", 1)[0]["session"].as_str().unwrap().to_owned();
    let wanted = [format!("keyward_session\t{session}"), "keyward_user\talice".to_owned(), "mine\tyes".to_owned()];
    assert_eq!(raw.query(asked).unwrap(), wanted, "and nobody takes another's name");
}
