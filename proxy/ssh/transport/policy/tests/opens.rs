//! Rule 27: channels.

use super::*;
use crate::shown::Shown;

#[test]
fn a_session_may_always_be_opened_and_says_nothing_more_than_that() {
    let mut bed = Bed::with(Channels::NONE);
    bed.opened(b"session", b"", [0, 0]);
    assert!(matches!(bed.client(open(b"session", 1, b"x")).verdict, Verdict::Broken(_)));
}

#[test]
fn a_connection_to_somewhere_needs_local_forward_and_is_recorded_with_its_address() {
    let what = What::LocalForward { host: Shown::new(b"db.internal"), port: 5432 };
    let mut bed = Bed::new(&[Permission::Shell, Permission::Exec, Permission::RemoteForward]);
    let looked = bed.client(open(b"direct-tcpip", 4, &to(b"db.internal", 5432)));
    assert_eq!(looked.verdict, prohibited(4, "keyward: local-forward is not allowed here"));
    assert_eq!(decided(&looked), Some((&what, Decision::Refused)));
    bed.allow(&[Permission::LocalForward]);
    let looked = bed.client(open(b"direct-tcpip", 4, &to(b"db.internal", 5432)));
    assert_eq!(looked.verdict, Verdict::Pass, "a window that we say nothing in is left alone");
    assert_eq!(decided(&looked), Some((&what, Decision::Allowed)));
}

#[test]
fn a_connection_to_a_socket_needs_local_forward_too() {
    let mut rest = string(b"/run/docker.sock");
    rest.put_string("").put_u32(0);
    let mut bed = Bed::new(&[Permission::Shell]);
    let looked = bed.client(open(b"direct-streamlocal@openssh.com", 4, &rest));
    assert_eq!(looked.verdict, prohibited(4, "keyward: local-forward is not allowed here"));
    assert_eq!(decided(&looked), Some((&What::LocalSocket { path: Shown::new(b"/run/docker.sock") }, Decision::Refused)));
    bed.allow(&[Permission::LocalForward]);
    assert_eq!(bed.client(open(b"direct-streamlocal@openssh.com", 4, &rest)).verdict, Verdict::Pass);
}

#[test]
fn an_address_with_control_bytes_is_refused_whatever_is_allowed() {
    let mut bed = Bed::new(&Permission::ALL);
    for host in [&b"good.internal\0.evil"[..], b"a\nb", b"\x1b[0m", b"a\x7f"] {
        assert!(matches!(bed.client(open(b"direct-tcpip", 4, &to(host, 80))).verdict, Verdict::Answer(_)));
        let socket = [string(host), string(b""), vec![0; 4]].concat();
        assert!(matches!(bed.client(open(b"direct-streamlocal@openssh.com", 4, &socket)).verdict, Verdict::Answer(_)));
        assert_eq!(bed.asks_all(b"tcpip-forward", true, &place(host, 80)).verdict, denied_all());
        assert_eq!(bed.asks_all(b"streamlocal-forward@openssh.com", true, &string(host)).verdict, denied_all());
    }
    assert_eq!(bed.client(open(b"direct-tcpip", 4, &to("bücher.example".as_bytes(), 80))).verdict, Verdict::Pass);
}

/// Names are compared byte for byte: what looks like one that is allowed is another.
#[test]
fn types_of_channels_that_nobody_named_are_refused_to_either_side() {
    let names: [&[u8]; 12] = [
        b"tun@openssh.com",
        b"",
        b"Session",
        b"session ",
        b"session\0",
        b"\0session",
        b"direct-tcpip\n",
        b"DIRECT-TCPIP",
        b"direct-streamlocal",
        b"x11",
        b"auth-agent@openssh.com",
        b"forwarded-tcpip",
    ];
    for name in names {
        let mut bed = Bed::session(&Permission::ALL);
        let looked = bed.client(open(name, 9, &to(b"a", 1)));
        assert_eq!(looked.verdict, prohibited(9, "keyward: this type of channel is not allowed here"), "{}", Shown::new(name));
        assert_eq!(decided(&looked), Some((&What::Other { name: Shown::new(name) }, Decision::Refused)));
    }
    for name in [&b"session"[..], b"direct-tcpip", b"tun@openssh.com", b"x11\0", b"auth-agent", b""] {
        let mut bed = Bed::session(&Permission::ALL);
        let looked = bed.server(open(name, 9, &to(b"a", 1)));
        assert_eq!(looked.verdict, prohibited(9, "keyward: this type of channel is not allowed here"), "{}", Shown::new(name));
        assert_eq!(looked.event.map(|event| event.by), Some(Side::Server));
    }
}

