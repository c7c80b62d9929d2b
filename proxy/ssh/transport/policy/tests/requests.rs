//! Rule 27: requests, and the order of their answers.

use super::*;
use crate::certificate::Permission as Permit;
use crate::shown::Shown;

#[test]
fn what_a_session_is_used_for_needs_its_own_permission_and_is_recorded() {
    let (command, sftp) = (string(b"git-upload-pack 'secret'"), string(b"sftp"));
    let cases: [(&[u8], &[u8], Permission, What); 5] = [
        (b"shell", b"", Permission::Shell, What::Shell),
        (b"exec", &command, Permission::Exec, What::Exec { command: Shown::new(b"git-upload-pack") }),
        (b"subsystem", &sftp, Permission::Sftp, What::Sftp),
        (b"x11-req", b"cookie", Permission::X11, What::X11),
        (b"auth-agent-req@openssh.com", b"", Permission::Agent, What::Agent),
    ];
    for (name, rest, permission, what) in cases {
        let others: Vec<_> = Permission::ALL.into_iter().filter(|other| *other != permission).collect();
        let mut bed = Bed::session(&others);
        let looked = bed.asks(name, true, rest);
        assert_eq!((&looked.verdict, decided(&looked)), (&denied(7), Some((&what, Decision::Refused))));
        assert!(matches!(looked.event.and_then(|event| event.tell), Some(Tell::Waiting(_))));
        let looked = bed.asks(name, false, rest);
        assert_eq!((&looked.verdict, decided(&looked)), (&Verdict::Drop, Some((&what, Decision::Refused))));
        assert!(matches!(looked.event.and_then(|event| event.tell), Some(Tell::Session(_))));
        bed.allow(&[permission]);
        let looked = bed.asks(name, true, rest);
        assert_eq!((&looked.verdict, decided(&looked)), (&Verdict::Pass, Some((&what, Decision::Allowed))));
    }
}

#[test]
fn other_subsystems_are_refused() {
    for name in [&b"netconf"[..], b"SFTP", b"sftp\0", b"sftp ", b"", b"publickey@vandyke.com"] {
        let mut bed = Bed::session(&Permission::ALL);
        let looked = bed.asks(b"subsystem", true, &string(name));
        assert_eq!(looked.verdict, denied(7));
        assert_eq!(decided(&looked), Some((&What::Subsystem { name: Shown::new(name) }, Decision::Refused)));
    }
}

#[test]
fn a_terminal_is_refused_if_the_certificate_does_not_permit_it() {
    let all = Channels::of(Permission::ALL);
    for (channels, verdict) in [(all, Verdict::Pass), (all.within(&[Permit::Pty]), Verdict::Pass), (all.within(&[]), denied(7))] {
        let mut bed = Bed::with(channels);
        bed.opened(b"session", b"", [3, 7]);
        let looked = bed.asks(b"pty-req", true, b"xterm");
        assert_eq!(decided(&looked), (verdict != Verdict::Pass).then_some((&What::Terminal, Decision::Refused)));
        assert_eq!(looked.verdict, verdict);
        assert_eq!(bed.asks(b"shell", true, b"").verdict, Verdict::Pass);
    }
}

/// What each side may ask of a session, of a connection's channel, and of the whole connection, besides what rules decide.
#[test]
fn what_does_no_harm_passes_from_the_side_that_it_belongs_to_and_all_else_is_refused() {
    let names: [&[u8]; 18] = [
        b"env",
        b"window-change",
        b"signal",
        b"break",
        b"exit-status",
        b"exit-signal",
        b"xon-xoff",
        b"eow@openssh.com",
        b"keepalive@openssh.com",
        b"no-more-sessions@openssh.com",
        b"hostkeys-00@openssh.com",
        b"hostkeys-prove-00@openssh.com",
        b"winadj@putty.projects.tartarus.org",
        b"denied@keyward",
        b"env\0",
        b"Env",
        b"",
        b"elevation",
    ];
    let (of_client, of_server, of_any) = (&names[..4], &names[4..7], &names[7..9]);
    for name in names {
        let mut bed = Bed::session(&Permission::ALL);
        bed.opened(b"direct-tcpip", &to(b"a", 1), [4, 8]);
        let mut verdicts = Vec::new();
        for wants_reply in [true, false] {
            for channel in [[3, 7], [4, 8]] {
                let [client, server] = channel;
                verdicts.push(bed.client(Message::Request { recipient: server, name, wants_reply, rest: b"r" }).verdict);
                verdicts.push(bed.server(Message::Request { recipient: client, name, wants_reply, rest: b"r" }).verdict);
            }
            verdicts.push(bed.client(Message::GlobalRequest { name, wants_reply, rest: b"r" }).verdict);
            verdicts.push(bed.server(Message::GlobalRequest { name, wants_reply, rest: b"r" }).verdict);
        }
        let any = of_any.contains(&name);
        let keepalive = name == b"keepalive@openssh.com";
        let may = [
            any || of_client.contains(&name),
            any || of_server.contains(&name),
            any,
            any,
            keepalive || name == b"no-more-sessions@openssh.com",
            keepalive,
        ];
        let refusals = [denied(7), denied(3), denied(8), denied(4), denied_all(), denied_all()];
        let answered = may.into_iter().zip(refusals).map(|(may, refusal)| if may { Verdict::Pass } else { refusal });
        let unanswered = may.into_iter().map(|may| if may { Verdict::Pass } else { Verdict::Drop });
        assert_eq!(verdicts, answered.chain(unanswered).collect::<Vec<_>>(), "{}", Shown::new(name));
    }
}

