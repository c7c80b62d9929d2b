use std::fs;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::certificate::Presented;
use crate::key::Untrusted;
use crate::keygen::{self, Keygen};
use crate::revocation::Revocations;
use crate::wire::Put;

const NOW: u64 = 1_800_000_000;

fn key(number: u8) -> PublicKey {
    PublicKey::parse(&[blob("ssh-ed25519"), blob_of(&[number; 32])].concat()).unwrap()
}

fn blob(text: &str) -> Vec<u8> {
    blob_of(text.as_bytes())
}

fn blob_of(bytes: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.put_string(bytes);
    blob
}

fn presented(key: &PublicKey) -> Presented {
    Presented::parse(key.kind().algorithms()[0], key.blob()).unwrap()
}

/// A file in which each line has the key of this number.
fn file(lines: &[(&str, u8)]) -> KnownHosts {
    let text: String = lines.iter().map(|(hosts, number)| format!("{hosts} {} a comment\n", key(*number).to_line())).collect();
    KnownHosts::parse(&text).unwrap()
}

#[track_caller]
fn is_known(hosts: &KnownHosts, (host, port): (&str, u16), number: u8, wanted: Result<(), Untrusted>) {
    let checked = hosts.lookup(host, port).check(&presented(&key(number)), host, NOW, &Revocations::default());
    assert_eq!(checked, wanted, "{host} {port} with key {number}");
}

#[test]
fn rule_9_a_host_is_believed_with_its_own_keys_and_no_others() {
    let hosts = file(&[("web-1,192.0.2.7", 1), ("web-1", 2), ("web-2", 3), ("*.example.com,!bad.example.com", 4)]);
    for (host, number, wanted) in [
        ("web-1", 1, Ok(())),
        ("web-1", 2, Ok(())),
        ("WEB-1", 1, Ok(())),
        ("192.0.2.7", 1, Ok(())),
        ("192.0.2.7", 2, Err(Untrusted::AnotherHostKey)),
        ("web-1", 3, Err(Untrusted::AnotherHostKey)),
        ("web-3", 3, Err(Untrusted::UnknownHost)),
        ("good.example.com", 4, Ok(())),
        ("bad.example.com", 4, Err(Untrusted::UnknownHost)),
        ("", 1, Err(Untrusted::UnknownHost)),
    ] {
        is_known(&hosts, (host, 22), number, wanted);
    }
    let nobody = KnownHosts::parse("# nothing\n\n   \n").unwrap().lookup("web-1", 22);
    assert!(!nobody.knows_any() && nobody.algorithms().is_empty());
}

#[test]
fn another_port_is_another_host_unless_nothing_is_known_of_it() {
    let hosts = file(&[("web-1", 1), ("[web-1]:2222", 2), ("@revoked web-1", 9), ("@revoked [web-1]:2222", 8), ("[web-2]:2222", 3)]);
    is_known(&hosts, ("web-1", 2222), 2, Ok(()));
    is_known(&hosts, ("web-1", 2222), 1, Err(Untrusted::AnotherHostKey));
    is_known(&hosts, ("web-1", 22), 2, Err(Untrusted::AnotherHostKey));
    is_known(&hosts, ("web-1", 2223), 1, Ok(()));
    is_known(&hosts, ("web-2", 22), 3, Err(Untrusted::UnknownHost));
    // What is revoked for the host is so at each of its ports.
    is_known(&hosts, ("web-1", 2222), 9, Err(Untrusted::Revoked));
    is_known(&hosts, ("web-1", 2222), 8, Err(Untrusted::Revoked));
}

#[test]
fn a_revoked_key_never_counts_whatever_else_is_said_of_it() {
    for lines in [[("web-1", 1), ("@revoked web-1", 1)], [("@revoked *", 1), ("web-1", 1)]] {
        is_known(&file(&lines), ("web-1", 22), 1, Err(Untrusted::Revoked));
    }
    let hosts = file(&[("web-1", 1), ("@revoked web-2", 1)]);
    is_known(&hosts, ("web-1", 22), 1, Ok(()));
    let listed = Revocations::parse(key(1).to_line().as_bytes()).unwrap();
    assert_eq!(hosts.lookup("web-1", 22).check(&presented(&key(1)), "web-1", NOW, &listed), Err(Untrusted::Revoked));
}

