//! The two directions of a session under load, message by message: neither waits for the other, and nothing is lost.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bed::{Psql, Raw, SOON, Stage, eventually, postgres15, postgres18, psql};

const MEGABYTE: usize = 1024 * 1024;
const RELAYS: [&str; 2] = ["", ", relay: raw"];
const LIMIT: Duration = Duration::from_secs(60);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], u32::try_from(body.len() + 4).unwrap().to_be_bytes().as_slice(), body].concat()
}

/// Parse and Bind of one text parameter, and Execute, without a Sync.
fn extended(sql: &str, parameter: &[u8]) -> Vec<u8> {
    let size = u32::try_from(parameter.len()).unwrap().to_be_bytes();
    let bind = [b"\0\0\0\0\0\x01".as_slice(), &size, parameter, b"\0\0"].concat();
    [message(b'P', format!("\0{sql}\0\0\0").as_bytes()), message(b'B', &bind), message(b'E', b"\0\0\0\0\0")].concat()
}

/// The one column of a DataRow.
fn column(body: &[u8]) -> &[u8] {
    &body[6..]
}

/// Writes in a thread of its own; the number says how many of the pieces have gone.
fn write_all(
    mut socket: TcpStream,
    pieces: usize,
    piece: impl Fn(usize) -> Vec<u8> + Send + 'static,
) -> (Arc<AtomicUsize>, JoinHandle<bool>) {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&gone);
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    let writer = thread::spawn(move || {
        (0..pieces).all(|number| {
            let written = socket.write_all(&piece(number)).is_ok();
            count.fetch_add(usize::from(written), Ordering::Relaxed);
            written
        })
    });
    (gone, writer)
}

/// Waits until the writer has not moved for a while. It has more to write than all buffers on the way hold.
fn until_stuck(gone: &AtomicUsize) -> usize {
    let (mut last, mut since) = (gone.load(Ordering::Relaxed), Instant::now());
    eventually("the writer is stuck", || {
        let now = gone.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(1)).then_some(last)
    })
}

#[test]
fn pipelined_messages_are_answered_in_order_and_an_error_skips_to_the_sync() {
    for (keys, connection) in RELAYS.into_iter().zip(["orders", "orders_rw"]) {
        let stage = Stage::new(postgres15(), keys);
        let mut raw = stage.raw(connection);
        let all: Vec<u8> = (0..1000).flat_map(|number| extended("select $1::int + 1", number.to_string().as_bytes())).collect();
        raw.send(&all).say(b'S', b"");
        let mut rows = Vec::new();
        loop {
            let answer = raw.message().unwrap();
            match answer.tag {
                b'D' => rows.push(String::from_utf8(column(&answer.body).to_vec()).unwrap()),
                b'1' | b'2' | b'C' => {}
                b'Z' => break,
                other => panic!("{}", char::from(other)),
            }
        }
        assert_eq!(rows, (1..=1000).map(|number: u32| number.to_string()).collect::<Vec<_>>());
        raw.send(&["1", "zero", "3"].map(|number| extended("select $1::int", number.as_bytes())).concat()).say(b'S', b"");
        let tags: Vec<u8> = std::iter::from_fn(|| raw.message().map(|answer| answer.tag).filter(|tag| *tag != b'Z')).collect();
        assert_eq!(String::from_utf8(tags).unwrap(), "12DC1E");
        raw.ask("select 1");
        assert_eq!(raw.until_ready(), Vec::new());
    }
}

#[test]
fn both_directions_are_full_at_the_same_time_and_nothing_is_lost() {
    for (keys, connection) in RELAYS.into_iter().zip(["orders_rw", "orders"]) {
        let stage = Stage::new(postgres18(), keys);
        let mut raw = stage.raw(connection);
        let pieces = 128;
        let (_, writer) = write_all(raw.writer(), pieces + 1, move |number| echo(number, pieces));
        read_echoes(&mut raw, pieces);
        assert!(writer.join().unwrap());
    }
}

/// A query that gives its parameter back, a megabyte that differs with the number; after the last one, a Sync.
fn echo(number: usize, pieces: usize) -> Vec<u8> {
    if number == pieces { message(b'S', b"") } else { extended("select $1::text", &vec![letter(number); MEGABYTE]) }
}

fn letter(number: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[number % 26]
}

