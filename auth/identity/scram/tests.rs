use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::super::{Lockout, LockoutLimits, SaltKey, Users, Verifier};
use super::*;
use crate::scram::{MAX_MESSAGE, Password, ScramClient};
use crate::{Secret, sample};

/// RFC 7677 §3.
const PENCIL: &str =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

/// Users `user` (password "pencil") and `argon`, and all that an exchange needs.
struct World {
    users: Users,
    salts: SaltKey,
    lockout: Arc<Lockout>,
    computations: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let argon2 = Verifier::make_argon2(&Secret::from("pencil".to_owned())).unwrap();
        let text = format!("users:\n  user: {{ password: \"{PENCIL}\", groups: [crew] }}\n  argon: {{ password: \"{argon2}\" }}\n");
        let (config, mut problems) = sample::config(&text);
        let salts = SaltKey::random().unwrap();
        let users = Users::read(&config, &salts, &mut problems);
        Self { users, salts, lockout: no_failures(), computations: Arc::default() }
    }

    async fn begin(&self, user: &str, binding: Option<&[u8]>) -> Result<ScramServer, AuthFailure> {
        let source = Source::tcp("192.0.2.7".parse().unwrap());
        let attempt = Attempt::begin(&self.lockout, user, source).await?;
        let verifier = self.users.scram(user, &self.salts);
        Ok(ScramServer::new(verifier, source, attempt, binding.map(<[u8]>::to_vec), Arc::clone(&self.computations)))
    }

    /// The whole exchange with an independent client.
    async fn log_in(&self, user: &str, password: &str, mechanism: &str, binding: Option<&[u8]>, channel: ChannelBinding) -> Outcome {
        let mut server = self.begin(user, binding).await?;
        let mut client = ScramSha256::new(password.as_bytes(), channel);
        let first = server.client_first(mechanism, client.message())?;
        client.update(&first).unwrap();
        let (identity, last) = server.client_final(client.message())?;
        client.finish(&last).expect("the client believes us");
        Ok(identity)
    }
}

/// No failures yet; two lock a pair.
fn no_failures() -> Arc<Lockout> {
    Arc::new(Lockout::new(LockoutLimits { failed_logins: 2, lock_time: std::time::Duration::from_secs(60) }))
}

type Outcome = Result<Identity, AuthFailure>;

#[tokio::test]
async fn the_vector_of_rfc_7677_gives_its_messages() {
    let world = World::new();
    let mut server = world.begin("user", None).await.unwrap();
    let first = server.first("SCRAM-SHA-256", FIRST, SERVER_NONCE).unwrap();
    let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(first, expected.as_bytes());
    let (identity, last) = server.client_final(CLIENT_FINAL.as_bytes()).unwrap();
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!((identity.user().as_str(), identity.proof()), ("user", Proof::ScramSha256));
    assert_eq!(identity.groups(), ["crew".parse().unwrap()]);
    assert_eq!(identity.source(), Source::tcp("192.0.2.7".parse().unwrap()));
}

#[tokio::test]
async fn an_independent_client_logs_in_with_and_without_channel_binding() {
    let world = World::new();
    let hash = [7_u8; 32];
    let bound = || ChannelBinding::tls_server_end_point(hash.to_vec());
    let plus = world.log_in("user", "pencil", PLUS, Some(&hash), bound()).await.unwrap();
    assert_eq!(plus.proof(), Proof::ScramSha256Plus);
    for (binding, channel) in
        [(None, ChannelBinding::unrequested()), (None, ChannelBinding::unsupported()), (Some(&hash[..]), ChannelBinding::unsupported())]
    {
        let plain = world.log_in("user", "pencil", PLAIN, binding, channel).await.unwrap();
        assert_eq!(plain.proof(), Proof::ScramSha256);
    }
    let bad = world.log_in("user", "Pencil", PLUS, Some(&hash), bound()).await;
    assert_eq!(bad.unwrap_err(), AuthFailure::NotAuthenticated);
}

