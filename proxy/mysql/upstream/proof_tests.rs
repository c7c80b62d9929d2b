use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::pbkdf2;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::*;
use crate::mysql::wire::ServerError;
use crate::refusal::{Refusal, UpstreamRefusal};
use crate::settings::Methods;

const PASSWORD: &[u8] = b"secret";
const TLS: Way = Way { by: VerifiedBy::Certificate, tls: true, unix: false };
const BLIND_TLS: Way = Way { by: VerifiedBy::Insecure, tls: true, unix: false };
const LOOPBACK: Way = Way { by: VerifiedBy::Local, tls: false, unix: false };
const UNIX: Way = Way { by: VerifiedBy::Local, tls: false, unix: true };
const BLIND: Way = Way { by: VerifiedBy::Insecure, tls: false, unix: false };
const REJECTED: Refusal = Refusal::UpstreamRefused(UpstreamRefusal::LoginRejected);

/// What `require_auth` allows, and the pinned key.
#[derive(Default)]
struct Said {
    methods: Methods<Method>,
    key: Option<Vec<u8>>,
}

impl Said {
    fn only(methods: &[&str]) -> Self {
        Self { methods: serde_json::from_value(serde_json::json!(methods)).unwrap(), key: None }
    }

    fn pinned(key: &str) -> Self {
        Self { key: Some(key.as_bytes().to_vec()), ..Self::default() }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { methods: &self.methods, server_public_key: self.key.as_deref() }
    }
}

fn scramble() -> [u8; SCRAMBLE] {
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
}

/// As a server sends it: with its NUL.
fn switch<'a>(plugin: &'a str, data: &'a [u8]) -> Reply<'a> {
    Reply::Switch { plugin: plugin.as_bytes(), data }
}

fn nul(scramble: [u8; SCRAMBLE]) -> Vec<u8> {
    [scramble.as_slice(), b"\0"].concat()
}

fn said(step: Result<Step<'_>, Failure>) -> Vec<u8> {
    match step {
        Ok(Step::Say(said)) => said.to_vec(),
        Ok(_) => panic!("it says nothing"),
        Err(failure) => panic!("{}", error(failure)),
    }
}

fn error(failure: Failure) -> crate::error::SessionError {
    match failure {
        Failure::Rejected(error) | Failure::Other(error) => error,
    }
}

fn refusal(step: Result<Step<'_>, Failure>) -> Refusal {
    error(step.err().expect("a refusal")).refusal
}

