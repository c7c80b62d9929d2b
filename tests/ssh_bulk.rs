//! Much at once over SSH: by either way, with new keys on all ends every 5 MB, beside channels that do not move, and in bounded memory.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::bed::{SshPlan, SshRunning, SshScene, SshWay, Sshd, There, run, sshd, within};

const LONG: Duration = Duration::from_secs(300);

/// How much is moved at a time, in MiB: 64, or what `tests/ssh_bulk.sh` says.
fn mebibytes() -> u64 {
    std::env::var("KEYWARD_BULK_MIB").map_or(64, |text| text.parse().expect("KEYWARD_BULK_MIB is a number"))
}

/// So much down, up, and both ways at the same time; what comes is what went.
const MOVE: &str = "cd $HOME; head -c $BYTES /dev/urandom > big; chmod 644 big; chmod 755 .; cp big $HOME_THERE/big; chmod 644 $HOME_THERE/big
SUM=$(md5sum < big); is() { [ \"$SUM\" = \"$1\" ] && echo $2; }
is \"$($SSH $HOST cat $HOME_THERE/big | md5sum)\" down
is \"$($SSH $HOST md5sum < big)\" up
is \"$($SSH $HOST cat < big | md5sum)\" both
$SSH $HOST \"cat $HOME_THERE/big; cat > $HOME_THERE/up\" < big | md5sum > down; is \"$(cat down)\" again; cmp $HOME_THERE/up big && echo same";

#[track_caller]
fn moves(scene: &SshScene<'_>) {
    let size = mebibytes() << 20;
    let limit = LONG + Duration::from_secs(mebibytes());
    for way in SshWay::THROUGH {
        let before = scene.keyward.peak_memory();
        let there = scene.sshd.folder_of("deploy");
        let said = run(scene.tools.script(way, MOVE, &[("HOME_THERE", there.to_str().unwrap()), ("BYTES", &size.to_string())]), "", limit);
        assert_eq!(said.ok(), "down\nup\nboth\nagain\nsame", "{way:?}: {said:?}");
        let grown = scene.keyward.peak_memory().saturating_sub(before);
        assert!(grown < 24 * 1024, "{way:?}: Keyward grew by {grown} KiB for {size} bytes at a time");
    }
    scene.nothing_is_left();
    let closed = scene.keyward.until_audit("closed", 8);
    let bytes = |name: &str| closed.iter().map(|record| record[name].as_u64().unwrap()).sum::<u64>();
    let (up, down) = (bytes("bytes_up"), bytes("bytes_down"));
    let expected = 6 * size..6 * size + size / 10;
    assert!(expected.contains(&up) && expected.contains(&down), "{up} {down}");
}

#[test]
fn much_goes_down_and_up_and_both_ways_at_once() {
    moves(&SshScene::new(sshd()));
}

#[test]
fn much_goes_down_and_up_and_both_ways_at_once_while_every_end_makes_new_keys() {
    let often = Sshd::own("RekeyLimit 5M");
    let plan = SshPlan {
        listener: "rekey_limit: 5MiB".to_owned(),
        connection: "rekey_limit: 5MiB".to_owned(),
        client: "RekeyLimit 5M\n".to_owned(),
        ..SshPlan::default()
    };
    moves(&SshScene::with(&often, plan));
}

#[test]
fn a_channel_that_does_not_move_stops_no_other_and_goes_on_where_it_was() {
    let scene = SshScene::new(sshd());
    for way in SshWay::THROUGH {
        let control = format!("{}/control-{}", scene.tools.folder().display(), way.host());
        let there = There::new();
        let mut master = scene.tools.ssh();
        // The first session says as much as it hears, and stops in the middle of that.
        master.args(["-M", "-S", &control, way.host(), &there.command("cat")]);
        let master = SshRunning::start(&master);
        master.until_printed("begun");
        let stopped = Pid::from_raw(there.until_there()).unwrap();
        kill_process(stopped, Signal::STOP).unwrap();
        let text = "0123456789abcdef".repeat(1024 * 512);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| master.say(&text));
            for _ in 0..2 {
                let mut live = scene.tools.ssh();
                live.args(["-S", &control, way.host(), "head -c 20000000 /dev/zero; cat | md5sum >&2"]);
                let said = run(live, &text, LONG);
                assert!(said.stdout.len() == 20_000_000 && said.stderr.contains("  -") && said.code == Some(0), "{way:?} {}", said.stderr);
            }
            let waits = !writer.is_finished();
            kill_process(stopped, Signal::CONT).unwrap();
            writer.join().unwrap();
            waits
        });
        assert!(written, "there is more to write than all buffers on the way hold");
        master.close_stdin();
        let said = within(LONG, "all of it comes back", || (master.printed().len() > text.len()).then(|| master.ended()));
        assert!(said.stdout == format!("begun\n{text}\n") && said.code == Some(0), "what comes back differs");
    }
    scene.nothing_is_left();
}

#[test]
fn a_download_through_a_jump_leaves_the_others_on_it_their_part_of_a_slow_line() {
    let scene = SshScene::new(sshd());
    let (jump, inside) = scene.shared_jump(&["-o", &scene.slow_line(1_000_000)]);
    let download = scene.start(SshWay::Jump, &["-o", &inside], "cat /dev/zero");
    let is_full = || {
        let before = scene.relayed();
        within(LONG, "the line is full", || (scene.relayed() > before + 3_000_000).then_some(()));
    };
    is_full();
    let (shell, _) = scene.begin(SshWay::Jump, &["-o", &inside], "cat");
    is_full();
    shell.say("still here");
    shell.until_printed("still here");
    assert!(!jump.is_over() && !download.is_over(), "{jump:?} {download:?}");
    download.signal(Signal::KILL);
    shell.close_stdin();
    assert_eq!(shell.ended().code, Some(0));
    scene.nothing_is_left();
}

#[test]
fn who_takes_nothing_costs_little() {
    let scene = SshScene::new(sshd());
    for (way, count) in [(SshWay::Plus, 10), (SshWay::Jump, 10)] {
        let clients: Vec<SshRunning> = (0..count).map(|_| scene.begin(way, &[], "sh -c 'read line; exec yes some text'").0).collect();
        // Only now: ten that talk leave little to the logins of the others, and all that they say is kept.
        for client in &clients {
            client.say("go on");
            client.until_printed("some text");
        }
        // What a session costs by itself is not the question.
        let before = scene.keyward.peak_memory();
        for client in &clients {
            client.signal(Signal::STOP);
        }
        // The other way: a server that takes nothing from a client that has much to say.
        let (talks, there) = scene.begin(way, &[], "cat");
        kill_process(Pid::from_raw(there.until_there()).unwrap(), Signal::STOP).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| talks.say(&"0123456789abcdef".repeat(4 * 1024 * 1024)));
            let mut last = (0, std::time::Instant::now());
            within(LONG, "nothing moves any more", || {
                let moved = scene.relayed();
                if moved != last.0 {
                    last = (moved, std::time::Instant::now());
                }
                (last.1.elapsed() > Duration::from_secs(1)).then_some(())
            });
            assert!(!writer.is_finished(), "there was more to write");
            talks.signal(Signal::KILL);
            writer.join().unwrap();
        });
        for client in &clients {
            client.signal(Signal::KILL);
        }
        let grown = scene.keyward.peak_memory().saturating_sub(before);
        assert!(grown < 24 * 1024, "{way:?}: Keyward grew by {grown} KiB");
        kill_process(Pid::from_raw(there.until_there()).unwrap(), Signal::KILL).unwrap();
        drop(clients);
        scene.nothing_is_left();
    }
}
