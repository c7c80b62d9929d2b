use proptest::prelude::*;

use super::*;

fn offer() -> Offer {
    Offer { methods: Method::ALL.to_vec(), host_keys: vec!["ssh-ed25519", "rsa-sha2-512"], ciphers: Cipher::ALL.to_vec() }
}

/// A KEXINIT with these lists; the others are as good as can be.
fn kexinit(methods: &[&str], host_keys: &[&str], ciphers: [&[&str]; 2], guesses: bool) -> Vec<u8> {
    let mut bytes = vec![20; 1 + COOKIE];
    bytes.put_names(methods).put_names(host_keys);
    for list in ciphers.into_iter().chain([&["hmac-of-nobody"][..], &["other"], &["none"], &["zlib", "none"], &[], &["de"]]) {
        bytes.put_names(list);
    }
    bytes.put_bool(guesses).put_u32(0);
    bytes
}

const GCM: [&[&str]; 2] = [&["aes128-gcm@openssh.com"], &["aes256-gcm@openssh.com"]];

fn agreed(side: Side, methods: &[&str], host_keys: &[&str], ciphers: [&[&str]; 2], guesses: bool) -> Result<Agreed, Choice> {
    agree(side, &offer(), &Kexinit::parse(&kexinit(methods, host_keys, ciphers, guesses)).unwrap()).map_err(choice)
}

fn choice(fatal: Fatal) -> Choice {
    let Fatal::NoCommon(lack) = fatal else { panic!("{fatal:?}") };
    lack.choice()
}

/// Rule 2.
#[test]
fn the_first_of_the_clients_names_that_the_server_has_is_chosen() {
    let methods = ["sntrup761x25519-sha512", "ecdh-sha2-nistp256", "curve25519-sha256"];
    let host_keys = ["rsa-sha2-512", "ssh-ed25519"];
    let ciphers = [&["aes128-ctr", "chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"][..], &["aes128-gcm@openssh.com"]];
    let as_server = agreed(Side::Server, &methods, &host_keys, ciphers, false).unwrap();
    assert_eq!((as_server.method, as_server.host_key), (Method::EcdhNistp256, "rsa-sha2-512"));
    assert_eq!(as_server.ciphers, PerDirection { to_server: Cipher::ChaCha20Poly1305, to_client: Cipher::Aes128Gcm });
    let as_client = agreed(Side::Client, &methods, &host_keys, ciphers, false).unwrap();
    assert_eq!((as_client.method, as_client.host_key), (Method::Curve25519, "ssh-ed25519"));
    assert_eq!(as_client.ciphers, PerDirection { to_server: Cipher::Aes256Gcm, to_client: Cipher::Aes128Gcm });
}

/// Rule 2.
#[test]
fn a_name_that_stands_for_something_else_is_never_chosen() {
    for (side, methods) in [
        (Side::Server, ["ext-info-c", "kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com"]),
        (Side::Client, ["ext-info-c", "kex-strict-s-v00@openssh.com", "ext-info-s"]),
    ] {
        assert_eq!(agreed(side, &methods, &["ssh-ed25519"], GCM, false), Err(Choice::KeyExchange));
    }
    let methods = ["ext-info-c", "kex-strict-c-v00@openssh.com", "curve25519-sha256"];
    assert_eq!(agreed(Side::Server, &methods, &["ssh-ed25519"], GCM, false).unwrap().method, Method::Curve25519);
}

/// Rules 3 and 4.
#[test]
fn what_is_weak_is_neither_offered_nor_chosen() {
    for (side, which) in
        [(Side::Client, Which::First), (Side::Server, Which::First), (Side::Client, Which::Later), (Side::Server, Which::Later)]
    {
        let ours = offer().kexinit(side, which, [0; COOKIE]);
        let text = String::from_utf8_lossy(&ours);
        for weak in ["sha1", "group1", "group14", "cbc", "ctr", "arcfour", "3des", "ssh-rsa", "ssh-dss", "hmac-md5", "zlib"] {
            assert!(!text.contains(weak), "{weak}");
        }
        let ours = Kexinit::parse(&ours).unwrap();
        for ciphers in [&ours.ciphers.to_server, &ours.ciphers.to_client] {
            assert!(ciphers.iter().all(|name| name.ends_with("-gcm@openssh.com") || *name == "chacha20-poly1305@openssh.com"));
        }
        for compression in [&ours.compression.to_server, &ours.compression.to_client] {
            assert_eq!(compression, &["none"]);
        }
    }
    let weak = [&["none", "aes256-cbc", "aes256-ctr", "3des-cbc"][..]; 2];
    assert_eq!(agreed(Side::Server, &["curve25519-sha256"], &["ssh-ed25519"], weak, false), Err(Choice::Cipher));
    let old = ["diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1", "diffie-hellman-group14-sha256"];
    assert_eq!(agreed(Side::Server, &old, &["ssh-ed25519"], GCM, false), Err(Choice::KeyExchange));
    let rsa = agreed(Side::Server, &["curve25519-sha256"], &["ssh-rsa", "ssh-dss"], GCM, false);
    assert_eq!(rsa, Err(Choice::HostKey));
}

