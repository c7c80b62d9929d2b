use std::task::Waker;

use keyward_ssh_transport::connection::served::{Action, WINDOW};
use keyward_ssh_transport::wire::Put;
use keyward_ssh_transport::{Event, Limits};

use super::*;
use crate::ssh::pair::pair;

/// What one message of data has beside its data, sealed, and more.
const SEALED: usize = 200;

/// A client, the outer link, and what is inside.
struct Scene {
    client: Conn,
    outer: Conn,
    inside: Inside,
    begun: Instant,
    /// What the client heard of each channel: bytes, and whether it was closed.
    heard: Vec<(usize, bool)>,
}

/// The other end of an inner link.
struct End {
    pipe: DuplexStream,
    over: oneshot::Sender<Infallible>,
}

impl Scene {
    fn new() -> Self {
        let begun = Instant::now();
        let (client, outer) = pair(Limits::default(), Limits::default(), begun);
        Self { client, outer, inside: Inside::new(), begun, heard: Vec::new() }
    }

    /// A link whose client takes so many bytes of it, behind a pipe that holds as much as the outer link lets wait.
    fn link(&mut self, window: u32) -> End {
        let mut open = vec![90];
        open.put_string("direct-tcpip").put_u32(u32::try_from(self.heard.len()).unwrap()).put_u32(window).put_u32(32 * 1024);
        open.put_string("web-1").put_u32(22).put_string("127.0.0.1").put_u32(4711);
        let Action::Open { id, .. } = self.inside.channels.receive(&open).unwrap() else { panic!("no channel") };
        let ((pipe, theirs), (tells, over)) = (tokio::io::duplex(pump::HIGH), oneshot::channel());
        self.inside.begin(id, Begun { pipe, over }).unwrap();
        self.heard.push((0, false));
        End { pipe: theirs, over: tells }
    }

    fn turn(&mut self, after: Duration) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.inside.turn(&mut self.outer, &mut cx, self.begun + after, UNTAKEN).unwrap()
    }

    /// The client takes so many bytes of the outer link.
    fn takes(&mut self, most: usize) {
        let Self { client, outer, heard, .. } = self;
        let mut left = most;
        while left > 0 && !outer.output().is_empty() {
            let taken = client.receive(&outer.output()[..left.min(outer.output().len())]);
            outer.wrote(taken);
            left -= taken;
            while let Some(event) = client.next().unwrap() {
                let Event::Message(message) = event else { panic!("{event:?}") };
                let channel = usize::from(message[4]);
                match message[0] {
                    94 => heard[channel].0 += message.len() - 9,
                    97 => heard[channel].1 = true,
                    _ => {}
                }
            }
        }
    }
}

/// Says as much as goes into its pipe.
fn fill(end: &mut End) {
    while says(end, &[7; 1024]) {}
}

fn says(end: &mut End, text: &[u8]) -> bool {
    Pin::new(&mut end.pipe).poll_write(&mut Context::from_waker(Waker::noop()), text).is_ready()
}

#[test]
fn one_that_has_more_than_the_client_takes_leaves_the_others_their_part() {
    let mut scene = Scene::new();
    let mut busy = [scene.link(u32::MAX), scene.link(u32::MAX)];
    let mut quiet = scene.link(u32::MAX);
    for _ in 0..100 {
        for end in &mut busy {
            fill(end);
        }
        while scene.turn(Duration::ZERO) {}
        scene.takes(CHUNK);
    }
    let [(first, _), (second, _), _] = scene.heard[..] else { panic!() };
    assert!(first > 30 * CHUNK && first.abs_diff(second) <= 2 * CHUNK, "{:?}", scene.heard);
    // What comes now waits behind what waits already, and behind one piece of each of them.
    assert!(says(&mut quiet, b"a word"));
    for end in &mut busy {
        fill(end);
    }
    while scene.turn(Duration::ZERO) {}
    let before = pump::HIGH + 3 * (CHUNK + SEALED);
    for _ in 0..before.div_ceil(CHUNK) {
        for end in &mut busy {
            fill(end);
        }
        scene.takes(CHUNK);
        while scene.turn(Duration::ZERO) {}
    }
    assert_eq!(scene.heard[2], (6, false));
    assert!(scene.outer.backlog() < pump::HIGH + CHUNK + SEALED, "what waits is bounded");
}

