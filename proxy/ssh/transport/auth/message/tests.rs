use proptest::prelude::*;

use super::super::prompts::Prompt;
use super::*;

/// A publickey request as RFC 4252 section 7 lays it out, with everything in it.
fn request_bytes(user: &str, method: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![REQUEST];
    bytes.put_string(user).put_string(CONNECTION_SERVICE).put_string(method);
    for field in fields {
        bytes.put_bytes(field);
    }
    bytes
}

fn string(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_string(value);
    bytes
}

/// RFC 4252 sections 5 to 8, RFC 4256 section 3, RFC 4253 section 10: byte for byte.
#[test]
fn messages_are_written_as_the_rfcs_lay_them_out() {
    assert_eq!(service_request(USERAUTH_SERVICE), b"\x05\0\0\0\x0cssh-userauth");
    assert_eq!(service_accept(USERAUTH_SERVICE), b"\x06\0\0\0\x0cssh-userauth");
    assert_eq!(none_request("al"), b"\x32\0\0\0\x02al\0\0\0\x0essh-connection\0\0\0\x04none");
    assert_eq!(*password_request("al", b"pw"), b"\x32\0\0\0\x02al\0\0\0\x0essh-connection\0\0\0\x08password\0\0\0\0\x02pw");
    assert_eq!(interactive_request("al"), b"\x32\0\0\0\x02al\0\0\0\x0essh-connection\0\0\0\x14keyboard-interactive\0\0\0\0\0\0\0\0");
    assert_eq!(
        key_request("al", "ssh-ed25519", b"blob"),
        b"\x32\0\0\0\x02al\0\0\0\x0essh-connection\0\0\0\x09publickey\x01\0\0\0\x0bssh-ed25519\0\0\0\x04blob"
    );
    assert_eq!(failure(&["publickey", "password"]), b"\x33\0\0\0\x12publickey,password\0");
    assert_eq!(failure(&[]), b"\x33\0\0\0\0\0");
    assert_eq!(success(), b"\x34");
    assert_eq!(banner("hi\n"), b"\x35\0\0\0\x03hi\n\0\0\0\0");
    assert_eq!(key_would_do("ssh-ed25519", b"blob"), b"\x3c\0\0\0\x0bssh-ed25519\0\0\0\x04blob");
    assert_eq!(prompts(&Prompts::password()), b"\x3c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x0aPassword: \0");
    assert_eq!(*one_response(b"pw"), b"\x3d\0\0\0\x01\0\0\0\x02pw");
    assert_eq!(no_responses(), b"\x3d\0\0\0\0");
}

#[test]
fn the_signed_data_is_the_session_and_the_request_up_to_its_signature() {
    let request = key_request("alice", "ssh-ed25519", b"blob");
    let mut signed = request.clone();
    signed.put_string("signature");
    let Ok(Request { method: Method::PublicKey(read), .. }) = Request::read(&signed) else { panic!() };
    let signature = read.signature.unwrap();
    assert_eq!((signature.request, signature.signature), (request.as_slice(), b"signature".as_slice()));
    assert_eq!(signed_data(b"id", &request), [&b"\0\0\0\x02id"[..], &request].concat());
}

/// What follows would otherwise be bytes that one side reads and the other does not.
#[test]
fn rule_19_nothing_may_be_behind_a_message_or_missing_from_it() {
    let with_signature = [string(b"ssh-ed25519"), string(b"blob"), string(b"signature")].concat();
    let bound = [string(b"ssh-ed25519"), string(b"blob"), string(b"host key"), string(b"signature")].concat();
    for message in [
        none_request("alice"),
        password_request("alice", b"pw").to_vec(),
        request_bytes("alice", PASSWORD, &[&[1], &string(b"old"), &string(b"new")]),
        interactive_request("alice"),
        request_bytes("alice", PUBLICKEY, &[&[1], &with_signature]),
        request_bytes("alice", PUBLICKEY_HOSTBOUND, &[&[1], &bound]),
        request_bytes("alice", PUBLICKEY, &[&[0], &string(b"ssh-ed25519"), &string(b"blob")]),
        request_bytes("alice", PUBLICKEY_HOSTBOUND, &[&[0], &string(b"ssh-ed25519"), &string(b"blob"), &string(b"host key")]),
    ] {
        assert!(Request::read(&message).is_ok(), "{message:?}");
        assert!(Request::read(&[&message[..], &[0]].concat()).is_err(), "{message:?} and a byte more");
        for length in 0..message.len() {
            assert!(Request::read(&message[..length]).is_err(), "{message:?} cut to {length}");
        }
    }
}

