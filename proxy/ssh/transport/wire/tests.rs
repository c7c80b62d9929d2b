use proptest::prelude::*;

use super::*;

fn mpint(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_mpint(value);
    bytes
}

/// The examples of RFC 4251 section 5 that are not negative.
#[test]
fn numbers_are_written_and_read_as_the_rfc_shows() {
    let big = [0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7];
    assert_eq!(mpint(&[0]), [0, 0, 0, 0]);
    assert_eq!(mpint(&big), [&[0, 0, 0, 8][..], &big].concat());
    assert_eq!(mpint(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
    assert_eq!(mpint(&[0, 0, 0x80]), [0, 0, 0, 2, 0, 0x80]);
    assert_eq!(Reader::new(&[0, 0, 0, 2, 0, 0x80]).mpint(), Ok(&[0x80][..]));
    assert_eq!(Reader::new(&[0, 0, 0, 0]).mpint(), Ok(&[][..]));
}

#[test]
fn a_negative_number_is_refused() {
    assert!(Reader::new(&[0, 0, 0, 2, 0xed, 0xcc]).mpint().is_err());
}

#[test]
fn names_are_written_and_read_as_the_rfc_shows() {
    let mut bytes = Vec::new();
    bytes.put_names(&[]).put_names(&["zlib"]).put_names(&["zlib", "none"]);
    assert_eq!(bytes, b"\0\0\0\0\0\0\0\x04zlib\0\0\0\x09zlib,none");
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.name_list(), Ok(vec![]));
    assert_eq!(reader.name_list(), Ok(vec!["zlib"]));
    assert_eq!(reader.name_list(), Ok(vec!["zlib", "none"]));
    assert_eq!(reader.end(), Ok(()));
}

#[test]
fn what_is_no_name_is_refused() {
    for list in [&b","[..], b"a,", b",a", b"a,,b", b"a b", b"a\0", b"a\n", b"\xff", "é".as_bytes()] {
        let mut bytes = Vec::new();
        bytes.put_string(list);
        assert!(Reader::new(&bytes).name_list().is_err(), "{list:?}");
    }
}

#[test]
fn an_announced_length_is_never_believed() {
    for announced in [1_u32, 4, 0x7fff_ffff, 0xffff_ffff] {
        let bytes = announced.to_be_bytes();
        assert!(Reader::new(&bytes).string().is_err(), "{announced}");
    }
}

#[test]
fn what_is_left_over_is_refused() {
    assert!(Reader::new(&[0]).end().is_err());
}

proptest! {
    #[test]
    fn what_was_written_is_read(byte: u8, flag: bool, small: u32, large: u64, string: Vec<u8>, text in ".*", number: Vec<u8>) {
        let mut bytes = Vec::new();
        bytes.put_u8(byte).put_bool(flag).put_u32(small).put_u64(large).put_string(&string).put_string(&text).put_mpint(&number);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.u8(), Ok(byte));
        prop_assert_eq!(reader.boolean(), Ok(flag));
        prop_assert_eq!(reader.u32(), Ok(small));
        prop_assert_eq!(reader.u64(), Ok(large));
        prop_assert_eq!(reader.string(), Ok(&string[..]));
        prop_assert_eq!(reader.text(), Ok(&text[..]));
        prop_assert_eq!(reader.mpint(), Ok(without_zeros(&number)));
        prop_assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes: Vec<u8>) {
        for read in 0..4 {
            let mut reader = Reader::new(&bytes);
            for _ in 0..bytes.len() {
                let _ = match read {
                    0 => reader.string().map(drop),
                    1 => reader.mpint().map(drop),
                    2 => reader.name_list().map(drop),
                    _ => reader.u8().map(drop),
                };
            }
        }
    }
}
