use super::*;

#[test]
fn of_a_command_only_the_name_is_recorded() {
    let cases: [(&[u8], &[u8]); 14] = [
        (b"uptime", b"uptime"),
        (b"  /usr/bin/git-upload-pack 'repo.git'", b"/usr/bin/git-upload-pack"),
        (b"mysql -psecret", b"mysql"),
        (b"mysql\t-psecret", b"mysql"),
        (b"PASSWORD=secret mysql", b"PASSWORD"),
        (b"echo;secret", b"echo"),
        (b"echo$IFS'secret'", b"echo"),
        (b"echo>secret", b"echo"),
        (b"{echo,secret}", b""),
        (b"'secret word'", b""),
        (b"\x1b[2Jsecret", b""),
        (b"a\0secret", b"a"),
        (b"", b""),
        ("früh".as_bytes(), b"fr"),
    ];
    for (command, name) in cases {
        assert_eq!(program(command), name, "{}", Shown::new(command));
    }
}

#[test]
fn what_is_shown_of_a_name_is_bounded() {
    let What::Exec { command } = What::exec(&[b'a'; 100_000]) else { unreachable!() };
    assert!(command.as_str().len() < 100);
}
