//! Channels played out step by step, as rule 29 wants them: a client that counts what it is sent, an owner who reads and writes when it likes, and
//! dice that say who does what next. Everything arrives in its order, no window is ever exceeded, nobody waits for good, and nothing is left over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::conn::tests::Dice;

/// Turns in which nothing happened after which nothing will: what one of forty channels waits for comes once in four hundred turns.
const PATIENCE: usize = 30_000;

/// What two sides of a channel have to say: bytes that tell their place.
#[derive(Clone, Copy)]
struct Story {
    salt: usize,
    length: usize,
}

impl Story {
    fn part(self, at: usize, length: usize) -> Vec<u8> {
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(1 << 21).collect());
        let begin = (at + self.salt) % 251;
        BYTES[begin..begin + length.min(self.length - at)].to_vec()
    }
}

/// One way of a channel: how far it was told and how far it was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    at: usize,
    way: Way,
}

impl Place {
    const START: Self = Self { at: 0, way: Way::Open };
}

/// The end of the client.
struct Theirs {
    up: Story,
    down: Story,
    /// Our number, once it is known.
    number: Option<u32>,
    refused: bool,
    said: Place,
    heard: Place,
    /// Bytes that it may send yet, and that we may.
    window: usize,
    our_window: usize,
    our_packet: usize,
    /// Bytes that it has read and not given back.
    unreturned: usize,
    abrupt: bool,
}

/// The end of our owner.
struct Ours {
    theirs: usize,
    said: Place,
    heard: Place,
    abrupt: bool,
}

struct World {
    channels: Channels,
    dice: Dice,
    theirs: Vec<Theirs>,
    unopened: usize,
    owner: BTreeMap<ChannelId, Ours>,
    undecided: Vec<(ChannelId, usize)>,
    to_us: VecDeque<Vec<u8>>,
    to_them: VecDeque<Vec<u8>>,
}

/// One game.
#[derive(Clone, Debug)]
struct Game {
    seed: u64,
    channels: usize,
    longest: usize,
    their_window: u32,
    their_packet: u32,
    abrupt: bool,
}

impl World {
    fn new(game: &Game) -> Self {
        let mut dice = Dice::new(game.seed);
        let mut theirs = Vec::new();
        for _ in 0..game.channels {
            // A message for each byte would be a game without end.
            let longest_down = game.longest.min(usize::try_from(game.their_packet.min(game.their_window)).unwrap() * 200);
            let up = Story { salt: dice.below(251), length: dice.below(game.longest) };
            let down = Story { salt: dice.below(251), length: dice.below(longest_down) };
            theirs.push(Theirs {
                up,
                down,
                number: None,
                refused: false,
                said: Place::START,
                heard: Place::START,
                window: 0,
                our_window: usize::try_from(game.their_window).unwrap(),
                our_packet: usize::try_from(game.their_packet).unwrap(),
                unreturned: 0,
                abrupt: game.abrupt && dice.below(3) == 0,
            });
        }
        Self {
            channels: Channels::new(),
            dice,
            theirs,
            unopened: 0,
            owner: BTreeMap::new(),
            undecided: Vec::new(),
            to_us: VecDeque::new(),
            to_them: VecDeque::new(),
        }
    }

    fn play(&mut self, game: &Game) {
        let mut idle = 0;
        while !self.over() {
            idle = if self.turn(game) { 0 } else { idle + 1 };
            assert!(idle < PATIENCE, "everybody waits: {game:?}");
            assert!(self.channels.len() <= CHANNELS_MAX);
        }
        assert!(self.channels.is_empty() && self.owner.is_empty() && self.undecided.is_empty());
    }

    fn over(&self) -> bool {
        let gone = |channel: &Theirs| channel.refused || (channel.said.way, channel.heard.way) == (Way::Closed, Way::Closed);
        self.unopened == self.theirs.len() && self.theirs.iter().all(gone) && self.to_us.is_empty() && self.to_them.is_empty()
    }

    fn turn(&mut self, game: &Game) -> bool {
        match self.dice.below(10) {
            0 => self.they_open(game),
            1 | 2 => self.they_say(),
            3 => self.they_give_back(),
            4 => self.to_us.pop_front().map(|message| self.we_hear(&message)).is_some(),
            5 => self.to_them.pop_front().map(|message| self.they_hear(&message)).is_some(),
            6 => self.we_decide(),
            7 => self.we_read(),
            _ => self.we_say(),
        }
    }

    fn they_open(&mut self, game: &Game) -> bool {
        if self.unopened == self.theirs.len() {
            return false;
        }
        self.to_us.push_back(direct(u32::try_from(self.unopened).unwrap(), game.their_window, game.their_packet));
        self.unopened += 1;
        true
    }