/// Rule 3: nobody has to have a MAC in common with us.
#[test]
fn macs_do_not_matter_and_compression_must_not_be_needed() {
    assert!(agreed(Side::Server, &["curve25519-sha256"], &["ssh-ed25519"], GCM, false).is_ok());
    let good = kexinit(&["curve25519-sha256"], &["ssh-ed25519"], GCM, false);
    for list in [&b"\0\0\0\x04none"[..], b"\0\0\0\x09zlib,none"] {
        // In one direction each.
        let mut only_zlib = good.clone();
        let end = only_zlib.windows(list.len()).position(|window| window == list).unwrap() + list.len();
        only_zlib[end - 4..end].copy_from_slice(b"lzma");
        let refused = agree(Side::Server, &offer(), &Kexinit::parse(&only_zlib).unwrap());
        assert_eq!(refused.map_err(choice), Err(Choice::Compression));
    }
}

/// The log is told what both have, the peer what we have: with less nobody knows what to change.
#[test]
fn who_has_nothing_in_common_with_us_is_told_what_there_is() {
    let old = ["diffie-hellman-group1-sha1", "\"x\\"];
    let many = vec!["3des-cbc"; 30];
    for (side, methods, host_keys, ciphers, log, peer) in [
        (
            Side::Server,
            &old[..],
            &["ssh-ed25519"][..],
            GCM,
            "the peer has no key exchange method in common with us: it has diffie-hellman-group1-sha1, \\\"x\\\\; we have \
             mlkem768x25519-sha256, curve25519-sha256, curve25519-sha256@libssh.org, ecdh-sha2-nistp256, ecdh-sha2-nistp384"
                .to_owned(),
            "no common key exchange method; we have \
             mlkem768x25519-sha256, curve25519-sha256, curve25519-sha256@libssh.org, ecdh-sha2-nistp256, ecdh-sha2-nistp384",
        ),
        (
            Side::Client,
            &["curve25519-sha256"],
            &[],
            GCM,
            "the peer has no host key algorithm in common with us: it has none; we have ssh-ed25519, rsa-sha2-512".to_owned(),
            "no common host key algorithm; we have ssh-ed25519, rsa-sha2-512",
        ),
        (
            Side::Server,
            &["curve25519-sha256"],
            &["ssh-ed25519"],
            [&["aes128-gcm@openssh.com"], &many],
            format!(
                "the peer has no cipher in common with us: it has {}and 6 more; we have \
                 aes256-gcm@openssh.com, chacha20-poly1305@openssh.com, aes128-gcm@openssh.com",
                "3des-cbc, ".repeat(24)
            ),
            "no common cipher; we have aes256-gcm@openssh.com, chacha20-poly1305@openssh.com, aes128-gcm@openssh.com",
        ),
    ] {
        let theirs = kexinit(methods, host_keys, ciphers, false);
        let fatal = agree(side, &offer(), &Kexinit::parse(&theirs).unwrap()).unwrap_err();
        assert_eq!((fatal.to_string().as_str(), fatal.text()), (log.as_str(), peer));
    }
    // A name of a whole message is cut.
    let long = "x".repeat(30_000);
    let theirs = kexinit(&[&long], &["ssh-ed25519"], GCM, false);
    let fatal = agree(Side::Server, &offer(), &Kexinit::parse(&theirs).unwrap()).unwrap_err();
    assert!(fatal.to_string().len() < 400, "{fatal}");
}

/// Rule 2: RFC 4253 section 7.1 says when a guess is wrong.
#[test]
fn a_guess_is_right_if_both_sides_would_take_the_same_first() {
    let first = [Method::MlKem768X25519.name(), "curve25519-sha256"];
    let other = ["curve25519-sha256", Method::MlKem768X25519.name()];
    for (methods, host_keys, guesses, guess) in [
        (first, ["ssh-ed25519", "x"], true, Guess::None),
        (other, ["ssh-ed25519", "x"], true, Guess::Wrong),
        (first, ["rsa-sha2-512", "ssh-ed25519"], true, Guess::Wrong),
        (other, ["rsa-sha2-512", "x"], false, Guess::None),
    ] {
        for side in [Side::Client, Side::Server] {
            assert_eq!(agreed(side, &methods, &host_keys, GCM, guesses).unwrap().guess, guess, "{side:?} {methods:?} {host_keys:?}");
        }
    }
}

/// Rule 5: each side has a name of its own for it, and says it in its first KEXINIT only.
#[test]
fn strict_key_exchange_is_asked_for_at_the_beginning() {
    for (side, other) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
        let first = offer().kexinit(side, Which::First, [0; COOKIE]);
        let later = offer().kexinit(side, Which::Later, [0; COOKIE]);
        assert!(Kexinit::parse(&first).unwrap().is_strict(side));
        assert!(!Kexinit::parse(&first).unwrap().is_strict(other));
        assert!(!Kexinit::parse(&later).unwrap().is_strict(side));
        assert_eq!(Kexinit::parse(&first).unwrap().takes_ext_info(), side == Side::Client);
    }
}

#[test]
fn what_is_no_kexinit_is_refused() {
    let good = kexinit(&["curve25519-sha256"], &["ssh-ed25519"], GCM, false);
    for length in 0..good.len() {
        assert!(Kexinit::parse(&good[..length]).is_err(), "{length}");
    }
    assert!(Kexinit::parse(&[&good[..], &[0]].concat()).is_err());
    let names = vec!["a"; KEXINIT_MAX / 2];
    assert_eq!(Kexinit::parse(&kexinit(&names, &[], GCM, false)), Err(Fatal::TooMuch("a KEXINIT is too long")));
    // As many names as fit are looked through quickly, since ours are few.
    let names = vec!["a"; KEXINIT_MAX / 2 - 200];
    assert_eq!(agreed(Side::Server, &names, &names[..1], GCM, false), Err(Choice::KeyExchange));
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(kexinit) = Kexinit::parse(&bytes) {
            let _ = agree(Side::Server, &offer(), &kexinit);
        }
    }
}