#[test]
fn an_authority_speaks_for_the_hosts_of_its_pattern_by_certificates_alone() {
    let keygen = Keygen::new();
    let authority = keygen.key("ca", &["-t", "ed25519"]);
    keygen.key("host", &["-t", "ecdsa"]);
    let certificate = keygen.certificate("ca", "host", &["-h", "-n", "web-1.example.com"]);
    let certificate = Presented::parse("ecdsa-sha2-nistp256-cert-v01@openssh.com", &certificate).unwrap();
    let line = |marker: &str, hosts: &str| format!("{marker} {hosts} {}\n", authority.to_line());
    let check = |text: &str, presented: &Presented, host: &str, port| {
        KnownHosts::parse(text).unwrap().lookup(host, port).check(presented, host, NOW, &Revocations::default())
    };
    let trusted = line("@cert-authority", "*.example.com");
    assert_eq!(check(&trusted, &certificate, "web-1.example.com", 22), Ok(()));
    assert_eq!(check(&trusted, &certificate, "web-1.example.com", 2222), Ok(()));
    assert_eq!(check(&trusted, &certificate, "web-2.example.com", 22), Err(Untrusted::AnotherPrincipal));
    assert_eq!(check(&trusted, &certificate, "web-1", 22), Err(Untrusted::UnknownAuthority), "outside its pattern");
    let itself = presented(&authority);
    assert_eq!(check(&trusted, &itself, "web-1.example.com", 22), Err(Untrusted::AnotherHostKey), "an authority is no host");
    let as_a_key = line("", "*.example.com");
    assert_eq!(check(&as_a_key, &certificate, "web-1.example.com", 22), Err(Untrusted::UnknownAuthority), "a host's key is no authority");
    assert_eq!(check(&(trusted.clone() + &line("@revoked", "*")), &certificate, "web-1.example.com", 22), Err(Untrusted::Revoked));
    let of_the_host = format!("{trusted}@revoked * {}\n", certificate.key().to_line());
    assert_eq!(check(&of_the_host, &certificate, "web-1.example.com", 22), Err(Untrusted::Revoked));
    let by_certificate = format!("{trusted}@revoked * {}", keygen.read("host-cert.pub"));
    assert_eq!(check(&by_certificate, &certificate, "web-1.example.com", 22), Err(Untrusted::Revoked));
    // A key that is known by itself, under a certificate of somebody else.
    let known = format!("web-1 {}\n", certificate.key().to_line());
    assert_eq!(check(&known, &certificate, "web-1", 22), Ok(()));
}

#[test]
fn a_host_is_asked_for_the_keys_that_are_known() {
    let keygen = Keygen::new();
    let rsa = keygen.key("rsa", &["-t", "rsa", "-b", "2048"]);
    let pinned = Trusted::pinned(vec![rsa.clone(), key(1), rsa]);
    assert_eq!(pinned.algorithms(), ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]);
    let authority = file(&[("@cert-authority *", 1), ("web-1", 2)]);
    let algorithms = authority.lookup("web-1", 22).algorithms();
    assert_eq!((algorithms[0], algorithms.last()), ("ssh-ed25519-cert-v01@openssh.com", Some(&"ssh-ed25519")));
    for algorithm in algorithms {
        assert!(crate::key::signature_algorithm(algorithm).is_some(), "{algorithm}");
    }
}

#[test]
fn a_line_that_cannot_be_read_spoils_the_file_and_says_where_it_is() {
    let good = key(1).to_line();
    let cut = &good[..good.len() - 4];
    for line in [
        "web-1",
        "web-1 ssh-ed25519",
        "web-1 ssh-ed25519 AAAA",
        &format!("web-1 {cut}"),
        &format!("web-1 {}", good.replace("ssh-ed25519", "ssh-rsa")),
        &format!("@revoked,@cert-authority web-1 {good}"),
        &format!("@nothing web-1 {good}"),
        &format!("@revoked {good}"),
        &format!("web-1,,web-2 {good}"),
        &format!("|1|AAAA|AAAA {good}"),
        "web-1 2048 65537 1234567890",
    ] {
        let bad = KnownHosts::parse(&format!("# first\nweb-0 {good}\n{line}\nweb-2 {good}\n{line}")).unwrap_err();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 5], "{line}");
        assert!(bad[0].to_string().starts_with("line 3: "));
    }
    assert_eq!(KnownHosts::parse(&"#".repeat(FILE_MAX + 1)).unwrap_err()[0].line, 0);
}

