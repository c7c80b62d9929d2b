use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use keyward_config::Problems;

use super::*;
use crate::{Proof, Verifier, sample};

mod keys;

const CONNECTIONS: &str = "
connections:
  orders:  { protocol: postgres, address: 'pg:5432', username: { literal: app }, password: { literal: hidden } }
  payroll: { protocol: postgres, address: 'pg:5432', username: { literal: app }, password: { literal: hidden } }
access:
  - { allow: [crew], connections: [orders] }
";

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDfY5ok+OSJR6vRWxJmuwNEzob7gpi0mS5X8H+CHyY7H carol@laptop";

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn source(text: &str) -> Source {
    Source::tcp(text.parse().unwrap())
}

/// `alice` with a SCRAM verifier and `bob` with an argon2id one, both of "right"; `carol` with none. Two failures lock.
fn users() -> String {
    let scram = Verifier::make_scram(&secret("right")).unwrap();
    let argon2 = Verifier::make_argon2(&secret("right")).unwrap();
    format!(
        "limits: {{ failed_logins: 2, lock_time: 5m }}\nusers:\n  alice: {{ password: \"{scram}\", groups: [crew] }}\n  \
         bob: {{ password: \"{argon2}\", groups: [crew] }}\n  carol: {{ public_keys: ['{KEY}'] }}\n"
    )
}

fn open(sections: &str) -> Arc<Gate> {
    let (config, mut problems) = sample::config(sections);
    let gate = Gate::for_operator(&config, sample::nobody(), &mut problems);
    gate.unwrap_or_else(|| panic!("{problems}"))
}

fn replace(gate: &Gate, sections: &str) -> (Option<Replaced>, Problems) {
    let (config, mut problems) = sample::config(sections);
    (gate.replace(&config, &mut problems), problems)
}

#[tokio::test]
async fn a_clear_text_password_is_checked_against_either_form_at_the_same_cost_for_everybody() {
    let gate = open(&(users() + CONNECTIONS));
    for user in ["alice", "bob"] {
        let identity = gate.password(user, secret("right"), source("192.0.2.1")).await.unwrap();
        assert_eq!((identity.user().as_str(), identity.proof()), (user, Proof::Cleartext));
    }
    let computations = || gate.hashing.computations().load(Ordering::Relaxed);
    for (n, user) in ["alice", "bob", "carol", "nobody", "\0\u{202e}"].into_iter().enumerate() {
        let before = computations();
        // Each from an address of his own, so that none is slowed.
        let outcome = gate.password(user, secret("wrong"), source(&format!("192.0.2.{n}"))).await;
        assert_eq!(outcome.unwrap_err(), AuthFailure::NotAuthenticated);
        assert_eq!(computations() - before, 1, "{user}");
    }
}

#[tokio::test]
async fn a_password_that_was_right_a_short_while_ago_costs_no_slow_hash_again_and_opens_no_more_than_before() {
    let sections = users() + CONNECTIONS;
    let gate = open(&sections);
    let computations = || gate.hashing.computations().load(Ordering::Relaxed);
    for (user, elsewhere) in [("alice", "203.0.113.8"), ("bob", "203.0.113.9")] {
        let (here, elsewhere) = (source("192.0.2.1"), source(elsewhere));
        for (from, costs) in [(here, 1), (here, 0), (elsewhere, 0)] {
            let before = computations();
            let identity = gate.password(user, secret("right"), from).await.unwrap();
            assert_eq!((identity.user().as_str(), computations() - before), (user, costs), "{user}");
        }
        // Whoever guesses pays for each guess, and locks the pair: then the right one is of no use either.
        for _ in 0..2 {
            let before = computations();
            assert_eq!(gate.password(user, secret("guess"), elsewhere).await.unwrap_err(), AuthFailure::NotAuthenticated);
            assert_eq!(computations() - before, 1, "{user}");
        }
        assert_eq!(gate.password(user, secret("right"), elsewhere).await.unwrap_err(), AuthFailure::Locked);
        // A reload: another verifier of the same password, of another one, and none.
        let before = computations();
        replace(&gate, &(users() + CONNECTIONS)).0.unwrap();
        assert!(gate.password(user, secret("right"), here).await.is_ok());
        assert_eq!(computations() - before, 1, "{user}: the slow hash is another one");
        let other = format!("users: {{ {user}: {{ password: '{}' }} }}\n", Verifier::make_scram(&secret("other")).unwrap());
        replace(&gate, &other).0.unwrap();
        assert_eq!(gate.password(user, secret("right"), here).await.unwrap_err(), AuthFailure::NotAuthenticated);
        replace(&gate, "users: {}\n").0.unwrap();
        let gone = gate.password(user, secret("right"), source("198.51.100.7")).await;
        assert_eq!(gone.unwrap_err(), AuthFailure::NotAuthenticated, "{user} is gone");
        replace(&gate, &sections).0.unwrap();
    }
}

