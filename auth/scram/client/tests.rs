use futures_util::FutureExt;
use proptest::prelude::*;

use super::super::MAX_MESSAGE;
use super::*;
use crate::Secret;

/// RFC 7677 §3.
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn pencil() -> Arc<Password> {
    Arc::new(Password::from(Secret::from("pencil".to_owned())))
}

/// The client of the vector.
fn vector(password: Arc<Password>) -> ScramClient {
    ScramClient {
        password,
        mechanism: PLAIN,
        header: "n,,".to_owned(),
        channel: "biws".to_owned(),
        nonce: NONCE.to_owned(),
        first_bare: format!("n=user,r={NONCE}"),
    }
}

fn expected() -> ServerSignature {
    vector(pencil()).server_first(SERVER_FIRST.as_bytes()).now_or_never().unwrap().unwrap().1
}

#[tokio::test]
async fn the_vector_of_rfc_7677_gives_its_messages_and_derives_its_keys_once() {
    let password = pencil();
    for _ in 0..3 {
        let client = vector(Arc::clone(&password));
        assert_eq!(client.client_first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = client.server_first(SERVER_FIRST.as_bytes()).await.unwrap();
        assert_eq!(String::from_utf8(last).unwrap(), CLIENT_FINAL);
        expected.server_final(SERVER_FINAL.as_bytes()).unwrap();
    }
    assert_eq!(password.derivations(), 1);
}

#[test]
fn it_binds_where_both_sides_can_and_says_so_where_the_server_cannot() {
    let hash = [7_u8; 32];
    let cases: [(&[&str], Option<&[u8]>, _); 9] = [
        (&[PLUS, PLAIN], Some(&hash), Ok((PLUS, "p=tls-server-end-point,,n=,r="))),
        (&[PLAIN, PLUS], Some(&hash), Ok((PLUS, "p=tls-server-end-point,,n=,r="))),
        (&[PLUS], Some(&hash), Ok((PLUS, "p=tls-server-end-point,,n=,r="))),
        (&["SCRAM-SHA-512", PLAIN], Some(&hash), Ok((PLAIN, "y,,n=,r="))),
        (&[PLAIN], None, Ok((PLAIN, "n,,n=,r="))),
        (&[PLUS, PLAIN], None, Ok((PLAIN, "n,,n=,r="))),
        (&[PLUS], None, Err(ScramFailure::NoMechanism)),
        (&["SCRAM-SHA-1", "scram-sha-256"], Some(&hash), Err(ScramFailure::NoMechanism)),
        (&[], None, Err(ScramFailure::NoMechanism)),
    ];
    for (offered, binding, expected) in cases {
        let client = ScramClient::new(pencil(), offered, binding);
        let chosen = client.as_ref().map(|client| (client.mechanism(), client.client_first())).map_err(|failure| *failure);
        match (chosen, expected) {
            (Ok((mechanism, first)), Ok((expected, begins))) => {
                let nonce = first.strip_prefix(begins.as_bytes()).expect("the header, and an empty name");
                assert_eq!((mechanism, nonce.len()), (expected, 24), "{offered:?}");
            }
            (chosen, expected) => assert_eq!(chosen.err(), expected.err(), "{offered:?}"),
        }
    }
    let nonce = || ScramClient::new(pencil(), &[PLAIN], None).ok().unwrap().nonce;
    assert_ne!(nonce(), nonce());
}

#[tokio::test]
async fn server_first_messages_outside_the_grammar_are_refused_and_derive_nothing() {
    let nonce = format!("r={NONCE}");
    let good = [
        format!("{nonce}x,s=AA==,i=1"),
        format!("{nonce}x,s=AA==,i=100000"),
        format!("{nonce}x,s=AA==,i=1,t=ignored,u="),
        format!("{nonce}{},s={},i=1", "x".repeat(400), STANDARD.encode([0; 300])),
    ];
    for message in good {
        let (_, _) = vector(pencil()).server_first(message.as_bytes()).await.expect("well formed");
    }
    let bad = [
        String::new(),
        nonce.clone(),
        format!("{nonce},s=AA==,i=1"),
        "r=,s=AA==,i=1".to_owned(),
        format!("r=x{NONCE}x,s=AA==,i=1"),
        format!("r={}x,s=AA==,i=1", NONCE.to_lowercase()),
        format!("{nonce} x,s=AA==,i=1"),
        format!("{nonce}\u{fc},s=AA==,i=1"),
        format!("{nonce}x\0,s=AA==,i=1"),
        format!("{nonce}x,s=,i=1"),
        format!("{nonce}x,s=A,i=1"),
        format!("{nonce}x,s=AA,i=1"),
        format!("{nonce}x,s=AB==,i=1"),
        format!("{nonce}x,s=AA== ,i=1"),
        format!("{nonce}x,s=AA=="),
        format!("{nonce}x,i=1,s=AA=="),
        format!("s=AA==,{nonce}x,i=1"),
        format!("m=mandatory,{nonce}x,s=AA==,i=1"),
        format!("{nonce}x,m=mandatory,s=AA==,i=1"),
        format!("{nonce}x,s=AA==,i=1,m=mandatory"),
        format!("{nonce}x,s=AA==,i=1,"),
        format!("{nonce}x,s=AA==,i=1,novalue"),
        format!("{nonce}x,s=AA==,i=1,t={}", "x".repeat(MAX_MESSAGE)),
        "e=other-error".to_owned(),
    ];
    let counts = ["", "0", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "0x1", "100001", "4294967296", "4294967297", "99999999999999999999"];
    let bad = bad.into_iter().chain(counts.map(|count| format!("{nonce}x,s=AA==,i={count}")));
    let password = pencil();
    for message in bad {
        let outcome = vector(Arc::clone(&password)).server_first(message.as_bytes()).await;
        assert_eq!(outcome.err(), Some(ScramFailure::Malformed), "{message:?}");
    }
    let outcome = vector(Arc::clone(&password)).server_first(b"r=rOprNGfwEbeRWgbNEkqO\xff,s=AA==,i=1").await;
    assert_eq!(outcome.err(), Some(ScramFailure::Malformed));
    assert_eq!(password.derivations(), 0);
}

#[test]
fn a_server_that_does_not_show_that_it_knows_the_password_is_not_believed() {
    let signature = &SERVER_FINAL[2..];
    expected().server_final(SERVER_FINAL.as_bytes()).unwrap();
    expected().server_final(format!("{SERVER_FINAL},x=ignored").as_bytes()).unwrap();
    let long = format!("{SERVER_FINAL},x={}", "y".repeat(MAX_MESSAGE));
    let cases = [
        ("e=invalid-proof".to_owned(), ScramFailure::Refused),
        ("e=".to_owned(), ScramFailure::Refused),
        (format!("e=other-error,{SERVER_FINAL}"), ScramFailure::Refused),
        (SERVER_FINAL.replace("6rri", "6rrj"), ScramFailure::Unproven),
        (SERVER_FINAL.replace("95G4=", "95G5="), ScramFailure::Unproven),
        (SERVER_FINAL.replace('=', ""), ScramFailure::Unproven),
        (format!("v={}", STANDARD.encode([0; 32])), ScramFailure::Unproven),
        (format!("v={}", STANDARD.encode([0; 31])), ScramFailure::Unproven),
        (format!("v={}", STANDARD.encode([0; 33])), ScramFailure::Unproven),
        ("v=".to_owned(), ScramFailure::Unproven),
        (String::new(), ScramFailure::Unproven),
        (signature.to_owned(), ScramFailure::Unproven),
        (format!("{SERVER_FINAL}\0"), ScramFailure::Unproven),
        (format!("{SERVER_FINAL},"), ScramFailure::Unproven),
        (format!("{SERVER_FINAL},m=mandatory"), ScramFailure::Unproven),
        (format!("x=first,{SERVER_FINAL}"), ScramFailure::Unproven),
        (long, ScramFailure::Unproven),
    ];
    for (message, failure) in cases {
        assert_eq!(expected().server_final(message.as_bytes()), Err(failure), "{message:?}");
    }
    assert_eq!(expected().server_final(&[b'v', b'=', 0xff]), Err(ScramFailure::Unproven));
    // What the server knows of another password.
    let another = Arc::new(Password::from(Secret::from("Pencil".to_owned())));
    let (_, expected) = vector(another).server_first(SERVER_FIRST.as_bytes()).now_or_never().unwrap().unwrap();
    assert_eq!(expected.server_final(SERVER_FINAL.as_bytes()), Err(ScramFailure::Unproven));
}

proptest! {
    #[test]
    fn no_message_makes_the_client_panic(
        first in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "r=rOprNGfwEbeRWgbNEkqO[ -~]{0,9},s=[A-Za-z0-9+/=]{0,9},i=[0-9]{0,3}(,[ -~]{0,9})?".prop_map(String::into_bytes),
        ],
        last in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[ve]=[A-Za-z0-9+/=]{0,44}(,[ -~]{0,9})?".prop_map(String::into_bytes),
        ],
    ) {
        if let Ok((_, expected)) = vector(pencil()).server_first(&first).now_or_never().expect("few iterations") {
            prop_assert!(expected.server_final(&last).is_err());
        }
    }
}