fn is_in(step: Result<Step<'_>, Failure>) -> bool {
    matches!(step, Ok(Step::In(_)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server's key and what it decrypts with it.
struct ServerKey {
    private: OaepPrivateDecryptingKey,
    pem: String,
}

impl ServerKey {
    fn make() -> Self {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der = private.public_key().as_der().unwrap();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
        Self { private: OaepPrivateDecryptingKey::new(private).unwrap(), pem }
    }

    fn password(&self, hidden: &[u8], scramble: [u8; SCRAMBLE]) -> Vec<u8> {
        let mut plain = vec![0; self.private.key_size_bytes()];
        let mixed = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, hidden, &mut plain, None).unwrap();
        mixed.iter().zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }
}

#[test]
fn a_native_server_gets_the_hash_at_once() {
    let rules = Said::default();
    let rules = rules.rules();
    let mut proof = Proof::new(PASSWORD, LOOPBACK, &rules);
    let (plugin, auth) = proof.first(b"mysql_native_password", &scramble());
    // SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))), computed elsewhere.
    assert_eq!((plugin, hex(&auth).as_str()), (NATIVE, "b32bb3a583e1340c0a1108d58b1be49781ad8c2f"));
    assert!(is_in(proof.next(Reply::Ok(b"\0"))));
}

#[test]
fn a_caching_server_gets_the_hash_at_once_and_may_be_content() {
    let rules = Said::default();
    let rules = rules.rules();
    for fast in [true, false] {
        let mut proof = Proof::new(PASSWORD, BLIND, &rules);
        let (plugin, auth) = proof.first(b"caching_sha2_password", &scramble());
        // SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble), computed elsewhere.
        assert_eq!((plugin, hex(&auth).as_str()), (CACHING, "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"));
        if fast {
            assert!(matches!(proof.next(Reply::More(&[3])), Ok(Step::Wait)));
        }
        assert!(is_in(proof.next(Reply::Ok(b"\0"))));
    }
}

#[test]
fn an_ed25519_server_gets_a_signature_by_the_key_that_it_knows() {
    let rules = Said::default();
    let rules = rules.rules();
    let mut proof = Proof::new(PASSWORD, BLIND, &rules);
    proof.first(b"mysql_native_password", &scramble());
    // A nonce may end with what is a NUL elsewhere.
    let nonce: Vec<u8> = (0..32).rev().collect();
    let signature = said(proof.next(switch("client_ed25519", &nonce)));
    // What MariaDB keeps of the password `secret`.
    let known = STANDARD_NO_PAD.decode("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY").unwrap();
    UnparsedPublicKey::new(&ED25519, known).verify(&nonce, &signature).unwrap();
    assert!(is_in(proof.next(Reply::Ok(b"\0"))));
}

#[test]
fn a_parsec_server_gets_a_signature_by_the_key_that_it_knows() {
    let rules = Said::default();
    let rules = rules.rules();
    let mut proof = Proof::new(PASSWORD, BLIND, &rules);
    proof.first(b"mysql_native_password", &scramble());
    let nonce = [7; 32];
    assert_eq!(said(proof.next(switch("parsec", &nonce))), b"");
    // What MariaDB 11.8 keeps of the password `secret`: `P0`, the salt and the key.
    let salt = STANDARD.decode("Ae+DXKEm2scQdquVJ5pJ4fSA").unwrap();
    let known = STANDARD_NO_PAD.decode("7rGsCRC+P9fpHphN9rRRBEEpvti779sQJPjH0Ey+zn8").unwrap();
    let answer = said(proof.next(Reply::More(&[b"P\0".as_slice(), &salt].concat())));
    let (ours, signature) = answer.split_at(32);
    UnparsedPublicKey::new(&ED25519, &known).verify(&[nonce.as_slice(), ours].concat(), signature).unwrap();
    assert!(is_in(proof.next(Reply::Ok(b"\0"))));
}

#[test]
fn a_parsec_server_may_ask_for_more_iterations_within_bounds() {
    let rules = Said::default();
    let rules = rules.rules();
    for factor in 0..=255_u8 {
        let mut proof = Proof::new(PASSWORD, BLIND, &rules);
        proof.next(switch("parsec", &[7; 32])).ok().unwrap();
        let challenge = [b"P".as_slice(), &[factor], &[9; 18]].concat();
        if factor > 3 {
            assert_eq!(refusal(proof.next(Reply::More(&challenge))), Refusal::UpstreamUnreachable);
            continue;
        }
        let answer = said(proof.next(Reply::More(&challenge)));
        let mut seed = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, (1024 << factor).try_into().unwrap(), &[9; 18], PASSWORD, &mut seed);
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let (ours, signature) = answer.split_at(32);
        let message = [[7; 32].as_slice(), ours].concat();
        UnparsedPublicKey::new(&ED25519, key.public_key().as_ref()).verify(&message, signature).unwrap();
    }
}

#[test]
fn the_whole_password_goes_in_clear_text_where_the_way_is_secret() {
    let rules = Said::default();
    let rules = rules.rules();
    for way in
        [TLS, UNIX, Way { by: VerifiedBy::PinnedKey, ..TLS }, Way { by: VerifiedBy::Chain, ..TLS }, Way { by: VerifiedBy::Local, ..TLS }]
    {
        let mut proof = Proof::new(PASSWORD, way, &rules);
        proof.first(b"caching_sha2_password", &scramble());
        assert_eq!(said(proof.next(Reply::More(&[4]))), b"secret\0");
        assert!(is_in(proof.next(Reply::Ok(b"\0"))));
        let mut proof = Proof::new(PASSWORD, way, &rules);
        proof.first(b"caching_sha2_password", &scramble());
        assert_eq!(said(proof.next(switch("mysql_clear_password", b""))), b"secret\0");
    }
    let mut proof = Proof::new(PASSWORD, TLS, &rules);
    assert_eq!(said(proof.next(switch("sha256_password", &nul(scramble())))), b"secret\0");
    assert!(is_in(proof.next(Reply::Ok(b"\0"))));
}

#[test]
fn a_server_that_is_verified_by_nothing_gets_no_clear_text() {
    let pinned = Said::pinned(&ServerKey::make().pem);
    for said in [&Said::default(), &pinned] {
        let rules = said.rules();
        for way in [BLIND_TLS, BLIND] {
            let mut proof = Proof::new(PASSWORD, way, &rules);
            assert_eq!(refusal(proof.next(switch("mysql_clear_password", b""))), Refusal::UpstreamUnverified);
        }
        // Inside TLS a server takes nothing but clear text, whatever key is pinned.
        let mut proof = Proof::new(PASSWORD, BLIND_TLS, &rules);
        proof.first(b"caching_sha2_password", &scramble());
        assert_eq!(refusal(proof.next(Reply::More(&[4]))), Refusal::UpstreamUnverified);
        let mut proof = Proof::new(PASSWORD, BLIND_TLS, &rules);
        assert_eq!(refusal(proof.next(switch("sha256_password", &nul(scramble())))), Refusal::UpstreamUnverified);
    }
}

#[test]
fn a_pinned_key_hides_the_password_from_anybody_else() {
    let key = ServerKey::make();
    let pinned = Said::pinned(&key.pem);
    let rules = pinned.rules();
    for way in [BLIND, LOOPBACK] {
        let mut proof = Proof::new(PASSWORD, way, &rules);
        proof.first(b"caching_sha2_password", &scramble());
        let hidden = said(proof.next(Reply::More(&[4])));
        assert_eq!(key.password(&hidden, scramble()), b"secret\0");
        assert!(is_in(proof.next(Reply::Ok(b"\0"))));
        // The scramble is that of the switch, not that of the greeting.
        let mut proof = Proof::new(PASSWORD, way, &rules);
        proof.first(b"caching_sha2_password", &scramble());
        let hidden = said(proof.next(switch("sha256_password", &nul([9; SCRAMBLE]))));
        assert_eq!(key.password(&hidden, [9; SCRAMBLE]), b"secret\0");
    }
}

#[test]
fn a_key_of_the_servers_own_is_taken_on_this_machine_alone() {
    let key = ServerKey::make();
    let rules = Said::default();
    let rules = rules.rules();
    for (plugin, way, asks) in [("caching_sha2_password", LOOPBACK, 2), ("sha256_password", LOOPBACK, 1), ("sha256_password", UNIX, 1)] {
        let mut proof = Proof::new(PASSWORD, way, &rules);
        let first = said(proof.next(switch(plugin, &nul([9; SCRAMBLE]))));
        let asked = if plugin == "sha256_password" { first } else { said(proof.next(Reply::More(&[4]))) };
        assert_eq!(asked, [asks], "{plugin}");
        let hidden = said(proof.next(Reply::More(key.pem.as_bytes())));
        assert_eq!(key.password(&hidden, [9; SCRAMBLE]), b"secret\0");
        assert!(is_in(proof.next(Reply::Ok(b"\0"))));
    }
    let mut proof = Proof::new(PASSWORD, BLIND, &rules);
    proof.first(b"caching_sha2_password", &scramble());
    let refused = error(proof.next(Reply::More(&[4])).err().unwrap());
    assert_eq!(refused.refusal, Refusal::UpstreamUnverified);
    assert!(refused.source.contains("server_public_key") && refused.source.contains("TLS"), "{}", refused.source);
    let mut proof = Proof::new(PASSWORD, BLIND, &rules);
    assert_eq!(refusal(proof.next(switch("sha256_password", &nul(scramble())))), Refusal::UpstreamUnverified);
}

#[test]
fn by_the_word_of_a_greeting_nothing_is_said_but_a_hash() {
    let rules = Said::default();
    let rules = rules.rules();
    for plugin in ["mysql_clear_password", "sha256_password", "mysql_old_password", "dialog", "client_ed25519", "parsec", ""] {
        for way in [TLS, UNIX, LOOPBACK, BLIND] {
            let mut proof = Proof::new(PASSWORD, way, &rules);
            assert_eq!(proof.first(plugin.as_bytes(), &scramble()), (CACHING, Vec::new().into()), "{plugin}");
            assert_eq!(refusal(proof.next(Reply::Ok(b"\0"))), REJECTED, "nothing is proven yet");
        }
    }
}

#[test]
fn what_require_auth_does_not_allow_is_never_answered() {
    let all = ["mysql_native_password", "caching_sha2_password", "sha256_password", "client_ed25519", "parsec", "mysql_clear_password"];
    for forbidden in all {
        let others: Vec<&str> = all.into_iter().filter(|&method| method != forbidden).collect();
        let said = Said::only(&others);
        let rules = said.rules();
        let mut proof = Proof::new(PASSWORD, TLS, &rules);
        let (plugin, auth) = proof.first(forbidden.as_bytes(), &scramble());
        // Named is another plugin, so that the server has to say what it wants.
        assert!(auth.is_empty() && plugin != forbidden.as_bytes(), "{forbidden}");
        assert_eq!(refusal(proof.next(switch(forbidden, &[1; 32]))), REJECTED, "{forbidden}");
        assert_eq!(refusal(proof.next(Reply::Ok(b"\0"))), REJECTED, "{forbidden}");
    }
}

#[test]
fn what_we_do_not_speak_is_refused_by_its_name() {
    let rules = Said::default();
    let rules = rules.rules();
    for plugin in ["mysql_old_password", "dialog", "authentication_ldap_sasl_client", "a\x1bb", ""] {
        let mut proof = Proof::new(PASSWORD, TLS, &rules);
        let refused = error(proof.next(switch(plugin, &nul(scramble()))).err().unwrap());
        assert_eq!(refused.refusal, REJECTED, "{plugin}");
        assert!(!refused.source.contains('\x1b'));
    }
}

#[test]
fn a_server_may_ask_by_one_plugin_after_the_other_but_not_for_ever() {
    let rules = Said::default();
    let rules = rules.rules();
    let mut proof = Proof::new(PASSWORD, LOOPBACK, &rules);
    proof.first(b"mysql_native_password", &scramble());
    for _ in 0..SWITCHES_MAX {
        said(proof.next(switch("mysql_native_password", &nul(scramble()))));
    }
    assert_eq!(refusal(proof.next(switch("mysql_native_password", &nul(scramble())))), Refusal::UpstreamUnreachable);
}

#[test]
fn a_scramble_of_another_length_is_no_scramble() {
    let rules = Said::default();
    let rules = rules.rules();
    let plugins = ["mysql_native_password", "caching_sha2_password", "sha256_password", "client_ed25519", "parsec"];
    for (plugin, length) in plugins.into_iter().flat_map(|plugin| (0..70).map(move |length| (plugin, length))) {
        let fits = match plugin {
            "client_ed25519" | "parsec" => length == 32,
            _ => length == 20 || length == 21,
        };
        let data = [vec![7; usize::from(length > 0) * (length.max(1) - 1)], vec![0; length.min(1)]].concat();
        let mut proof = Proof::new(PASSWORD, LOOPBACK, &rules);
        let step = proof.next(switch(plugin, &data));
        assert_eq!(step.is_ok(), fits, "{plugin} {length}");
        if !fits {
            assert_eq!(refusal(step), Refusal::UpstreamUnreachable);
        }
        // A greeting with such a scramble is answered by nothing.
        if plugin != "client_ed25519" && plugin != "parsec" && length != 20 {
            assert!(Proof::new(PASSWORD, LOOPBACK, &rules).first(plugin.as_bytes(), &data).1.is_empty());
        }
    }
}

#[test]
fn more_than_a_plugin_says_is_refused_in_every_state() {
    let rules = Said::default();
    let rules = rules.rules();
    let greeted = |plugin: &str| {
        let mut proof = Proof::new(PASSWORD, LOOPBACK, &rules);
        proof.first(plugin.as_bytes(), &scramble());
        proof
    };
    for more in [b"".as_slice(), &[2], &[3, 3], &[5], &[3], &[4], b"P"] {
        assert_eq!(refusal(greeted("mysql_native_password").next(Reply::More(more))), Refusal::UpstreamUnreachable, "{more:?}");
        assert_eq!(refusal(greeted("parsec").next(Reply::More(more))), Refusal::UpstreamUnreachable, "{more:?}");
        if more != [3] && more != [4] {
            assert_eq!(refusal(greeted("caching_sha2_password").next(Reply::More(more))), Refusal::UpstreamUnreachable, "{more:?}");
        }
        let mut proof = greeted("mysql_native_password");
        proof.next(switch("parsec", &[7; 32])).ok().unwrap();
        assert_eq!(refusal(proof.next(Reply::More(more))), Refusal::UpstreamUnreachable, "{more:?}");
    }
}

#[test]
fn an_ok_in_the_middle_of_an_exchange_is_no_login() {
    let rules = Said::default();
    let rules = rules.rules();
    for (plugin, data) in [("parsec", vec![7; 32]), ("sha256_password", nul(scramble()))] {
        let mut proof = Proof::new(PASSWORD, LOOPBACK, &rules);
        proof.next(switch(plugin, &data)).ok().unwrap();
        assert_eq!(refusal(proof.next(Reply::Ok(b"\0"))), REJECTED, "{plugin}");
    }
}

#[test]
fn only_a_rejected_password_is_worth_another_try() {
    let rules = Said::default();
    let rules = rules.rules();
    let refused = |code| {
        let error = ServerError { code, state: *b"28000", message: b"for 'app_7'@'10.0.0.1'".to_vec() };
        match Proof::new(PASSWORD, LOOPBACK, &rules).next(Reply::Error(error)).err().unwrap() {
            Failure::Rejected(error) => (true, error.refusal),
            Failure::Other(error) => (false, error.refusal),
        }
    };
    for (codes, again, upstream) in [
        ([1045, 1698].as_slice(), true, UpstreamRefusal::LoginRejected),
        (&[1130, 1820, 1862, 3118, 3955, 4151, 9999, 0], false, UpstreamRefusal::LoginRejected),
        (&[1044, 1049], false, UpstreamRefusal::NoSuchDatabase),
        (&[1040, 1129, 1203, 1226], false, UpstreamRefusal::TooManyConnections),
        (&[1053, 3032], false, UpstreamRefusal::StartingUp),
    ] {
        for code in codes {
            assert_eq!(refused(*code), (again, Refusal::UpstreamRefused(upstream)), "{code}");
        }
    }
}

#[path = "proof_property.rs"]
mod property;
#[path = "server_key_tests.rs"]
mod server_key_tests;