#[tokio::test]
async fn our_own_client_logs_in_with_and_without_channel_binding() {
    let world = World::new();
    let log_in = async |text: &str, offered: &[&str], ours: Option<&[u8]>, theirs: Option<&[u8]>| {
        let password = Arc::new(Password::from(Secret::from(text.to_owned())));
        let mut server = world.begin("user", ours).await?;
        let client = ScramClient::new(password, offered, theirs).ok().unwrap();
        let first = server.client_first(client.mechanism(), &client.client_first())?;
        let (last, expected) = client.server_first(&first).await.unwrap();
        let (identity, last) = server.client_final(&last)?;
        expected.server_final(&last).expect("it believes us");
        Ok(identity.proof())
    };
    let (hash, other) = (Some(&[7_u8; 32][..]), Some(&[8_u8; 32][..]));
    assert_eq!(log_in("pencil", &[PLUS, PLAIN], hash, hash).await, Ok(Proof::ScramSha256Plus));
    assert_eq!(log_in("pencil", &[PLAIN], None, hash).await, Ok(Proof::ScramSha256));
    assert_eq!(log_in("pencil", &[PLUS, PLAIN], hash, None).await, Ok(Proof::ScramSha256));
    assert_eq!(log_in("Pencil", &[PLUS, PLAIN], hash, hash).await, Err(AuthFailure::NotAuthenticated));
    assert_eq!(log_in("pencil", &[PLUS, PLAIN], hash, other).await, Err(AuthFailure::NotAuthenticated), "somebody in between");
    assert_eq!(log_in("pencil", &[PLAIN], hash, hash).await, Err(AuthFailure::Malformed), "somebody took -PLUS out of our offer");
}

#[tokio::test]
async fn a_downgrade_or_a_foreign_channel_is_refused_even_with_the_right_password() {
    let world = World::new();
    let hash = [7_u8; 32];
    let ours = || ChannelBinding::tls_server_end_point(hash.to_vec());
    let cases = [
        ("could bind, was offered it, did not", PLAIN, Some(&hash[..]), ChannelBinding::unrequested(), AuthFailure::Malformed),
        ("chose -PLUS, bound nothing", PLUS, Some(&hash[..]), ChannelBinding::unsupported(), AuthFailure::Malformed),
        ("chose -PLUS, says that it was not offered", PLUS, Some(&hash[..]), ChannelBinding::unrequested(), AuthFailure::Malformed),
        ("-PLUS was not offered", PLUS, None, ours(), AuthFailure::Malformed),
        ("bound, without saying so", PLAIN, Some(&hash[..]), ours(), AuthFailure::Malformed),
        ("another mechanism", "SCRAM-SHA-1", None, ChannelBinding::unsupported(), AuthFailure::Malformed),
        (
            "bound to the certificate of somebody in between",
            PLUS,
            Some(&hash[..]),
            ChannelBinding::tls_server_end_point(vec![8; 32]),
            AuthFailure::NotAuthenticated,
        ),
    ];
    for (what, mechanism, binding, channel, expected) in cases {
        let outcome = world.log_in("user", "pencil", mechanism, binding, channel).await;
        assert_eq!(outcome.unwrap_err(), expected, "{what}");
    }
    assert_eq!(world.begin("user", Some(&hash)).await.unwrap().mechanisms(), [PLUS, PLAIN]);
    assert_eq!(world.begin("user", None).await.unwrap().mechanisms(), [PLAIN]);
}