/// `what` is opened by a server only once the client has asked for it by an allowed request, and while it is allowed.
fn only_invited(kind: &[u8], rest: &[u8], permission: Permission, invite: &dyn Fn(&mut Bed) -> Looked) {
    let refusal = prohibited(9, &format!("keyward: {} is not allowed here", permission.name()));
    let mut bed = Bed::session(&Permission::ALL);
    assert_eq!(bed.server(open(kind, 9, rest)).verdict, refusal, "nobody asked");
    let others: Vec<_> = Permission::ALL.into_iter().filter(|other| *other != permission).collect();
    bed.allow(&others);
    let looked = invite(&mut bed);
    assert!(matches!(looked.verdict, Verdict::Replace(_)), "{looked:?}");
    assert_eq!(looked.event.map(|event| event.decision), Some(Decision::Refused));
    bed.allow(&Permission::ALL);
    assert_eq!(bed.server(open(kind, 9, rest)).verdict, refusal, "what was refused invites nobody");
    let looked = invite(&mut bed);
    assert_eq!((looked.verdict, looked.event.map(|event| event.decision)), (Verdict::Pass, Some(Decision::Allowed)));
    assert_eq!(bed.server(open(kind, 9, rest)).verdict, Verdict::Pass);
    assert_eq!(bed.client(confirmation(9, 30)).verdict, Verdict::Pass);
    bed.allow(&others);
    assert_eq!(bed.server(open(kind, 9, rest)).verdict, refusal, "it is not allowed any more");
}

#[test]
fn a_server_opens_the_way_to_an_agent_only_if_the_client_asked_for_it() {
    for (request, kind) in [(&b"auth-agent-req@openssh.com"[..], &b"auth-agent@openssh.com"[..]), (b"agent-req", b"agent-connect")] {
        only_invited(kind, b"", Permission::Agent, &|bed| bed.asks(request, true, b""));
    }
}

#[test]
fn a_server_opens_the_way_to_a_display_only_if_the_client_asked_for_it() {
    only_invited(b"x11", &place(b"127.0.0.1", 6010), Permission::X11, &|bed| bed.asks(b"x11-req", true, b"whatever"));
}

#[test]
fn a_server_opens_forwarded_connections_only_if_the_client_asked_for_them() {
    let request = place(b"localhost", 8080);
    only_invited(b"forwarded-tcpip", &to(b"localhost", 8080), Permission::RemoteForward, &|bed| {
        bed.asks_all(b"tcpip-forward", true, &request)
    });
    let path = [string(b"/run/app.sock"), string(b"")].concat();
    only_invited(b"forwarded-streamlocal@openssh.com", &path, Permission::RemoteForward, &|bed| {
        bed.asks_all(b"streamlocal-forward@openssh.com", true, &string(b"/run/app.sock"))
    });
}

#[test]
fn an_opening_that_is_cut_ends_the_session() {
    let mut bed = Bed::session(&Permission::ALL);
    let whole = to(b"a", 1);
    for length in 0..whole.len() {
        assert!(matches!(bed.client(open(b"direct-tcpip", 4, &whole[..length])).verdict, Verdict::Broken(_)));
        assert!(matches!(bed.server(open(b"forwarded-tcpip", 4, &whole[..length])).verdict, Verdict::Broken(_)));
    }
    let longer = [whole, vec![0]].concat();
    assert!(matches!(bed.client(open(b"direct-tcpip", 4, &longer)).verdict, Verdict::Broken(_)));
    assert!(matches!(bed.server(open(b"forwarded-tcpip", 4, &longer)).verdict, Verdict::Broken(_)));
}