#[tokio::test]
async fn where_stored_forms_differ_a_user_who_does_not_exist_looks_like_some_who_do() {
    let scram = |count: u32, salt: &str| format!("SCRAM-SHA-256${count}:{salt}${0}:{0}", "A".repeat(43) + "=");
    let argon2 = Verifier::make_argon2(&secret("x")).unwrap();
    let (old, new) = (scram(4096, "c2FsdHNhbHRzYWx0c2Fs"), scram(10_000, "c2FsdHNhbHQ="));
    let gate = open(&format!("users: {{ a: {{ password: '{old}' }}, b: {{ password: '{new}' }}, c: {{ password: '{argon2}' }} }}\n"));
    let state = gate.current.load();
    let shape = |user: &str| {
        let (verifier, candidate) = state.users.scram(user, &gate.salts);
        (candidate.is_some(), verifier.iterations.get(), verifier.salt.len())
    };
    let cost = |user: &str| state.users.verifier(user, &gate.salts).0.cost();
    let real = [shape("a"), shape("b")].map(|(_, count, length)| (false, count, length));
    let costs = ["a", "b", "c"].map(cost);
    assert!(real[0] != real[1] && costs[0] != costs[1] && costs[1] != costs[2]);
    let (mut shapes, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..64 {
        let user = format!("nobody{n}");
        assert!(real.contains(&shape(&user)) && costs.contains(&cost(&user)), "{user}");
        assert_eq!((shape(&user), cost(&user)), (shape(&user), cost(&user)));
        shapes.insert(shape(&user));
        seen.insert(cost(&user));
    }
    assert_eq!((shapes.len(), seen.len()), (2, 3), "not all like the same one");
}

#[tokio::test(start_paused = true)]
async fn a_guessed_session_costs_its_address_every_time_and_locks_no_user() {
    let gate = open(&(users() + CONNECTIONS));
    let bad = source("203.0.113.9");
    let mut waits = Vec::new();
    for _ in 0..8 {
        let began = tokio::time::Instant::now();
        gate.missed(bad).await;
        waits.push(began.elapsed().as_millis());
    }
    // Two would have locked a pair, and then cost nothing more.
    assert_eq!(waits, [0, 0, 0, 0, 500, 1000, 2000, 4000]);
    assert!(gate.scram("", source("192.0.2.1"), None).now_or_never().unwrap().is_ok());
    assert!(gate.scram("alice", bad, None).now_or_never().is_none(), "logins wait as well");
    assert!(gate.scram("alice", bad, None).await.is_ok());
}

#[tokio::test]
async fn failures_lock_the_pair_by_either_proof_and_nobody_elsewhere() {
    let gate = open(&(users() + CONNECTIONS));
    let (bad, good) = (source("203.0.113.9"), source("192.0.2.1"));
    for user in ["alice", "nobody"] {
        for _ in 0..2 {
            let outcome = gate.password(user, secret("guess"), bad).await;
            assert_eq!(outcome.unwrap_err(), AuthFailure::NotAuthenticated, "{user}");
        }
        let before = gate.hashing.computations().load(Ordering::Relaxed);
        if user == "alice" {
            assert_eq!(gate.password(user, secret("right"), bad).await.unwrap_err(), AuthFailure::Locked);
            assert_eq!(gate.scram(user, bad, None).await.err(), Some(AuthFailure::Locked));
        }
        assert_eq!(gate.hashing.computations().load(Ordering::Relaxed), before, "a locked pair costs no hash");
    }
    assert!(gate.password("alice", secret("right"), good).await.is_ok());
    // That address has failed four times by now: whoever comes from it has to wait before anything else, known or not.
    for user in ["alice", "bob", "nobody"] {
        assert!(gate.scram(user, bad, None).now_or_never().is_none(), "{user} from the slowed address");
        assert!(gate.scram(user, good, None).now_or_never().is_some(), "{user} from elsewhere");
    }
}

#[tokio::test]
async fn a_reload_changes_users_rules_and_limits_and_keeps_failures() {
    let text = users() + CONNECTIONS;
    let gate = open(&text);
    let identity = gate.password("alice", secret("right"), Source::local()).await.unwrap();
    let grant = gate.authorise(&identity, "postgres", "orders", None, SessionId::random()).unwrap();
    assert!(gate.still_allowed(&grant));
    assert_eq!(gate.reachable(&identity, "postgres").len(), 1);
    assert_eq!(gate.password("bob", secret("wrong"), source("192.0.2.1")).await.unwrap_err(), AuthFailure::NotAuthenticated);

    assert_eq!(replace(&gate, &text).0, Some(Replaced::default()), "nothing changed");
    let (replaced, problems) = replace(
        &gate,
        &text
            .replace("failed_logins: 2", "failed_logins: 1")
            .replace("connections: [orders]", "connections: [payroll]")
            .replace("  payroll: { protocol: postgres, address: 'pg:5432'", "  payroll: { protocol: postgres, address: 'pg:5433'")
            .replace("  carol: { public", "  dave: { public"),
    );
    assert!(!problems.has_errors(), "{problems}");
    let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let expected =
        Replaced { added: names(&["user dave"]), changed: names(&["connection payroll", "access"]), removed: names(&["user carol"]) };
    assert_eq!(replaced, Some(expected));
    assert!(!gate.still_allowed(&grant));
    assert_eq!(gate.authorise(&identity, "postgres", "orders", None, SessionId::random()).err(), Some(Denied::NotPermitted));
    assert!(gate.authorise(&identity, "postgres", "payroll", None, SessionId::random()).is_ok());
    // The failure of before and one more: the new limit, and the old count.
    assert_eq!(gate.password("bob", secret("wrong"), source("192.0.2.1")).await.unwrap_err(), AuthFailure::NotAuthenticated);
    assert_eq!(gate.password("bob", secret("right"), source("192.0.2.1")).await.unwrap_err(), AuthFailure::Locked);
}

#[tokio::test]
async fn who_proved_himself_by_a_password_opens_nothing_new_once_it_was_changed() {
    let first = users() + CONNECTIONS;
    let gate = open(&first);
    let allowed = |identity: &Identity| gate.authorise(identity, "postgres", "orders", None, SessionId::random()).is_ok();
    for user in ["alice", "bob"] {
        let identity = gate.password(user, secret("right"), source("192.0.2.1")).await.unwrap();
        assert!(allowed(&identity), "{user}");
        // Another salt: another form of it, which is how a changed password looks from here.
        replace(&gate, &(users() + CONNECTIONS)).0.unwrap();
        assert!(!allowed(&identity), "{user}");
        replace(&gate, &first).0.unwrap();
        assert!(allowed(&identity), "{user}");
    }
}

#[tokio::test]
async fn a_file_with_an_error_changes_nothing() {
    let text = users() + CONNECTIONS;
    let gate = open(&text);
    let broken = text.replace("SCRAM-SHA-256$4096:", "SCRAM-SHA-256$1:").replace("connections: [orders]", "connections: [payroll]");
    let (replaced, problems) = replace(&gate, &broken);
    assert_eq!(replaced, None);
    assert!(problems.to_string().contains("users.alice.password: expected a SCRAM verifier"), "{problems}");
    let identity = gate.password("alice", secret("right"), Source::local()).await.unwrap();
    assert!(gate.authorise(&identity, "postgres", "orders", None, SessionId::random()).is_ok());
}

#[tokio::test]
async fn check_names_each_verifier_and_reference_that_does_not_parse_and_users_who_can_prove_nothing() {
    let text = "
users:
  alice: { password: canary-in-the-wrong-field }
  bob: {}
connections:
  orders: { protocol: postgres, address: 'pg:5432', username: { literal: app }, password: canary-that-is-no-reference }
";
    let (config, mut problems) = sample::config(text);
    Gate::check(&config, &mut problems);
    let shown = problems.to_string();
    assert!(shown.contains("users.alice.password: expected a password verifier"), "{shown}");
    assert!(shown.contains("warning: users.bob:"), "{shown}");
    assert!(shown.contains("connections.orders.password:"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(Gate::for_operator(&config, sample::nobody(), &mut problems).is_none());
}

#[tokio::test]
async fn opening_it_in_a_state_folder_leaves_the_salts_of_unknown_users_as_they_were() {
    let state = tempfile::tempdir().unwrap();
    let salt = async || {
        let (config, mut problems) = sample::config(&(users() + CONNECTIONS));
        let gate = Gate::open(&config, state.path(), sample::nobody(), &mut problems).unwrap_or_else(|| panic!("{problems}"));
        let first = gate.scram("nobody", Source::local(), None).await.unwrap().client_first("SCRAM-SHA-256", b"n,,n=,r=x").unwrap();
        let first = String::from_utf8(first).unwrap();
        assert_eq!(gate.drain(Duration::from_secs(1)).await, 0);
        first.split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(salt().await, salt().await);
}

#[tokio::test]
async fn literals_of_the_file_are_leased_without_a_store() {
    let gate = open(&(users() + CONNECTIONS));
    for grant in gate.operator_grants() {
        let lease = gate.lease(&grant).await.unwrap();
        let credential = lease.credential().unwrap();
        assert_eq!((credential.username(), lease.is_leased()), ("app", false));
    }
    assert_eq!((gate.operator_grants().len(), gate.lease_stats()), (2, LeaseStats::default()));
    assert!(gate.store_names().is_empty() && gate.store_status("corp").await.is_err());
}