    fn they_say(&mut self) -> bool {
        let which = self.dice.below(self.theirs.len());
        let channel = &mut self.theirs[which];
        let Some(number) = channel.number else { return false };
        let left = channel.up.length - channel.said.at;
        let length = left.min(channel.window).min(packet());
        let hurries = channel.abrupt && self.dice.below(30) == 0;
        match channel.said.way {
            Way::Open if hurries => {}
            Way::Open if left == 0 => {
                channel.said.way = Way::Ended;
                self.to_us.push_back(eof(number));
                return true;
            }
            Way::Open if length == 0 => return false,
            Way::Open => {
                let length = 1 + self.dice.below(length);
                self.to_us.push_back(data(number, &channel.up.part(channel.said.at, length)));
                (channel.said.at, channel.window) = (channel.said.at + length, channel.window - length);
                return true;
            }
            Way::Ended if hurries || channel.heard.way != Way::Open => {}
            _ => return false,
        }
        channel.said.way = Way::Closed;
        self.to_us.push_back(close(number));
        true
    }

    fn they_give_back(&mut self) -> bool {
        let which = self.dice.below(self.theirs.len());
        let channel = &mut self.theirs[which];
        let Some(number) = channel.number else { return false };
        if channel.unreturned == 0 || channel.said.way == Way::Closed {
            return false;
        }
        let bytes = 1 + self.dice.below(channel.unreturned);
        channel.unreturned -= bytes;
        channel.our_window += bytes;
        self.to_us.push_back(adjust(number, u32::try_from(bytes).unwrap()));
        true
    }

    /// The client holds us to what we were given.
    fn they_hear(&mut self, message: &[u8]) {
        let message = Message::read(message).unwrap().unwrap();
        let (Message::Confirmation { recipient, .. }
        | Message::OpenFailure { recipient, .. }
        | Message::WindowAdjust { recipient, .. }
        | Message::Data { recipient, .. }
        | Message::Eof { recipient }
        | Message::Close { recipient }) = message
        else {
            panic!("{message:?}")
        };
        let channel = &mut self.theirs[usize::try_from(recipient).unwrap()];
        assert!(!channel.refused && channel.heard.way != Way::Closed, "it is gone: {message:?}");
        match message {
            Message::Confirmation { sender, window, packet, .. } => {
                assert_eq!((channel.number, packet), (None, PACKET));
                (channel.number, channel.window) = (Some(sender), usize::try_from(window).unwrap());
            }
            Message::OpenFailure { .. } => {
                assert_eq!(channel.number, None);
                channel.refused = true;
            }
            Message::WindowAdjust { bytes, .. } => {
                channel.window += usize::try_from(bytes).unwrap();
                assert!(channel.window <= window(), "we never take more than a window");
            }
            Message::Data { data, .. } => {
                assert_eq!(channel.heard.way, Way::Open);
                assert!(data.len() <= channel.our_window && data.len() <= channel.our_packet, "more than they take");
                assert_eq!(data, channel.down.part(channel.heard.at, data.len()));
                channel.our_window -= data.len();
                channel.unreturned += data.len();
                channel.heard.at += data.len();
            }
            Message::Eof { .. } => {
                assert_eq!((channel.heard.way, channel.heard.at), (Way::Open, channel.down.length));
                channel.heard.way = Way::Ended;
            }
            _ => {
                channel.heard.way = Way::Closed;
                if let (Some(number), Way::Open | Way::Ended) = (channel.number, channel.said.way) {
                    channel.said.way = Way::Closed;
                    self.to_us.push_back(close(number));
                }
            }
        }
    }

    fn we_hear(&mut self, message: &[u8]) {
        match self.channels.receive(message).unwrap() {
            Action::Open { id, .. } => {
                let Some(Message::Open { sender, .. }) = Message::read(message).unwrap() else { panic!() };
                self.undecided.push((id, usize::try_from(sender).unwrap()));
            }
            Action::Answer(answer) => self.to_them.push_back(answer),
            Action::Data(id) => assert!(!self.channels.unread(id).is_empty()),
            // Where we were through already, nobody is interested.
            Action::Eof(id) => drop(self.owner.get_mut(&id).map(|ours| ours.heard.way = Way::Ended)),
            Action::Close(id) => self.owner.get_mut(&id).unwrap().heard.way = Way::Closed,
            Action::Room(_) | Action::Nothing => {}
            action => panic!("{action:?}"),
        }
    }

