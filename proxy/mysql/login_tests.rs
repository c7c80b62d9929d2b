use keyward_auth::Proof;

use super::super::capabilities::Capabilities;
use super::super::sample::{self, Bench, Client, PASSWORD};
use super::super::wire::{Reply, reply};
use super::*;

const NATIVE: &[u8] = b"mysql_native_password";
const SCRAMBLE: [u8; 20] = *b"abcdefghijklmnopqrst";
/// What a client mixes of its password and the scramble. We look at it only to see that there is one.
const TOKEN: [u8; 32] = [7; 32];

/// A login of this user, whose answer came with packet 1; `script` is the client's side of it.
async fn log_in(
    bench: &Bench,
    keys: &KeyPair,
    (theirs, mut ours): (Stream, Stream),
    (user, plugin, auth): (&str, &[u8], &[u8]),
    script: impl AsyncFnOnce(&mut Client),
) -> Result<Identity, SessionError> {
    let answer = sample::answer(user, plugin, auth);
    let opened = Opened { login: user.to_owned(), database: None, answer, scramble: SCRAMBLE, offered: Capabilities::NONE };
    let mut packets = Packets::at(2);
    let mut client = Client::at(theirs, 2);
    let (proven, ()) = tokio::join!(
        async {
            let proven = prove(&bench.link, &mut ours, &mut packets, keys, user, &opened).await;
            drop(ours);
            proven
        },
        script(&mut client)
    );
    proven
}

fn full_authentication(payload: &[u8]) {
    assert_eq!(reply(payload).unwrap(), Reply::More(&[FULL_AUTHENTICATION]));
}

/// The new scramble of a request to use another plugin.
fn switched(payload: &[u8], to: &[u8]) -> Vec<u8> {
    match reply(payload).unwrap() {
        Reply::Switch { plugin, data } if plugin == to => data.strip_suffix(&[0]).unwrap().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn with_nul(password: &str) -> Vec<u8> {
    [password.as_bytes(), &[0]].concat()
}

/// As a client seals it, with another implementation than ours.
fn sealed(password: &str, scramble: &[u8], key: &[u8]) -> Vec<u8> {
    let mixed: Vec<u8> = with_nul(password).iter().zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    mysql_common::crypto::encrypt(&mixed, key).unwrap()
}

async fn sends_clear(client: &mut Client, password: &str) {
    full_authentication(&client.hear().await);
    client.say(&with_nul(password)).await;
}

async fn sends_sealed(client: &mut Client, password: &str) {
    full_authentication(&client.hear().await);
    client.say(REQUEST_KEY).await;
    let key = client.hear().await;
    let Reply::More(key) = reply(&key).unwrap() else { panic!("{key:?}") };
    client.say(&sealed(password, &SCRAMBLE, key)).await;
}

#[track_caller]
fn is_alice(proven: &Result<Identity, SessionError>) {
    let proven = proven.as_ref().unwrap();
    assert_eq!((proven.user().as_str(), proven.proof()), ("alice", Proof::Cleartext));
}

#[track_caller]
fn is_refused(proven: &Result<Identity, SessionError>, refusal: Refusal) {
    assert_eq!(proven.as_ref().unwrap_err().refusal, refusal, "{}", proven.as_ref().unwrap_err());
}

#[tokio::test]
async fn a_password_comes_as_it_is_inside_tls_and_on_a_unix_socket() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let (keys, alice) = (KeyPair::default(), ("alice", CACHING_SHA2, TOKEN.as_slice()));
    is_alice(&log_in(&bench, &keys, bench.tls().await, alice, async |client| sends_clear(client, PASSWORD).await).await);
    is_alice(&log_in(&bench, &keys, sample::unix(), alice, async |client| sends_clear(client, PASSWORD).await).await);
    let wrong = log_in(&bench, &keys, bench.tls().await, alice, async |client| sends_clear(client, "wrong").await).await;
    is_refused(&wrong, Refusal::NotAuthenticated);
    let nobody = ("nobody", CACHING_SHA2, TOKEN.as_slice());
    let nobody = log_in(&bench, &keys, bench.tls().await, nobody, async |client| sends_clear(client, PASSWORD).await).await;
    is_refused(&nobody, Refusal::NotAuthenticated);
}

#[tokio::test]
async fn a_password_is_sealed_with_our_key_on_the_loopback_and_may_be_elsewhere() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let (keys, alice) = (KeyPair::default(), ("alice", CACHING_SHA2, TOKEN.as_slice()));
    for streams in [sample::tcp().await, sample::unix(), bench.tls().await] {
        is_alice(&log_in(&bench, &keys, streams, alice, async |client| sends_sealed(client, PASSWORD).await).await);
    }
    // Without asking, by a client that was given the key.
    let key = keys.get().await.unwrap();
    for streams in [sample::tcp().await, sample::unix()] {
        let known = log_in(&bench, &keys, streams, alice, async |client| {
            full_authentication(&client.hear().await);
            let mut packet = sealed(PASSWORD, &SCRAMBLE, key.public().as_bytes());
            // One that ends in 0 is a password in clear text on a unix socket; a client that has the key by other means seals again.
            while packet.last() == Some(&0) {
                packet = sealed(PASSWORD, &SCRAMBLE, key.public().as_bytes());
            }
            client.say(&packet).await;
        });
        is_alice(&known.await);
    }
    let wrong = log_in(&bench, &keys, sample::tcp().await, alice, async |client| sends_sealed(client, "wrong").await).await;
    is_refused(&wrong, Refusal::NotAuthenticated);
}