#[track_caller]
fn read_echoes(raw: &mut Raw, pieces: usize) {
    let mut rows = 0;
    loop {
        let answer = raw.message().expect("an answer");
        match answer.tag {
            b'D' => {
                assert!(column(&answer.body) == vec![letter(rows); MEGABYTE], "row {rows} differs");
                rows += 1;
            }
            b'1' | b'2' | b'C' => {}
            b'Z' => break,
            other => panic!("{}", char::from(other)),
        }
    }
    assert_eq!(rows, pieces);
}

#[test]
fn a_client_that_stops_reading_while_it_sends_holds_up_nobody_else_and_loses_nothing() {
    let stage = Stage::new(postgres15(), "");
    let mut raw = stage.raw("orders");
    let pieces = 64;
    let (gone, writer) = write_all(raw.writer(), pieces + 1, move |number| echo(number, pieces));
    assert!(until_stuck(&gone) < pieces, "the server cannot go on while nobody reads its answers");
    assert_eq!(psql(&stage.through("orders_rw"), "SELECT 1").ok(), "1");
    read_echoes(&mut raw, pieces);
    assert!(writer.join().unwrap());
}

#[test]
fn a_session_whose_client_stopped_reading_can_be_killed() {
    let stage = Stage::new(postgres15(), "");
    let raw = stage.raw("orders_rw");
    let pieces = 64;
    let (gone, writer) = write_all(raw.writer(), pieces + 1, move |number| echo(number, pieces));
    until_stuck(&gone);
    let sessions: Value = serde_json::from_str(stage.keyward.cli(&["sessions", "--format", "json"]).ok()).unwrap();
    stage.keyward.cli(&["kill", sessions[0]["session"].as_str().unwrap()]).ok();
    let closed = stage.keyward.until_audit("closed", 1);
    assert_eq!(closed[0]["outcome"], "killed");
    stage.nothing_is_left();
    assert!(!writer.join().unwrap(), "the writer hears that it is over");
}

#[test]
fn notices_come_down_while_nothing_goes_up() {
    for keys in RELAYS {
        let stage = Stage::new(postgres15(), keys);
        let holder = Psql::open(&stage.direct());
        holder.ask("SELECT pg_advisory_lock(8)");
        let mut raw = stage.raw("orders");
        // The server says something every 50 ms and does not read until it gets the lock.
        raw.ask("DO $$ BEGIN WHILE NOT pg_try_advisory_lock(8) LOOP RAISE NOTICE 'waiting'; PERFORM pg_sleep(0.05); END LOOP; END $$");
        let pieces = 64;
        let query = move |_: usize| message(b'Q', format!("select 1 -- {}\0", "x".repeat(MEGABYTE)).as_bytes());
        let (gone, writer) = write_all(raw.writer(), pieces, query);
        let (mut last, mut heard, deadline) = (usize::MAX, 0, Instant::now() + SOON);
        while heard < 20 {
            assert!(Instant::now() < deadline, "the way up was never full");
            assert_eq!(char::from(raw.message().unwrap().tag), 'N');
            let now = gone.load(Ordering::Relaxed);
            heard = if now == last { heard + 1 } else { 0 };
            last = now;
        }
        assert!(last < pieces, "there is more to send");
        holder.ask("SELECT pg_advisory_unlock(8)");
        for _ in 0..=pieces {
            assert_eq!(raw.until_ready(), Vec::new());
        }
        assert!(writer.join().unwrap());
    }
}

#[test]
fn a_client_that_closes_its_half_still_gets_its_answer() {
    for (keys, connection) in RELAYS.into_iter().zip(["orders", "orders_rw"]) {
        let stage = Stage::new(postgres15(), keys);
        let mut raw = stage.raw(connection);
        raw.ask("select repeat('x', 10000000)");
        raw.writer().shutdown(Shutdown::Write).unwrap();
        let tags: Vec<(char, usize)> =
            std::iter::from_fn(|| raw.message()).map(|answer| (char::from(answer.tag), answer.body.len())).collect();
        assert_eq!(tags.iter().map(|(tag, _)| tag).collect::<String>(), "TDCZ");
        assert_eq!(tags[1].1, 10_000_006);
        stage.keyward.until_audit("closed", 1);
        stage.nothing_is_left();
    }
}
