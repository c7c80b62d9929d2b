use std::process::Command;

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, KeyPair};
use proptest::prelude::*;

use super::*;
use crate::keygen::{Keygen, TYPES};

fn read(keygen: &Keygen, name: &str, passphrase: Option<&str>) -> Result<PublicKey, BadFile> {
    read_private_key(keygen.read(name).as_bytes(), passphrase.map(str::as_bytes)).map(|signer| signer.public().clone())
}

/// An OpenSSH file with this private part, without a passphrase.
fn file(public: &[u8], private: &[u8]) -> Vec<u8> {
    let mut contents = MAGIC.to_vec();
    contents.put_string("none").put_string("none").put_string("").put_u32(1).put_string(public).put_string(private);
    pem(OPENSSH, &contents)
}

fn pem(label: &str, contents: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(contents)).into_bytes()
}

#[test]
fn every_type_of_key_is_read_with_and_without_a_passphrase() {
    let keygen = Keygen::new();
    for (number, (kind, name)) in TYPES.into_iter().enumerate() {
        let file = format!("key{number}");
        let public = keygen.key(&file, kind);
        assert_eq!(read(&keygen, &file, None).as_ref(), Ok(&public), "{name}");
        assert_eq!(read(&keygen, &file, Some("not looked at")).as_ref(), Ok(&public), "{name}");
        keygen.run(&["-q", "-p", "-a", "1", "-P", "", "-N", "a p\u{e4}ss phrase", "-f", &file]);
        assert_eq!(read(&keygen, &file, Some("a p\u{e4}ss phrase")).as_ref(), Ok(&public), "{name}");
        assert_eq!(read(&keygen, &file, None), Err(BadFile::PassphraseNeeded));
        for wrong in ["", "wrong", "a p\u{e4}ss phrase "] {
            assert_eq!(read(&keygen, &file, Some(wrong)), Err(BadFile::WrongPassphrase), "{name} {wrong}");
        }
    }
}

#[test]
fn a_file_may_be_encrypted_by_any_cipher_that_ssh_keygen_takes() {
    let keygen = Keygen::new();
    let public = keygen.key("key", &["-t", "ed25519"]);
    for cipher in [
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
        "aes128-cbc",
        "aes256-cbc",
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
    ] {
        keygen.run(&["-q", "-p", "-a", "1", "-Z", cipher, "-P", "", "-N", "secret", "-f", "key"]);
        assert_eq!(read(&keygen, "key", Some("secret")).as_ref(), Ok(&public), "{cipher}");
        assert_eq!(read(&keygen, "key", Some("wrong")), Err(BadFile::WrongPassphrase), "{cipher}");
        keygen.run(&["-q", "-p", "-P", "secret", "-N", "", "-f", "key"]);
    }
}

#[test]
fn what_openssl_writes_is_read_too() {
    let keygen = Keygen::new();
    for (number, (kind, name)) in TYPES.into_iter().enumerate().filter(|(_, (_, name))| *name != "ssh-ed25519") {
        for format in ["PEM", "PKCS8"] {
            let file = format!("key{number}{format}");
            keygen.run(&[&["-q", "-m", format, "-N", "", "-f", &file], kind].concat());
            let public = PublicKey::parse_line(&keygen.read(&format!("{file}.pub"))).unwrap();
            assert_eq!(read(&keygen, &file, None).as_ref(), Ok(&public), "{name} {format}");
            keygen.run(&["-q", "-p", "-m", format, "-P", "", "-N", "secret", "-f", &file]);
            assert_eq!(read(&keygen, &file, Some("secret")), Err(BadFile::OtherEncryption), "{name} {format}");
        }
    }
    let openssl = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output().unwrap();
    assert!(read_private_key(&openssl.stdout, None).unwrap().public().kind() == KeyType::Ed25519);
    let x25519 = Command::new("openssl").args(["genpkey", "-algorithm", "x25519"]).output().unwrap();
    assert_eq!(read_private_key(&x25519.stdout, None).err(), Some(BadFile::Malformed));
}

