//! A server's OK, less its text.

use super::{Fields, Malformed};
use crate::mysql::capabilities::Capabilities;

/// An OK as it came, but without its text; counts, status, warnings and changes of the session's state stay.
///
/// # Errors
/// It is none, or not one of a server with these capabilities.
pub fn without_text(ok: &[u8], agreed: Capabilities) -> Result<Vec<u8>, Malformed> {
    const BROKEN: &str = "an OK that is too short";
    let mut fields = Fields(ok);
    if fields.u8(BROKEN)? != 0 {
        return Err(Malformed("another packet than an OK"));
    }
    // Affected rows and the last insert id; then status and warnings, two bytes each.
    fields.length(BROKEN)?;
    fields.length(BROKEN)?;
    fields.take(4, BROKEN)?;
    let mut kept = ok.get(..ok.len().saturating_sub(fields.0.len())).unwrap_or_default().to_vec();
    if agreed.has(Capabilities::SESSION_TRACK) && !fields.is_empty() {
        fields.counted("an OK whose text is shorter than it says")?;
        if !fields.is_empty() {
            kept.push(0);
            kept.extend_from_slice(fields.rest());
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_goes_and_all_else_stays() {
        let head = [0, 0, 0, 2, 0x40, 0, 0];
        let state = [6, 1, 4, 3, b'a', b'b', b'c'];
        let bare = |parts: &[&[u8]], agreed| without_text(&parts.concat(), agreed);
        assert_eq!(bare(&[&head, b"a text to the end"], Capabilities::NONE).unwrap(), head);
        assert_eq!(bare(&[&head], Capabilities::SESSION_TRACK).unwrap(), head);
        assert_eq!(bare(&[&head, &[4], b"text"], Capabilities::SESSION_TRACK).unwrap(), head);
        assert_eq!(bare(&[&head, &[4], b"text", &state], Capabilities::SESSION_TRACK).unwrap(), [&head[..], &[0], &state].concat());
        assert!(bare(&[&head, &[9], b"text"], Capabilities::SESSION_TRACK).is_err());
        assert!(bare(&[&[0xff, 1, 2]], Capabilities::NONE).is_err());
        assert!(bare(&[&[0, 0]], Capabilities::NONE).is_err());
    }
}