#[tokio::test]
async fn what_does_not_open_counts_as_a_wrong_password() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let (keys, alice) = (KeyPair::default(), ("alice", CACHING_SHA2, TOKEN.as_slice()));
    let other_key = KeyPair::default().get().await.unwrap();
    let for_another = sealed(PASSWORD, &SCRAMBLE, other_key.public().as_bytes());
    let with_another_scramble = sealed(PASSWORD, &[7; 20], keys.get().await.unwrap().public().as_bytes());
    // Three failures lock.
    for packet in [for_another, with_another_scramble, vec![0xff; 256]] {
        let refused = log_in(&bench, &keys, sample::tcp().await, alice, async |client| {
            full_authentication(&client.hear().await);
            client.say(&packet).await;
            assert!(client.hear().await.is_empty(), "nothing says which of the checks failed");
        });
        is_refused(&refused.await, Refusal::NotAuthenticated);
    }
    let locked = log_in(&bench, &keys, sample::tcp().await, alice, async |client| sends_sealed(client, PASSWORD).await).await;
    is_refused(&locked, Refusal::Locked);
}

#[tokio::test]
async fn a_client_that_does_not_seal_its_password_is_told_to_use_tls() {
    let (bench, keys) = (Bench::new(LoginMethod::CachingSha2), KeyPair::default());
    let alice = ("alice", CACHING_SHA2, TOKEN.as_slice());
    let clear = log_in(&bench, &keys, sample::tcp().await, alice, async |client| sends_clear(client, PASSWORD).await).await;
    is_refused(&clear, Refusal::TlsRequired);
    // Once it has the key, it has no excuse.
    let clear = log_in(&bench, &keys, sample::tcp().await, alice, async |client| {
        full_authentication(&client.hear().await);
        client.say(REQUEST_KEY).await;
        client.hear().await;
        client.say(&with_nul(PASSWORD)).await;
    });
    is_refused(&clear.await, Refusal::NotAuthenticated);
}

#[tokio::test]
async fn a_client_that_came_with_another_plugin_is_sent_to_ours_with_a_new_scramble() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let keys = KeyPair::default();
    for plugin in [NATIVE, b"mysql_clear_password", b"client_ed25519", b""] {
        let switched = log_in(&bench, &keys, sample::tcp().await, ("alice", plugin, &TOKEN[..20]), async |client| {
            let scramble = switched(&client.hear().await, CACHING_SHA2);
            assert_ne!(scramble, SCRAMBLE);
            client.say(&TOKEN).await;
            full_authentication(&client.hear().await);
            client.say(REQUEST_KEY).await;
            let key = client.hear().await;
            let Reply::More(key) = reply(&key).unwrap() else { panic!("{key:?}") };
            client.say(&sealed(PASSWORD, &scramble, key)).await;
        });
        is_alice(&switched.await);
    }
}