#[tokio::test]
async fn unknown_users_and_those_without_a_scram_verifier_look_like_a_wrong_password() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for user in ["user", "nobody", "argon", "', DROP TABLE users; --", ""] {
        let before = world.computations.load(Ordering::Relaxed);
        let mut server = world.begin(user, None).await.unwrap();
        let mut client = ScramSha256::new(b"wrong", ChannelBinding::unsupported());
        let first = server.client_first(PLAIN, client.message()).unwrap();
        client.update(&first).unwrap();
        let failure = server.client_final(client.message()).unwrap_err();
        seen.push((first.len(), failure, world.computations.load(Ordering::Relaxed) - before));
        world.lockout = no_failures();
    }
    assert_eq!(seen[0].1, AuthFailure::NotAuthenticated);
    assert!(seen.iter().all(|each| *each == seen[0]), "{seen:?}");

    let salt = async |user: &str| {
        let first = world.begin(user, None).await.unwrap().first(PLAIN, FIRST, SERVER_NONCE).unwrap();
        String::from_utf8(first).unwrap()
    };
    assert_eq!(salt("nobody").await, salt("nobody").await, "the same salt each time, as a real user has");
    assert_ne!(salt("nobody").await, salt("noone").await);
    // The right password of the stored form that SCRAM cannot use does not help.
    let outcome = world.log_in("argon", "pencil", PLAIN, None, ChannelBinding::unsupported()).await;
    assert_eq!(outcome.unwrap_err(), AuthFailure::NotAuthenticated);
}

#[tokio::test]
async fn only_a_wrong_proof_counts_and_a_locked_pair_is_told_so_whether_or_not_it_exists() {
    for user in ["user", "nobody"] {
        let world = World::new();
        let log_in = |password| world.log_in(user, password, PLAIN, None, ChannelBinding::unsupported());
        for _ in 0..5 {
            let mut abandoned = world.begin(user, None).await.unwrap();
            abandoned.client_first(PLAIN, FIRST).unwrap();
            let mut broken = world.begin(user, None).await.unwrap();
            broken.client_first(PLAIN, FIRST).unwrap();
            assert_eq!(broken.client_final(b"nonsense").unwrap_err(), AuthFailure::Malformed);
        }
        let mut early = world.begin(user, None).await.unwrap();
        early.first(PLAIN, FIRST, SERVER_NONCE).unwrap();
        assert_eq!(log_in("a").await.unwrap_err(), AuthFailure::NotAuthenticated);
        assert_eq!(log_in("b").await.unwrap_err(), AuthFailure::NotAuthenticated);
        assert_eq!(log_in("pencil").await.unwrap_err(), AuthFailure::Locked);
        // One that began before the lock does not get past it, even with the right proof.
        assert_eq!(early.client_final(CLIENT_FINAL.as_bytes()).unwrap_err(), AuthFailure::Locked);
    }
}

#[tokio::test]
async fn a_success_clears_the_pair() {
    let world = World::new();
    let log_in = |password| world.log_in("user", password, PLAIN, None, ChannelBinding::unsupported());
    for _ in 0..3 {
        assert_eq!(log_in("a").await.unwrap_err(), AuthFailure::NotAuthenticated);
        log_in("pencil").await.unwrap();
    }
}

#[tokio::test]
async fn first_messages_outside_the_grammar_are_refused() {
    let world = World::new();
    let good: &[&[u8]] = &[b"n,,n=,r=x", b"y,,n=,r=x", b"n,,n=a=2Cb,r=x", "n,,n=\u{fc}ser,r=x".as_bytes(), b"n,,n=user,r=x,t=ignored,u="];
    for message in good {
        world.begin("user", None).await.unwrap().client_first(PLAIN, message).expect("well formed");
    }
    let long = [b"n,,n=,r=".as_slice(), &[b'x'; MAX_MESSAGE]].concat();
    let bad: &[&[u8]] = &[
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=user",
        b"n,,n=user,",
        b"n,,n=user,r=",
        b"n,,r=x,n=user",
        b"n,,n=user,r=x,",
        b"n,,n=user,r=x,novalue",
        b"n,,n=user,r=x,1=digit",
        b"n,,n=user,r=x,m=mandatory",
        b"n,,m=mandatory,n=user,r=x",
        b"n,a=admin,n=user,r=x",
        b"x,,n=user,r=x",
        b"N,,n=user,r=x",
        b"p=,,n=user,r=x",
        b"p=tls-unique,,n=user,r=x",
        b"p=tls-server-end-point,,n=user,r=x",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=x\0",
        b"n,,n=us\0er,r=x",
        b"n,,n=\xff,r=x",
        "n,,n=user,r=\u{fc}".as_bytes(),
        &long,
    ];
    for message in bad {
        let outcome = world.begin("user", None).await.unwrap().client_first(PLAIN, message);
        assert_eq!(outcome.unwrap_err(), AuthFailure::Malformed, "{}", message.escape_ascii());
    }
    let mut twice = world.begin("user", None).await.unwrap();
    twice.client_first(PLAIN, FIRST).unwrap();
    assert_eq!(twice.client_first(PLAIN, FIRST).unwrap_err(), AuthFailure::Malformed);
}

