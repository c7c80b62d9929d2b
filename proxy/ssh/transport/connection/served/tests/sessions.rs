//! What a session is told, and the whole connection.

use super::*;

fn answered(channels: &mut Channels, message: &[u8]) -> Option<u8> {
    match channels.receive(message) {
        Ok(Action::Answer(answer)) => Some(answer[0]),
        Ok(Action::Nothing) => None,
        action => panic!("{action:?}"),
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = Vec::new();
    string.put_string(bytes);
    string
}

/// A session, which is confirmed at once: nobody has to be asked.
fn in_session() -> (Channels, ChannelId) {
    let mut channels = Channels::new();
    let confirmation = Message::Confirmation { recipient: PEERS, sender: 0, window: WINDOW, packet: PACKET, rest: &[] };
    assert_eq!(channels.receive(&session(PEERS)), Ok(Action::Answer(confirmation.write())));
    (channels, ChannelId(0))
}

#[test]
fn a_user_who_names_no_connection_is_told_so_and_hears_how_it_ended() {
    let (mut channels, id) = in_session();
    let shell = request(0, b"shell", true, &[]);
    let success = Message::Success { recipient: PEERS }.write();
    let wants = Action::Wants { id, what: Wanted::Shell, terminal: Terminal::None, answer: Some(success) };
    assert_eq!(channels.receive(&shell), Ok(wants));
    let mut message = Vec::new();
    assert_eq!(channels.stderr(id, b"web-1\n", &mut message), 6);
    assert_eq!(message, extended(PEERS, b"web-1\n"));
    assert_eq!(channels.exit_status(id, 255), Some(request(PEERS, b"exit-status", false, &[0, 0, 0, 255])));
    assert_eq!(channels.eof(id), Some(eof(PEERS)));
    assert_eq!(channels.stderr(id, b"more", &mut message), 0);
    assert_eq!(channels.close(id), Some(close(PEERS)));
    assert_eq!(channels.exit_status(id, 0), None);
    assert_eq!(channels.receive(&close(0)), Ok(Action::Nothing));
    assert!(channels.is_empty());
}

#[test]
fn a_session_is_for_one_program_of_which_the_owner_is_told() {
    let cases: [(&[u8], Vec<u8>, Wanted); 3] = [
        (b"shell", Vec::new(), Wanted::Shell),
        (b"exec", string(b"ls \xff\0"), Wanted::Exec(b"ls \xff\0")),
        (b"subsystem", string(b"sftp"), Wanted::Subsystem(b"sftp")),
    ];
    for (name, rest, wanted) in &cases {
        for wants_reply in [true, false] {
            let (mut channels, id) = in_session();
            let answer = wants_reply.then(|| Message::Success { recipient: PEERS }.write());
            let wants = Action::Wants { id, what: *wanted, terminal: Terminal::None, answer };
            assert_eq!(channels.receive(&request(0, name, wants_reply, rest)), Ok(wants));
            for (again, rest, _) in &cases {
                assert_eq!(answered(&mut channels, &request(0, again, true, rest)), Some(FAILURE));
                assert_eq!(answered(&mut channels, &request(0, again, false, rest)), None);
            }
        }
    }
}

/// A terminal is granted since a client that does not get one complains about it before anything else.
#[test]
fn a_terminal_is_granted_and_the_owner_knows_of_it() {
    let (mut channels, id) = in_session();
    assert_eq!(answered(&mut channels, &request(0, b"pty-req", true, b"whatever")), Some(SUCCESS));
    assert_eq!(answered(&mut channels, &request(0, b"pty-req", false, b"")), None);
    let wants = Action::Wants { id, what: Wanted::Shell, terminal: Terminal::Raw, answer: None };
    assert_eq!(channels.receive(&request(0, b"shell", false, &[])), Ok(wants));
    assert_eq!(answered(&mut channels, &request(0, b"pty-req", true, b"")), Some(FAILURE), "it is too late for one");
}

#[test]
fn whatever_else_is_requested_of_a_channel_is_refused_if_it_wants_to_know() {
    let names: [&[u8]; 9] = [
        b"env",
        b"x11-req",
        b"auth-agent-req@openssh.com",
        b"window-change",
        b"signal",
        b"eow@openssh.com",
        b"keepalive@openssh.com",
        b"shell\0",
        b"",
    ];
    let (mut in_session, _) = in_session();
    let (mut in_tcp, _) = served();
    for channels in [&mut in_session, &mut in_tcp] {
        for name in names {
            assert_eq!(answered(channels, &request(0, name, true, b"anything")), Some(FAILURE), "{name:?}");
            assert_eq!(answered(channels, &request(0, name, false, b"anything")), None, "{name:?}");
        }
    }
    for name in [&b"shell"[..], b"exec", b"subsystem", b"pty-req"] {
        assert_eq!(answered(&mut in_tcp, &request(0, name, true, b"\0\0\0\x01x")), Some(FAILURE), "that is no session");
    }
}

#[test]
fn a_request_behind_our_close_is_neither_answered_nor_granted() {
    let (mut channels, id) = in_session();
    assert!(channels.close(id).is_some());
    for name in [&b"pty-req"[..], b"env", b"shell", b"shell"] {
        assert_eq!(channels.receive(&request(0, name, true, &[])), Ok(Action::Nothing), "{name:?}");
    }
}

/// Answers carry no number: the order is all that a client has.
#[test]
fn global_requests_are_answered_each_at_once() {
    let mut channels = Channels::new();
    for name in [&b"keepalive@openssh.com"[..], b"tcpip-forward", b"streamlocal-forward@openssh.com", b"hostkeys-prove-00@openssh.com", b""]
    {
        assert_eq!(channels.receive(&global(name, true)), Ok(Action::Answer(vec![REQUEST_FAILURE])), "{name:?}");
        assert_eq!(channels.receive(&global(name, false)), Ok(Action::Nothing), "{name:?}");
    }
    assert_eq!(channels.receive(&global(b"no-more-sessions@openssh.com", true)), Ok(Action::Answer(vec![REQUEST_SUCCESS])));
}

/// OpenSSH PROTOCOL section 2.2: one that is opened afterwards is somebody else's.
#[test]
fn after_no_more_sessions_there_is_none_and_channels_go_on() {
    for wants_reply in [true, false] {
        let (mut channels, id) = served();
        assert!(channels.receive(&global(b"no-more-sessions@openssh.com", wants_reply)).is_ok());
        assert_eq!(channels.receive(&data(id.0, b"x")), Ok(Action::Data(id)));
        let other = opened(&mut channels, &direct(PEERS, WINDOW, PACKET));
        assert!(channels.confirm(other).is_some());
        assert_eq!(channels.receive(&session(PEERS)), Err(Fatal::Protocol("a session after the last one")));
    }
}

/// Nobody reads what a user types into such a session; it must not stop what else the client sends.
#[test]
fn what_is_typed_into_a_session_is_thrown_away_and_its_window_given_back() {
    let (mut channels, id) = in_session();
    let (mut given, mut taken) = (window(), 0);
    for _ in 0..200 {
        given -= packet();
        match channels.receive(&data(id.0, &vec![0; packet()])) {
            Ok(Action::Nothing) => {}
            Ok(Action::Answer(answer)) => {
                let Ok(Some(Message::WindowAdjust { recipient: PEERS, bytes })) = Message::read(&answer) else { panic!() };
                given += usize::try_from(bytes).unwrap();
            }
            action => panic!("{action:?}"),
        }
        taken += packet();
        assert_eq!(channels.unread(id), b"");
    }
    assert!(taken > 6 * window() && given <= window());
}