#[test]
fn an_ecdsa_key_whose_number_is_short_is_read() {
    let keygen = Keygen::new();
    // One of four of this curve: their first byte is 0 and the second one below 0x80.
    let (pair, scalar) = std::iter::repeat_with(|| EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap())
        .map(|pair| {
            let scalar = pair.private_key().as_be_bytes().unwrap().as_ref().to_vec();
            (pair, scalar)
        })
        .find(|(_, scalar)| scalar[0] == 0 && scalar[1] < 0x80)
        .unwrap();
    let public = PublicKey::of_ecdsa(Curve::P521, pair.public_key().as_ref()).unwrap();
    let mut private = Vec::new();
    private.put_u32(7).put_u32(7).put_bytes(public.blob()).put_mpint(&scalar).put_string("short");
    let missing = private.len().next_multiple_of(8) - private.len();
    private.extend((1_u8..).take(missing));
    let file = file(public.blob(), &private);
    keygen.write("short", &file);
    assert_eq!(keygen.run(&["-y", "-f", "short"]), format!("{} short\n", public.to_line()), "OpenSSH writes them like that");
    assert_eq!(read(&keygen, "short", None), Ok(public));
    assert!(ssh_key::PrivateKey::from_openssh(&file).is_err(), "ssh-key reads them now: use it");
}

#[test]
fn what_happened_to_a_file_on_its_way_through_a_store_is_forgiven() {
    let keygen = Keygen::new();
    let public = keygen.key("key", &["-t", "ed25519"]);
    let file = keygen.read("key");
    for (what, file) in [
        ("the line ends of Windows", file.replace('\n', "\r\n")),
        ("no last line end", file.trim_end().to_owned()),
        ("indented lines", file.lines().map(|line| format!("    {line}\n")).collect()),
        ("one line", file.replace('\n', " ")),
        ("empty lines around it", format!("\n\n{file}\n\n")),
        ("a line before it", format!("deploy's key\n{file}")),
    ] {
        assert_eq!(read_private_key(file.as_bytes(), None).unwrap().public(), &public, "{what}");
    }
}

