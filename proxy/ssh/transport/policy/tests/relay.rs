//! The policy between two real transports.

use super::*;
use crate::conn::Conn;
use crate::conn::tests::{Seen, drain, feed, logged_in};
use crate::error::Fatal;
use crate::pump::{self, Pumped};

/// A client and a server, and a relay between them.
struct Relay {
    client: Conn,
    user: Conn,
    upstream: Conn,
    server: Conn,
    bed: Bed,
}

impl Relay {
    fn new(bed: Bed) -> Self {
        let ((client, user), (upstream, server)) = (logged_in(), logged_in());
        Self { client, user, upstream, server, bed }
    }

    /// Carries what the client says; what the server hears, and what we did not let pass.
    fn up(&mut self, messages: &[Message<'_>]) -> Vec<Vec<u8>> {
        messages.iter().for_each(|message| self.client.send(&message.write()).unwrap());
        self.user.receive(&drain(&mut self.client));
        let (policy, mut refused) = (&mut self.bed.policy, Vec::new());
        let pumped = pump::pump(&mut self.user, &mut self.upstream, usize::MAX, &mut |message| {
            let Looked { verdict, event } = policy.look(Side::Client, message);
            if let Some(Event { tell: Some(Tell::Waiting(channel)), what, .. }) = event {
                refused.push((channel, what));
            }
            verdict
        });
        assert_eq!(pumped, Ok(Pumped::Messages(messages.len())));
        for (channel, what) in refused {
            let line = format!("keyward: {} is not allowed here", what.name());
            self.bed.policy.tell(channel, &line).into_iter().for_each(|message| self.user.send(&message).unwrap());
        }
        heard(&mut self.server, &drain(&mut self.upstream))
    }

    /// Carries what the server says; what the client hears.
    fn down(&mut self, messages: &[Message<'_>]) -> Vec<Vec<u8>> {
        messages.iter().for_each(|message| self.server.send(&message.write()).unwrap());
        self.upstream.receive(&drain(&mut self.server));
        let policy = &mut self.bed.policy;
        let pumped = pump::pump(&mut self.upstream, &mut self.user, usize::MAX, &mut |message| policy.look(Side::Server, message).verdict);
        assert_eq!(pumped, Ok(Pumped::Messages(messages.len())));
        heard(&mut self.client, &drain(&mut self.user))
    }
}

fn heard(conn: &mut Conn, bytes: &[u8]) -> Vec<Vec<u8>> {
    let message = |seen| if let Seen::Message(message) = seen { message } else { panic!("{seen:?}") };
    feed(conn, bytes).unwrap().into_iter().map(message).collect()
}

/// Rule 27: between two requests that the server answers, one that it never hears of as such.
#[test]
fn a_refusal_keeps_its_place_among_the_answers_and_the_user_is_told_why() {
    let mut relay = Relay::new(Bed::session(&[Permission::Shell]));
    let asks = |name, rest| Message::Request { recipient: 7, name, wants_reply: true, rest };
    let command = string(b"cat /etc/shadow");
    let passed = relay.up(&[asks(b"env", b"A"), asks(b"exec", &command), asks(b"shell", b"")]);
    let names: Vec<_> = passed
        .iter()
        .map(|message| match Message::read(message) {
            Ok(Some(Message::Request { name, rest, .. })) => (name.to_vec(), rest.to_vec()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"env", b"A"), (b"denied@keyward", b""), (b"shell", b"")];
    assert_eq!(names, expected.map(|(name, rest)| (name.to_vec(), rest.to_vec())));
    let answers = [Message::Success { recipient: 3 }, Message::Failure { recipient: 3 }, Message::Success { recipient: 3 }];
    let told = Message::ExtendedData { recipient: 3, kind: 1, data: b"keyward: exec is not allowed here\n" };
    let expected: Vec<_> = [told].into_iter().chain(answers).map(|message| message.write()).collect();
    assert_eq!(relay.down(&answers), expected);
}

#[test]
fn a_channel_that_is_refused_is_answered_at_once_and_the_server_never_hears_of_it() {
    let mut relay = Relay::new(Bed::new(&[]));
    assert_eq!(relay.up(&[open(b"direct-tcpip", 1, &to(b"a", 80))]), Vec::<Vec<u8>>::new());
    let text: &[u8] = b"keyward: local-forward is not allowed here";
    let refusal = Message::OpenFailure { recipient: 1, reason: 1, text, language: b"" };
    assert_eq!(relay.down(&[]), vec![refusal.write()]);
}

#[test]
fn one_that_breaks_the_protocol_hears_so_and_is_not_heard_any_more() {
    let mut relay = Relay::new(Bed::new(&[]));
    relay.client.send(&Message::Close { recipient: 5 }.write()).unwrap();
    relay.user.receive(&drain(&mut relay.client));
    let policy = &mut relay.bed.policy;
    let pumped = pump::pump(&mut relay.user, &mut relay.upstream, usize::MAX, &mut |message| policy.look(Side::Client, message).verdict);
    assert_eq!(pumped, Err(pump::Broken::From(Fatal::Protocol("the end of a channel that is not open"))));
    assert_eq!(feed(&mut relay.client, &drain(&mut relay.user)), Ok(vec![Seen::Disconnect(2, "protocol error".to_owned())]));
    assert!(relay.user.next().is_err());
}