#[test]
fn what_a_server_says_is_read_to_its_end() {
    type Reads = fn(&[u8]) -> bool;
    let cases: [(Vec<u8>, Reads); 6] = [
        (failure(&["publickey"]), |bytes| read_failure(bytes).is_ok()),
        (success(), |bytes| read_success(bytes).is_ok()),
        (banner("hi"), |bytes| read_banner(bytes).is_ok()),
        (prompts(&Prompts::password()), |bytes| read_prompts(bytes).is_ok()),
        (service_accept(b"x"), |bytes| read_service_accept(bytes).is_ok()),
        (service_request(b"x"), |bytes| read_service_request(bytes).is_ok()),
    ];
    for (message, reads) in cases {
        assert!(reads(&message), "{message:?}");
        assert!(!reads(&[&message[..], &[0]].concat()), "{message:?} and a byte more");
        for length in 0..message.len() {
            assert!(!reads(&message[..length]), "{message:?} cut to {length}");
        }
        let mut other = message;
        other[0] ^= 1;
        assert!(!reads(&other), "another number: {other:?}");
    }
}

#[test]
fn announced_numbers_of_things_are_not_believed() {
    let mut many = vec![METHOD];
    many.put_string("").put_string("").put_string("").put_u32(u32::MAX);
    assert!(read_prompts(&many).is_err());
    let mut nine = vec![METHOD];
    nine.put_string("").put_string("").put_string("").put_u32(9);
    for _ in 0..9 {
        nine.put_string("Password: ").put_bool(false);
    }
    assert!(read_prompts(&nine).is_err());
    assert!(read_failure(&failure(&["a"; 65])).is_err());
    let mut many = vec![INFO_RESPONSE];
    many.put_u32(u32::MAX);
    assert_eq!(read_responses(&many, 1), Ok(None));
}

#[test]
fn as_many_responses_as_prompts_and_no_more() {
    assert_eq!(read_responses(&one_response(b"pw"), 1), Ok(Some(vec![&b"pw"[..]])));
    assert_eq!(read_responses(&no_responses(), 0), Ok(Some(vec![])));
    assert_eq!(read_responses(&no_responses(), 1), Ok(None));
    assert_eq!(read_responses(&one_response(b"pw"), 2), Ok(None));
    assert!(read_responses(&[&one_response(b"pw")[..], &[0]].concat(), 1).is_err());
    assert!(read_responses(&one_response(b"pw")[..7], 1).is_err());
}

#[test]
fn the_longest_prompts_of_ours_fit_into_a_message() {
    let long = "x".repeat(2048);
    let prompts_of = |count| Prompts::new(&long, vec![Prompt::hidden(&long); count]);
    assert!(prompts(&prompts_of(PROMPTS_MAX).unwrap()).len() < super::super::MESSAGE_MAX);
    assert!(prompts_of(PROMPTS_MAX + 1).is_err());
    assert!(Prompts::new("", vec![Prompt::shown(&"x".repeat(2049))]).is_err());
    assert!(Prompts::new(&"x".repeat(2049), vec![]).is_err());
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(user: String, algorithm in "[a-z0-9@.-]{0,40}", blob: Vec<u8>, signature: Vec<u8>, password: Vec<u8>) {
        let unsigned = key_request(&user, &algorithm, &blob);
        let mut signed = unsigned.clone();
        signed.put_string(&signature);
        let read = Request::read(&signed).unwrap();
        prop_assert_eq!((read.user, read.service), (user.as_str(), CONNECTION_SERVICE));
        let Method::PublicKey(read) = read.method else { panic!() };
        prop_assert_eq!((read.algorithm, read.blob), (algorithm.as_bytes(), blob.as_slice()));
        prop_assert!(read.bound == Bound::ToNone);
        let read = read.signature.unwrap();
        prop_assert_eq!((read.request, read.signature), (unsigned.as_slice(), signature.as_slice()));

        let bytes = password_request(&user, &password);
        prop_assert!(matches!(Request::read(&bytes).unwrap().method, Method::Password(read) if read == password));
        let bytes = none_request(&user);
        prop_assert!(matches!(Request::read(&bytes).unwrap().method, Method::None));
        let bytes = interactive_request(&user);
        prop_assert!(matches!(Request::read(&bytes).unwrap().method, Method::Interactive));
    }

    #[test]
    fn no_bytes_make_a_reader_fail_badly(bytes: Vec<u8>, number in 0_u8..=255, prompts in 0_usize..10) {
        for bytes in [bytes.clone(), [&[number][..], &bytes].concat()] {
            let _ = (Request::read(&bytes).is_ok(), read_responses(&bytes, prompts).is_ok(), read_service_request(&bytes).is_ok());
            let _ = (read_failure(&bytes).is_ok(), read_banner(&bytes).is_ok(), read_prompts(&bytes).is_ok());
        }
    }
}
