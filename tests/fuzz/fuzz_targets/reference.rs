//! References of the file, and the secrets that they pick from: a reference, then behind a line feed the secret as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (text, secret) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Some(path) = keyward_auth::fuzzing::reference(text, secret.get(1..).unwrap_or_default()) else { return };
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\*+&".contains(&byte)), "one path of a URL: {path}");
    assert!(path.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "no other path: {path}");
    let first = path.split('/').next().unwrap_or_default().to_ascii_lowercase();
    assert!(!["sys", "auth", "identity", "cubbyhole"].contains(&first.as_str()), "the store's own: {path}");
});
