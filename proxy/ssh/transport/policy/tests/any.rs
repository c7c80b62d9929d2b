//! Whatever both sides say.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::table::CHANNELS_MAX;
use super::*;

const NAMES: [&[u8]; 24] = [
    b"session",
    b"direct-tcpip",
    b"direct-streamlocal@openssh.com",
    b"forwarded-tcpip",
    b"forwarded-streamlocal@openssh.com",
    b"x11",
    b"auth-agent@openssh.com",
    b"shell",
    b"exec",
    b"subsystem",
    b"pty-req",
    b"env",
    b"x11-req",
    b"auth-agent-req@openssh.com",
    b"exit-status",
    b"eow@openssh.com",
    b"keepalive@openssh.com",
    b"tcpip-forward",
    b"cancel-tcpip-forward",
    b"streamlocal-forward@openssh.com",
    b"cancel-streamlocal-forward@openssh.com",
    b"no-more-sessions@openssh.com",
    b"hostkeys-00@openssh.com",
    b"\0",
];

/// A message of few numbers and known names, so that channels do open and close.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let rest = prop_oneof![
        3 => Just(Vec::new()),
        3 => Just(to(b"a", 80)),
        2 => Just(place(b"a", 80)),
        2 => Just(string(b"sftp")),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let numbers = (0..6_u32, 0..6_u32, prop_oneof![0..3000_u32, any::<u32>()]);
    (0..20_usize, numbers, any::<bool>(), 0..NAMES.len(), rest).prop_map(|(kind, (a, b, c), wants_reply, name, rest)| {
        let (name, rest) = (NAMES[name], rest.as_slice());
        match kind {
            0 | 1 => Message::GlobalRequest { name, wants_reply, rest }.write(),
            2 => Message::RequestSuccess { rest }.write(),
            3 => Message::RequestFailure.write(),
            4 => Message::Open { kind: b"session", sender: a, window: c, packet: b << 8, rest: b"" }.write(),
            5 => Message::Open { kind: name, sender: a, window: c, packet: b << 8, rest }.write(),
            6..=8 => Message::Confirmation { recipient: a, sender: b, window: c, packet: c, rest }.write(),
            9 => Message::OpenFailure { recipient: a, reason: b, text: name, language: rest }.write(),
            10 | 11 => Message::WindowAdjust { recipient: a, bytes: c }.write(),
            12 => Message::Data { recipient: a, data: rest }.write(),
            13 => Message::Eof { recipient: a }.write(),
            14 | 15 => Message::Close { recipient: a }.write(),
            16 | 17 => Message::Request { recipient: a, name, wants_reply, rest }.write(),
            18 => Message::Success { recipient: a }.write(),
            _ => rest.to_vec(),
        }
    })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

/// What the client gave on each of its channels, what the server heard of it, and what of it we used.
#[derive(Default)]
struct Windows {
    given: HashMap<u32, u64>,
    heard: HashMap<u32, u64>,
    used: HashMap<u32, u64>,
}

impl Windows {
    /// The client's channel, if the server calls it so.
    fn client_says(&mut self, said: &[u8], verdict: &Verdict, of_server: &HashMap<u32, u32>) {
        let passed = match verdict {
            Verdict::Pass => Some(said.to_vec()),
            Verdict::Replace(message) => Some(message.clone()),
            _ => None,
        };
        let passed = passed.as_deref().map(Message::read);
        match Message::read(said) {
            Ok(Some(Message::Open { sender, window, .. })) => {
                if let Some(Ok(Some(Message::Open { window: heard, .. }))) = passed {
                    self.given.insert(sender, window.into());
                    self.heard.insert(sender, heard.into());
                    self.used.insert(sender, 0);
                }
            }
            Ok(Some(Message::WindowAdjust { recipient, bytes })) => {
                let Some(channel) = of_server.get(&recipient) else { return };
                *self.given.get_mut(channel).unwrap() += u64::from(bytes);
                if let Some(Ok(Some(Message::WindowAdjust { bytes: heard, .. }))) = passed {
                    *self.heard.get_mut(channel).unwrap() += u64::from(heard);
                }
            }
            _ => {}
        }
    }

    fn we_say(&mut self, messages: &[Vec<u8>]) {
        for message in messages {
            let Ok(Some(Message::ExtendedData { recipient, data, .. })) = Message::read(message) else { panic!("{message:?}") };
            *self.used.get_mut(&recipient).unwrap() += u64::try_from(data.len()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_the_tables_are_bounded_and_agree(
        said in proptest::collection::vec((side(), message(), 0..20_u8), 0..200),
    ) {
        let mut bed = Bed::new(&Permission::ALL);
        for (side, message, word) in said {
            let looked = bed.policy.look(side, &message);
            if let Verdict::Replace(passed) | Verdict::Answer(passed) = &looked.verdict {
                prop_assert!(matches!(Message::read(passed), Ok(Some(_))));
            }
            if matches!(looked.verdict, Verdict::Broken(_)) {
                prop_assert_eq!(looked.event, None);
            }
            if word == 0 {
                bed.policy.say("a word");
            }
            let [channels, of_client, of_server] = bed.policy.table.sizes();
            prop_assert!(channels <= CHANNELS_MAX && of_client <= channels && of_server <= channels && channels <= of_client + of_server);
        }
    }

    /// What the server may send and what we said are never more than what the client gave, and nothing of it is lost but the reserve.
    #[test]
    fn the_windows_of_client_and_server_never_disagree_by_more_than_the_reserve(
        said in proptest::collection::vec((side(), message(), 0..3_u8), 0..200),
    ) {
        let (mut bed, mut windows) = (Bed::new(&[]), Windows::default());
        // So long that a few of them use a reserve up.
        let line = "x".repeat(400);
        // The server's numbers of the client's channels, which these two never close.
        let mut of_server: HashMap<u32, u32> = HashMap::new();
        for (side, message, word) in said {
            if matches!(message.first(), Some(96 | 97)) {
                continue;
            }
            let verdict = bed.policy.look(side, &message).verdict;
            match Message::read(&message) {
                Ok(Some(Message::Confirmation { recipient, sender, .. })) if side == Side::Server && verdict == Verdict::Pass => {
                    of_server.insert(sender, recipient);
                }
                _ if side == Side::Client => windows.client_says(&message, &verdict, &of_server),
                _ => {}
            }
            if word == 0 {
                windows.we_say(&bed.policy.say(&line));
            }
            for (channel, given) in &windows.given {
                let (heard, used) = (windows.heard[channel], windows.used[channel]);
                prop_assert!(heard + used <= *given, "{heard} heard and {used} used of {given}");
                prop_assert!(*given <= heard + used + 1024);
            }
        }
    }
}