#[test]
fn what_is_no_private_key_says_what_it_is() {
    let keygen = Keygen::new();
    keygen.key("key", &["-t", "ed25519"]);
    let file = keygen.read("key");
    let public = keygen.read("key.pub");
    let bytes = STANDARD.decode(file.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    for (file, wanted) in [
        (String::new(), BadFile::NotAPrivateKey),
        (public, BadFile::NotAPrivateKey),
        (file.replace("-----END", "-----BEGIN"), BadFile::NotAPrivateKey),
        (file.replacen("OPENSSH", "OPENSSL", 1), BadFile::NotAPrivateKey),
        (file.replace("OPENSSH", "CERTIFICATE"), BadFile::NotAPrivateKey),
        (file.replacen("b3B", "b3*", 1), BadFile::NotAPrivateKey),
        (format!("{}{file}", " ".repeat(70_000)), BadFile::NotAPrivateKey),
        (file.replace("OPENSSH", "DSA"), BadFile::Key(BadKey::Type)),
        (file.replace("OPENSSH", "RSA"), BadFile::Malformed),
        (file.replace("OPENSSH", "EC"), BadFile::Malformed),
        (file.replace("OPENSSH ", ""), BadFile::Malformed),
        ("PuTTY-User-Key-File-3: ssh-ed25519\r\n".to_owned(), BadFile::Putty),
    ] {
        assert_eq!(read_private_key(file.as_bytes(), None).err(), Some(wanted), "{file:.60}");
    }
    assert_eq!(read_private_key(&[0xff; 100], None).err(), Some(BadFile::NotAPrivateKey));
    for length in 0..bytes.len() {
        assert_eq!(read_private_key(&pem(OPENSSH, &bytes[..length]), None).err(), Some(BadFile::Malformed), "cut to {length}");
    }
    assert_eq!(read_private_key(&pem(OPENSSH, &[bytes.as_slice(), &[0]].concat()), None).err(), Some(BadFile::Malformed));
}

#[test]
fn a_file_whose_parts_do_not_fit_together_is_damaged() {
    let (seed, other) = ([1; SEED], Ed25519KeyPair::from_seed_unchecked(&[2; SEED]).unwrap());
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let (key, stranger) = (pair.public_key().as_ref(), other.public_key().as_ref());
    let public = PublicKey::of_ed25519(key.try_into().unwrap());
    let private = |checks: [u32; 2], before: &[u8], again: &[u8], padding: &[u8]| {
        let mut private = Vec::new();
        private.put_u32(checks[0]).put_u32(checks[1]).put_string("ssh-ed25519").put_string(before);
        private.put_string([&seed, again].concat()).put_string("comment").put_bytes(padding);
        private
    };
    let stranger_blob = PublicKey::of_ed25519(stranger.try_into().unwrap());
    let good = private([1, 1], key, key, &[1, 2, 3]);
    assert!(read_private_key(&file(public.blob(), &good), None).is_ok());
    for (what, file) in [
        ("two checks that differ", file(public.blob(), &private([1, 2], key, key, &[1, 2, 3]))),
        ("another public key before", file(stranger_blob.blob(), &good)),
        ("another public key inside", file(public.blob(), &private([1, 1], stranger, key, &[1, 2, 3]))),
        ("another public key behind the secret", file(public.blob(), &private([1, 1], key, stranger, &[1, 2, 3]))),
        ("another public key everywhere", file(stranger_blob.blob(), &private([1, 1], stranger, stranger, &[1, 2, 3]))),
        ("other padding", file(public.blob(), &private([1, 1], key, key, &[1, 2, 4]))),
        ("long padding", file(public.blob(), &private([1, 1], key, key, &(1..=255).collect::<Vec<u8>>()))),
    ] {
        assert_eq!(read_private_key(&file, None).err(), Some(BadFile::Malformed), "{what}");
    }
}

#[test]
fn the_secret_of_a_security_key_is_not_in_its_file() {
    let mut public = Vec::new();
    public.put_string("sk-ssh-ed25519@openssh.com").put_string([7; 32]).put_string("ssh:");
    let mut private = Vec::new();
    private.put_u32(1).put_u32(1).put_bytes(&public).put_u8(1).put_string("handle").put_string("").put_string("comment");
    assert_eq!(read_private_key(&file(&public, &private), None).err(), Some(BadFile::SecurityKey));
}

#[test]
fn a_file_cannot_keep_us_busy() {
    let sealed = |rounds: u32, salt: &[u8], cipher: &str, length: usize| {
        let (mut options, mut contents) = (Vec::new(), MAGIC.to_vec());
        options.put_string(salt).put_u32(rounds);
        contents.put_string(cipher).put_string("bcrypt").put_string(&options).put_u32(1).put_string("").put_string(vec![0; length]);
        read_private_key(&pem(OPENSSH, &contents), Some(b"secret")).err()
    };
    assert_eq!(sealed(u32::MAX, &[1; 16], "aes256-ctr", 160), Some(BadFile::TooManyRounds));
    assert_eq!(sealed(257, &[1; 16], "aes256-ctr", 160), Some(BadFile::TooManyRounds));
    assert_eq!(sealed(0, &[1; 16], "aes256-ctr", 160), Some(BadFile::Malformed));
    assert_eq!(sealed(1, &[], "aes256-ctr", 160), Some(BadFile::Malformed));
    assert_eq!(sealed(1, &[1; 65], "aes256-ctr", 160), Some(BadFile::Malformed));
    assert_eq!(sealed(1, &[1; 16], "aes256-ctr", 159), Some(BadFile::Malformed));
    assert_eq!(sealed(1, &[1; 16], "aes256-ctr", 0), Some(BadFile::Malformed));
    assert_eq!(sealed(1, &[1; 16], "aes256-gcm@openssh.com", 160), Some(BadFile::Malformed), "no tag");
    assert_eq!(sealed(1, &[1; 16], "none", 160), Some(BadFile::OtherEncryption));
    assert_eq!(sealed(1, &[1; 16], "rot13", 160), Some(BadFile::OtherEncryption));
    assert_eq!(sealed(1, &[1; 16], "aes256-ctr", 160), Some(BadFile::WrongPassphrase));
}

proptest! {
    #[test]
    fn any_private_part_is_read_or_refused(kind in 0..5_usize, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let kinds = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-rsa", "sk-ssh-ed25519@openssh.com"];
        let mut private = Vec::new();
        private.put_u32(1).put_u32(1).put_string(kinds[kind]).put_bytes(&rest);
        prop_assert!(read_private_key(&file(&rest, &private), None).is_err());
        prop_assert!(read_private_key(&pem(OPENSSH, &rest), Some(b"secret")).is_err());
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            prop_assert!(read_private_key(&pem(label, &rest), None).is_err());
        }
    }
}