#[tokio::test]
async fn final_messages_outside_the_grammar_are_refused() {
    let world = World::new();
    assert_eq!(world.begin("user", None).await.unwrap().client_final(CLIENT_FINAL.as_bytes()).unwrap_err(), AuthFailure::Malformed);
    let (without_proof, proof) = CLIENT_FINAL.split_once(",p=").unwrap();
    let cases = [
        (String::new(), AuthFailure::Malformed),
        (without_proof.to_owned(), AuthFailure::Malformed),
        (format!("{without_proof},p="), AuthFailure::Malformed),
        (format!("{without_proof},p=AAAA"), AuthFailure::Malformed),
        (format!("{without_proof},p={proof}\0"), AuthFailure::Malformed),
        (format!("{CLIENT_FINAL},x=after"), AuthFailure::Malformed),
        (format!("{without_proof},m=mandatory,p={proof}"), AuthFailure::Malformed),
        (CLIENT_FINAL.replace("c=biws,", ""), AuthFailure::Malformed),
        (CLIENT_FINAL.replace("k0,", "k1,"), AuthFailure::Malformed),
        (CLIENT_FINAL.replace("rOpr", "rOpR"), AuthFailure::Malformed),
        (format!("{without_proof},x={},p={proof}", "y".repeat(MAX_MESSAGE)), AuthFailure::Malformed),
        (CLIENT_FINAL.replace("c=biws", "c=eSws"), AuthFailure::NotAuthenticated),
        (CLIENT_FINAL.replace("c=biws", "c="), AuthFailure::NotAuthenticated),
        // A well-formed extension is part of what the proof signs: the proof of the vector does not fit any more.
        (format!("{without_proof},x=y,p={proof}"), AuthFailure::NotAuthenticated),
    ];
    for (message, expected) in cases {
        let mut server = world.begin("user", None).await.unwrap();
        server.first(PLAIN, FIRST, SERVER_NONCE).unwrap();
        assert_eq!(server.client_final(message.as_bytes()).unwrap_err(), expected, "{message:?}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_the_server_panic(
        first in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[nyp](=tls-server-end-point)?,,n=[ -~]{0,9},r=[ -~]{0,9}".prop_map(String::into_bytes),
        ],
        last in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "c=[ -~]{0,9},r=x%[ -~]{0,9},p=[A-Za-z0-9+/=]{0,44}".prop_map(String::into_bytes),
        ],
        plus in any::<bool>(),
    ) {
        thread_local!(static WORLD: World = World::new());
        WORLD.with(|world| {
            let source = Source::local();
            let attempt = futures_util::FutureExt::now_or_never(Attempt::begin(&no_failures(), "user", source));
            let attempt = attempt.expect("no wait").expect("no lock");
            let verifier = world.users.scram("user", &world.salts);
            let mut server = ScramServer::new(verifier, source, attempt, Some(vec![1; 32]), Arc::clone(&world.computations));
            let _ = server.first(if plus { PLUS } else { PLAIN }, &first, "%");
            let _ = server.client_final(&last);
        });
    }
}
