//! A peer's KEXINIT and what we agree on with it, held against a second parser of RFC 4253. The first byte says which side is ours and which
//! methods it has; then come which ciphers, which host keys, and from which on the lists of ours begin; the rest is the message.
#![no_main]

#[path = "../second/kexinit.rs"]
mod second;
#[path = "../second/wire.rs"]
mod wire;

use keyward_ssh_transport::fuzzing::{self, Heard};
use keyward_ssh_transport::key::SIGNATURE_ALGORITHMS;
use keyward_ssh_transport::{Choice, Cipher, Guess, Method, Side};
use libfuzzer_sys::fuzz_target;

use crate::second::{Kexinit, SAYINGS, chosen, is_wrong};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[how, ciphers, host_keys, turn], payload)) = bytes.split_first_chunk::<4>() else { return };
    let side = if how & 1 == 0 { Side::Client } else { Side::Server };
    let methods = some(&Method::ALL, how >> 1, turn);
    let (ciphers, host_keys) = (some(&Cipher::ALL, ciphers, turn), some(&SIGNATURE_ALGORITHMS, host_keys, turn));
    let names =
        [methods.iter().map(|method| method.name()).collect(), host_keys.clone(), ciphers.iter().map(|cipher| cipher.name()).collect()];
    let (heard, theirs) = (fuzzing::kexinit(side, methods, host_keys, ciphers, payload), Kexinit::read(payload));
    assert_eq!(heard.is_ok(), theirs.is_some(), "{theirs:?}");
    if let (Ok(heard), Some(theirs)) = (heard, theirs) {
        let ours = Kexinit::read(&heard.ours).unwrap();
        offers(&ours, &names);
        compare(side, &heard, &ours, &theirs);
    }
});

/// Those whose bit is set, in their order but for where it begins.
fn some<T: Copy>(all: &[T], bits: u8, turn: u8) -> Vec<T> {
    let mut some: Vec<T> = all.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, one)| *one).collect();
    let turn = usize::from(turn).checked_rem(some.len()).unwrap_or(0);
    some.rotate_left(turn);
    some
}

/// We say what we have, best first, and behind the methods only what is none.
fn offers(ours: &Kexinit<'_>, names: &[Vec<&str>; 3]) {
    let (methods, sayings) = ours.lists[0].split_at(names[0].len());
    assert!(sayings.iter().all(|name| SAYINGS.iter().any(|saying| saying.as_bytes() == *name)));
    for (list, names) in [methods, &ours.lists[1], &ours.lists[2], &ours.lists[3]].into_iter().zip([0, 1, 2, 2].map(|which| &names[which]))
    {
        assert!(list.iter().copied().eq(names.iter().map(|name| name.as_bytes())));
    }
    assert!(!ours.guesses && ours.lists[6..] == [[b"none"], [b"none"]]);
}

fn compare(side: Side, heard: &Heard, ours: &Kexinit<'_>, theirs: &Kexinit<'_>) {
    let (client, server, strict) = match side {
        Side::Client => (ours, theirs, "kex-strict-s-v00@openssh.com"),
        Side::Server => (theirs, ours, "kex-strict-c-v00@openssh.com"),
    };
    assert_eq!((heard.strict, heard.takes_ext_info), (theirs.has_method(strict), theirs.has_method("ext-info-c")));
    // MACs are not agreed on: the ciphers need none.
    let lists = [
        (0, Choice::KeyExchange),
        (1, Choice::HostKey),
        (2, Choice::Cipher),
        (3, Choice::Cipher),
        (6, Choice::Compression),
        (7, Choice::Compression),
    ];
    let second: Result<Vec<&[u8]>, Choice> = lists.map(|(list, choice)| chosen(client, server, list).ok_or(choice)).into_iter().collect();
    let first = heard.agreed.map(|agreed| {
        let ciphers = agreed.ciphers;
        assert_eq!(agreed.guess == Guess::Wrong, is_wrong(ours, theirs));
        [agreed.method.name(), agreed.host_key, ciphers.to_server.name(), ciphers.to_client.name(), "none", "none"]
            .map(str::as_bytes)
            .to_vec()
    });
    assert_eq!(first, second);
}