#[test]
fn one_that_has_ended_is_over_though_its_client_takes_nothing_of_it() {
    let mut scene = Scene::new();
    // The first has used up its window, the second finds the outer link full.
    let mut ends = [scene.link(1000), scene.link(u32::MAX), scene.link(u32::MAX)];
    for end in &mut ends {
        fill(end);
    }
    while scene.turn(Duration::ZERO) {}
    assert!(pump::gate(false, scene.outer.backlog()) == Gate::Shut);
    assert_eq!(scene.inside.due(UNTAKEN), None, "a link that lives waits as long as its client likes");
    let later = Duration::from_secs(3600);
    let [first, second, alive] = ends;
    drop((first.over, second.over));
    while scene.turn(later) {}
    assert_eq!(scene.inside.due(UNTAKEN), Some(scene.begun + later + UNTAKEN));
    assert_eq!(scene.inside.due(told::PATIENCE), Some(scene.begun + later + told::PATIENCE), "a drain waits less");
    while scene.turn(later + UNTAKEN) {}
    assert_eq!((scene.inside.links.len(), scene.inside.due(UNTAKEN)), (1, None));
    drop((alive, first.pipe, second.pipe));
    while scene.turn(later + UNTAKEN) {}
    while scene.turn(later + 2 * UNTAKEN) {}
    assert!(scene.inside.is_empty());
    scene.takes(usize::MAX);
    assert!(scene.heard[0] == (1000, true) && scene.heard[1].1 && scene.heard[2].1, "{:?}", scene.heard);
}

#[test]
fn a_client_that_is_slow_gets_all_that_was_said_before_the_end() {
    let mut scene = Scene::new();
    let mut end = scene.link(1000);
    fill(&mut end);
    drop(end);
    let mut now = Duration::ZERO;
    for got in (1000..).step_by(1000).take_while(|got| *got < pump::HIGH) {
        while scene.turn(now) {}
        scene.takes(usize::MAX);
        assert_eq!(scene.heard[0], (got, false));
        now += UNTAKEN - Duration::from_secs(1);
        let mut adjust = vec![93];
        adjust.put_u32(0).put_u32(1000);
        scene.inside.channels.receive(&adjust).unwrap();
    }
    while scene.turn(now) {}
    while scene.turn(now + told::PATIENCE) {}
    scene.takes(usize::MAX);
    assert_eq!(scene.heard[0], (pump::HIGH, true));
    assert!(scene.inside.is_empty());
}

#[test]
fn what_one_said_that_has_ended_waits_for_its_turn_beside_busy_ones() {
    let mut scene = Scene::new();
    let mut busy: Vec<End> = (0..8).map(|_| scene.link(u32::MAX)).collect();
    let mut ended = scene.link(u32::MAX);
    fill(&mut ended);
    drop(ended);
    let mut now = Duration::ZERO;
    for _ in 0..100 {
        busy.iter_mut().for_each(fill);
        while scene.turn(now) {}
        scene.takes(CHUNK);
        // Each of the nine comes once in 27 s.
        now += Duration::from_secs(3);
    }
    assert_eq!(scene.heard[8], (pump::HIGH, true));
}

#[test]
fn what_a_link_that_is_over_does_not_take_is_no_hindrance() {
    let mut scene = Scene::new();
    let end = scene.link(u32::MAX);
    let mut data = vec![94];
    data.put_u32(0).put_string(vec![7; 32 * 1024]);
    for _ in 0..WINDOW / (32 * 1024) {
        scene.inside.channels.receive(&data).unwrap();
    }
    while scene.turn(Duration::ZERO) {}
    drop(end);
    while scene.turn(Duration::ZERO) {}
    while scene.turn(told::PATIENCE) {}
    scene.takes(usize::MAX);
    assert!(scene.inside.is_empty() && scene.heard[0].1);
}