#[test]
fn a_request_of_what_rules_decide_is_refused_on_a_channel_that_is_no_session() {
    let mut bed = Bed::new(&Permission::ALL);
    bed.opened(b"direct-tcpip", &to(b"a", 1), [3, 7]);
    for name in [&b"shell"[..], b"pty-req", b"x11-req", b"auth-agent-req@openssh.com", b"agent-req"] {
        assert_eq!(bed.asks(name, true, b"").verdict, denied(7));
    }
    assert_eq!(bed.server(open(b"auth-agent@openssh.com", 9, b"")).event.map(|event| event.decision), Some(Decision::Refused));
}

#[test]
fn a_request_that_is_cut_or_too_long_ends_the_session() {
    let mut bed = Bed::session(&Permission::ALL);
    let requests: [(&[u8], &[u8]); 6] = [
        (b"exec", b""),
        (b"exec", b"\0\0\0\x04abc"),
        (b"exec", b"\0\0\0\x01ab"),
        (b"subsystem", b"\0\0\0\x04sftpx"),
        (b"subsystem", b"\0"),
        (b"shell", b"x"),
    ];
    for (name, rest) in requests {
        assert!(matches!(bed.asks(name, true, rest).verdict, Verdict::Broken(_)), "{}", Shown::new(name));
    }
    for rest in [&b""[..], b"\0\0\0\x01a", b"\0\0\0\x01a\0\0\0\x50x"] {
        assert!(matches!(bed.asks_all(b"tcpip-forward", true, rest).verdict, Verdict::Broken(_)));
        assert!(matches!(bed.asks_all(b"cancel-tcpip-forward", true, rest).verdict, Verdict::Broken(_)));
    }
}

/// As many answers pass as were asked for, whether the requests were allowed or not: each side can count on their order.
#[test]
fn an_answer_that_nobody_waits_for_goes_nowhere() {
    let mut bed = Bed::session(&[Permission::Shell]);
    let (success, failure) = (Message::Success { recipient: 3 }, Message::Failure { recipient: 3 });
    assert_eq!(bed.server(success).verdict, Verdict::Drop);
    bed.asks(b"shell", true, b"");
    bed.asks(b"exec", true, &string(b"id"));
    bed.asks(b"env", false, b"");
    assert_eq!(bed.server(success).verdict, Verdict::Pass);
    assert_eq!(bed.client(Message::Success { recipient: 7 }).verdict, Verdict::Drop, "the server asked nothing");
    assert_eq!(bed.server(failure).verdict, Verdict::Pass);
    assert_eq!(bed.server(failure).verdict, Verdict::Drop);
    bed.server(Message::Request { recipient: 3, name: b"keepalive@openssh.com", wants_reply: true, rest: b"" });
    assert_eq!(bed.client(Message::Failure { recipient: 7 }).verdict, Verdict::Pass);

    let success = Message::RequestSuccess { rest: b"" };
    assert_eq!(bed.server(success).verdict, Verdict::Drop);
    assert_eq!(bed.client(success).verdict, Verdict::Drop);
    bed.asks_all(b"keepalive@openssh.com", true, b"");
    bed.asks_all(b"unknown", true, b"");
    bed.asks_all(b"unknown", false, b"");
    assert_eq!(bed.server(Message::RequestFailure).verdict, Verdict::Pass);
    assert_eq!(bed.server(Message::RequestFailure).verdict, Verdict::Pass);
    assert_eq!(bed.server(Message::RequestFailure).verdict, Verdict::Drop);
    bed.server(Message::GlobalRequest { name: b"keepalive@openssh.com", wants_reply: true, rest: b"" });
    assert_eq!(bed.client(Message::RequestFailure).verdict, Verdict::Pass);
    assert_eq!(bed.client(Message::RequestFailure).verdict, Verdict::Drop);
}

#[test]
fn permissions_are_asked_for_at_every_decision() {
    let mut bed = Bed::session(&[Permission::Exec]);
    assert_eq!(bed.asks(b"exec", true, &string(b"id")).verdict, Verdict::Pass);
    bed.allow(&[]);
    assert_eq!(bed.asks(b"exec", true, &string(b"id")).verdict, denied(7));
    bed.allow(&[Permission::Exec]);
    assert_eq!(bed.asks(b"exec", true, &string(b"id")).verdict, Verdict::Pass);
}

#[test]
fn what_is_left_of_a_login_is_dropped_and_other_numbers_are_unknown() {
    let mut bed = Bed::session(&Permission::ALL);
    for side in [Side::Client, Side::Server] {
        for number in 50..=79 {
            assert_eq!(bed.policy.look(side, &[number, 1]).verdict, Verdict::Drop);
        }
        for number in (83..=89).chain(101..=127) {
            assert_eq!(bed.policy.look(side, &[number, 1]).verdict, Verdict::Unknown);
        }
        assert!(matches!(bed.policy.look(side, &[]).verdict, Verdict::Broken(_)));
    }
}