#[tokio::test]
async fn an_empty_password_is_a_wrong_one_even_of_a_user_who_has_it() {
    let bench = Bench::new(LoginMethod::CachingSha2);
    let keys = KeyPair::default();
    for auth in [b"".as_slice(), b"\0"] {
        let empty = ("empty", CACHING_SHA2, auth);
        // Such a client waits for the outcome and has nothing more to say.
        let refused = log_in(&bench, &keys, bench.tls().await, empty, async |client| assert!(client.hear().await.is_empty())).await;
        is_refused(&refused, Refusal::NotAuthenticated);
    }
    let empty = ("empty", CACHING_SHA2, TOKEN.as_slice());
    let refused = log_in(&bench, &keys, bench.tls().await, empty, async |client| sends_clear(client, "").await).await;
    is_refused(&refused, Refusal::NotAuthenticated);
    // The third failure was the last.
    let locked = log_in(&bench, &keys, bench.tls().await, empty, async |client| sends_clear(client, "").await).await;
    is_refused(&locked, Refusal::Locked);
}

#[tokio::test]
async fn a_listener_for_tokens_asks_for_clear_text_inside_tls_or_on_this_machine() {
    let bench = Bench::new(LoginMethod::Cleartext);
    let (keys, alice) = (KeyPair::default(), ("alice", CACHING_SHA2, TOKEN.as_slice()));
    for streams in [bench.tls().await, sample::unix(), sample::tcp().await] {
        let clear = log_in(&bench, &keys, streams, alice, async |client| {
            switched(&client.hear().await, CLEARTEXT);
            client.say(&with_nul(PASSWORD)).await;
        });
        is_alice(&clear.await);
    }
    let at_once = ("alice", CLEARTEXT, with_nul(PASSWORD));
    let at_once = (at_once.0, at_once.1, at_once.2.as_slice());
    is_alice(&log_in(&bench, &keys, bench.tls().await, at_once, async |_| {}).await);

    let bench = bench.remote();
    is_alice(&log_in(&bench, &keys, bench.tls().await, at_once, async |_| {}).await);
    // A unix socket, too: a balancer on this machine may speak for a client on another one.
    for streams in [sample::tcp().await, sample::unix()] {
        let refused = log_in(&bench, &keys, streams, alice, async |client| assert!(client.hear().await.is_empty(), "asked for nothing"));
        is_refused(&refused.await, Refusal::TlsRequired);
    }
}

#[tokio::test]
async fn a_client_that_breaks_the_exchange_is_malformed_and_one_that_leaves_has_left() {
    let (bench, keys) = (Bench::new(LoginMethod::CachingSha2), KeyPair::default());
    let alice = ("alice", CACHING_SHA2, TOKEN.as_slice());
    for streams in [bench.tls().await, sample::unix()] {
        let unterminated = log_in(&bench, &keys, streams, alice, async |client| {
            full_authentication(&client.hear().await);
            client.say(PASSWORD.as_bytes()).await;
        });
        is_refused(&unterminated.await, Refusal::Malformed);
    }
    let out_of_order = log_in(&bench, &keys, bench.tls().await, alice, async |client| {
        full_authentication(&client.hear().await);
        client.packets = Packets::at(7);
        client.say(&with_nul(PASSWORD)).await;
    });
    is_refused(&out_of_order.await, Refusal::Malformed);
    let endless = log_in(&bench, &keys, sample::unix(), alice, async |client| {
        full_authentication(&client.hear().await);
        // The header alone is refused: nobody waits for the rest.
        let header = packet::framed(3, &vec![0; packet::LOGIN_MAX + 1]);
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, &header[..4]).await.unwrap();
        client.packets = Packets::at(3);
        assert!(client.hear().await.is_empty());
    });
    is_refused(&endless.await, Refusal::Malformed);
    for after in 0..3 {
        let gone = log_in(&bench, &keys, sample::tcp().await, ("alice", NATIVE, &TOKEN[..20]), async |client| {
            for said in [TOKEN.as_slice(), REQUEST_KEY].iter().take(after) {
                client.hear().await;
                client.say(said).await;
            }
            client.hear().await;
            client.stream = Stream::Closed;
        });
        assert!(gone.await.unwrap_err().left, "after {after} packets");
    }
    let bench = Bench::new(LoginMethod::Cleartext);
    for sent in [b"".as_slice(), PASSWORD.as_bytes()] {
        let unterminated = log_in(&bench, &keys, bench.tls().await, alice, async |client| {
            client.hear().await;
            client.say(sent).await;
        });
        is_refused(&unterminated.await, Refusal::Malformed);
    }
}