    fn we_decide(&mut self) -> bool {
        if self.undecided.is_empty() {
            return false;
        }
        let which = self.dice.below(self.undecided.len());
        let (id, theirs) = self.undecided.remove(which);
        let answer = if self.dice.below(8) == 0 {
            self.channels.refuse(id, reason::CONNECT_FAILED, "no")
        } else {
            let abrupt = self.theirs[theirs].abrupt && self.dice.below(2) == 0;
            self.owner.insert(id, Ours { theirs, said: Place::START, heard: Place::START, abrupt });
            self.channels.confirm(id)
        };
        self.to_them.push_back(answer.unwrap());
        true
    }

    fn any_of_ours(&mut self) -> Option<ChannelId> {
        let ids: Vec<ChannelId> = self.owner.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.dice.below(ids.len())])
    }

    fn we_read(&mut self) -> bool {
        let Some(id) = self.any_of_ours() else { return false };
        let ours = self.owner.get_mut(&id).unwrap();
        let unread = self.channels.unread(id);
        if unread.is_empty() {
            return false;
        }
        let length = 1 + self.dice.below(unread.len());
        assert_eq!(unread[..length], self.theirs[ours.theirs].up.part(ours.heard.at, length));
        ours.heard.at += length;
        self.to_them.extend(self.channels.consumed(id, length));
        true
    }

    fn we_say(&mut self) -> bool {
        let Some(id) = self.any_of_ours() else { return false };
        let ours = self.owner.get_mut(&id).unwrap();
        let story = &self.theirs[ours.theirs];
        let unread = !self.channels.unread(id).is_empty();
        let hurries = ours.abrupt && self.dice.below(30) == 0;
        let done = !unread && (ours.heard.way == Way::Closed || (ours.said.way == Way::Ended && ours.heard.way == Way::Ended));
        if hurries || done {
            assert!(story.abrupt || ours.heard.at == story.up.length, "not all has arrived");
            self.to_them.push_back(self.channels.close(id).unwrap());
            self.owner.remove(&id);
            return true;
        }
        if ours.said.way != Way::Open || ours.heard.way == Way::Closed {
            return false;
        }
        if ours.said.at == story.down.length {
            ours.said.way = Way::Ended;
            self.to_them.push_back(self.channels.eof(id).unwrap());
            return true;
        }
        let piece = story.down.part(ours.said.at, 1 + self.dice.below(50_000));
        let mut message = Vec::new();
        let length = self.channels.data(id, &piece, &mut message);
        ours.said.at += length;
        self.to_them.extend((length > 0).then_some(message));
        length > 0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rule_29_all_arrives_in_order_within_the_windows_and_nothing_is_left(
        seed in any::<u64>(),
        channels in 1usize..40,
        longest in prop_oneof![Just(2), Just(5000), Just(3_000_000)],
        their_window in prop_oneof![Just(1u32), 1..5000u32, 1..3_000_000u32],
        their_packet in prop_oneof![Just(1u32), 1..1000u32, Just(32768), Just(u32::MAX / 1000)],
        abrupt in any::<bool>(),
    ) {
        // The long ones are for few channels: the windows of each come around several times.
        let channels = if longest > 5000 { 1 + channels / 12 } else { channels };
        let game = Game { seed, channels, longest, their_window, their_packet, abrupt };
        World::new(&game).play(&game);
    }

    #[test]
    fn rule_29_no_messages_make_channels_panic_or_keep_more_than_their_windows(
        messages in proptest::collection::vec((80u8..=101, 0u32..4, any::<bool>(), 0usize..40_000, 0usize..4), 1..200),
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let (mut channels, id) = served();
        for (number, channel, flag, length, name) in messages {
            let names = [&b"session"[..], b"direct-tcpip", b"shell", b"no-more-sessions@openssh.com"];
            let message = match number {
                80 => global(names[name], flag),
                90 if name == 1 => open(names[name], 5, 0, PACKET, &target(&garbage, 22, b"", 1)),
                90 => open(names[name], 5, WINDOW, PACKET, &[]),
                93 => adjust(channel, u32::MAX / 50_000 * u32::try_from(length).unwrap()),
                94 => data(channel, &vec![0; length]),
                95 => extended(channel, &vec![0; length]),
                96 => eof(channel),
                97 => close(channel),
                98 => request(channel, names[name], flag, &garbage),
                _ => [&[number][..], &garbage].concat(),
            };
            let Ok(action) = channels.receive(&message) else { break };
            if let Action::Open { id, .. } = action {
                let decided = if flag { channels.confirm(id) } else { channels.refuse(id, 1, "") };
                prop_assert!(decided.is_some());
            }
            prop_assert!(channels.len() <= CHANNELS_MAX && channels.unread(id).len() <= window());
        }
    }
}
