//! Rule 23: how often, how much, how long.

use super::*;
use crate::auth::TYPED_MAX;

type Fails = fn(&mut Server) -> Result<Step, Ended>;
type GoesOn = fn(&mut Server, &[u8]) -> Result<(), Ended>;

#[test]
fn rule_23_the_sixth_failure_ends_the_connection_whatever_failed() {
    let failing: [Fails; 8] = [
        |server| server.receive(&sample::query("alice", "ssh-dss", b"")),
        |server| {
            asked(server.receive(&sample::query("alice", "ssh-ed25519", sample::signer().blob())));
            server.answer(Verdict::Refused)
        },
        |server| {
            asked(server.receive(&sample::signed_request("alice", &*sample::signer())));
            server.answer(Verdict::Refused)
        },
        |server| {
            server.receive(&sample::signed(
                message::key_request("alice", "ssh-ed25519", sample::signer().blob()),
                &*sample::signer(),
                b"other",
            ))
        },
        |server| {
            asked(server.receive(&password("wrong")));
            server.answer(Verdict::Refused)
        },
        |server| {
            asked(server.receive(&message::interactive_request("alice")));
            sent(server.answer(Verdict::Ask(Prompts::password())));
            server.receive(&message::no_responses())
        },
        |server| server.receive(&password(&"x".repeat(TYPED_MAX + 1))),
        |server| {
            let mut hostbased = vec![50];
            hostbased.put_string("alice").put_string("ssh-connection").put_string("hostbased").put_string("whatever");
            server.receive(&hostbased)
        },
    ];
    for (number, fail) in failing.into_iter().enumerate() {
        let mut server = sample::server();
        for _ in 0..5 {
            sent(server.receive(&message::none_request("alice")));
            refused(fail(&mut server));
        }
        assert_eq!(broken(fail(&mut server)), Ended::TooManyFailures, "{number}");
        broken(server.receive(&message::none_request("alice")));
    }
    let ended = Ended::TooManyFailures;
    assert_eq!((ended.reason(), ended.text()), (14, "too many authentication failures"));
}

#[test]
fn rule_23_none_and_queries_and_prompts_are_free_but_not_without_an_end() {
    let query = sample::query("alice", "ssh-ed25519", sample::signer().blob());
    let endless: [GoesOn; 5] = [
        |server, _| server.receive(&message::none_request("alice")).map(drop),
        |server, query| server.receive(query).and_then(|_| server.answer(Verdict::Accepted)).map(drop),
        |server, _| server.receive(&message::service_request(b"ssh-userauth")).map(drop),
        |server, _| {
            server.receive(&message::interactive_request("alice")).and_then(|_| server.answer(Verdict::Ask(Prompts::password()))).map(drop)
        },
        |server, _| {
            if matches!(server.state, State::Prompted(_)) {
                server.receive(&message::one_response(b"")).and_then(|_| server.answer(Verdict::Ask(Prompts::password()))).map(drop)
            } else {
                server
                    .receive(&message::interactive_request("alice"))
                    .and_then(|_| server.answer(Verdict::Ask(Prompts::password())))
                    .map(drop)
            }
        },
    ];
    for (number, go_on) in endless.into_iter().enumerate() {
        let mut server = sample::server();
        let steps = (0..100).take_while(|_| go_on(&mut server, &query).is_ok()).count();
        // The first message asked for the service.
        assert_eq!(steps, 63, "{number}");
    }
}

#[test]
fn rule_23_sizes_are_bounded() {
    let long = "x".repeat(USER_MAX + 1);
    assert!(matches!(broken(sample::server().receive(&message::none_request(&long))), Ended::Broken(crate::Fatal::TooMuch(_))));
    sent(sample::server().receive(&message::none_request(&long[1..])));

    let mut long = vec![50];
    long.put_string("alice").put_string("ssh-connection").put_string("new");
    long.resize(MESSAGE_MAX, 0);
    refused(sample::server().receive(&long));
    long.push(0);
    assert!(matches!(broken(sample::server().receive(&long)), Ended::Broken(crate::Fatal::TooMuch(_))));

    let mut server = in_state("prompted");
    assert_eq!(refused(server.receive(&message::one_response(&[b'x'; TYPED_MAX + 1]))), Why::TooLong);
    let mut server = sample::server();
    assert_eq!(refused(server.receive(&password(&"x".repeat(TYPED_MAX + 1)))), Why::TooLong);
    asked(server.receive(&password(&"x".repeat(TYPED_MAX))));
}