#[test]
fn a_key_that_we_do_not_take_is_passed_over_but_stays_revoked() {
    let keygen = Keygen::new();
    keygen.run(&["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "small"]);
    let small = keygen.read("small.pub");
    let dss = keygen::line("ssh-dss", &[blob("ssh-dss"), blob_of(&[1])].concat());
    let text = format!("web-1 {small}web-1 {dss}@cert-authority * {small}web-1 {}\n@revoked * {dss}", key(1).to_line());
    let trusted = KnownHosts::parse(&text).unwrap().lookup("web-1", 22);
    assert_eq!((trusted.keys.as_slice(), trusted.authorities.len(), trusted.revoked.len()), ([key(1)].as_slice(), 0, 1));
    // Something is known of this port, so the host's name alone does not speak for it.
    let text = format!("web-1 {}\n[web-1]:2222 {dss}", key(1).to_line());
    assert!(!KnownHosts::parse(&text).unwrap().lookup("web-1", 2222).knows_any());
}

#[test]
fn names_are_found_as_ssh_keygen_finds_them_hashed_and_not() {
    let keygen = Keygen::new();
    let names = ["web-1", "[web-1]:2222", "192.0.2.7", "[2001:db8::7]:22022", "2001:db8::7"];
    let text: String = names.iter().zip(1..).map(|(name, number)| format!("{name} {}\n", key(number).to_line())).collect();
    for hashed in [false, true] {
        keygen.write("hosts", &text);
        if hashed {
            keygen.run(&["-H", "-f", "hosts"]);
        }
        let hosts = KnownHosts::parse(&fs::read_to_string(keygen.path("hosts")).unwrap()).unwrap();
        for (name, number) in names.iter().zip(1..) {
            let (host, port) = match name.strip_prefix('[').and_then(|name| name.split_once("]:")) {
                Some((host, port)) => (host, port.parse().unwrap()),
                None => (*name, 22),
            };
            assert_eq!(hosts.lookup(host, port).keys, [key(number)], "{name}");
            let found = keygen.run(&["-F", name, "-f", "hosts"]);
            assert!(found.lines().any(|line| line.contains(&key(number).to_line())), "{found}");
        }
        assert!(!hosts.lookup("web-2", 22).knows_any());
    }
    assert_eq!(line("Web-1", 22, &key(1)), format!("web-1 {}", key(1).to_line()));
    assert_eq!(line("web-1", 2222, &key(1)), format!("[web-1]:2222 {}", key(1).to_line()));
}

/// The differential: OpenSSH's own matcher over many lines at once, which are all that it finds.
#[test]
fn wildcards_match_what_openssh_matches() {
    let keygen = Keygen::new();
    let fields = ["*", "a*", "*a", "?", "??", "a?c", "*.b.c", "a.*.c", "[*]:22*", "!a", "*,!a", "!*.c,a*", "A*", "**", "*?*", "a,b,c"];
    let text: String = fields.iter().zip(1..).map(|(field, number)| format!("{field} {}\n", key(number).to_line())).collect();
    keygen.write("hosts", &text);
    let hosts = KnownHosts::parse(&text).unwrap();
    for name in ["a", "b", "ab", "abc", "a.b.c", "x.b.c", "[a]:2222", "[abc]:22", ""] {
        let found = Command::new("ssh-keygen").args(["-F", name, "-f"]).arg(keygen.path("hosts")).output().unwrap().stdout;
        let found = String::from_utf8(found).unwrap();
        let wanted: Vec<PublicKey> =
            found.lines().filter(|line| !line.starts_with('#')).map(|line| PublicKey::parse_line(word(line).1).unwrap()).collect();
        assert_eq!(hosts.named(name).keys, wanted, "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(@?[a-z|1*!,\\[\\]:]{0,8} ?(ssh-ed25519 )?[A-Za-z0-9+/=]{0,12}\n?){0,6}", host in "[a-z.]{0,6}") {
        if let Ok(hosts) = KnownHosts::parse(&text) {
            let at_any_port = hosts.lookup(&host, 2222);
            prop_assert!(at_any_port.revoked.len() >= hosts.lookup(&host, 22).revoked.len());
        }
    }
}
