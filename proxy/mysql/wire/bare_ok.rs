//! A server's OK to a login, less what is not for the client.

use super::{Fields, Malformed};

/// SERVER_SESSION_STATE_CHANGED: changes of the session's state follow the text.
const STATE_CHANGED: u16 = 0x4000;

/// The OK to a login with its counts, status and warnings alone. Its text, and the changes of the session's state, speak of the server: a
/// MariaDB proves by a hash there that it knows the password, which a user could try passwords on; and `redirect_url` sends a client past
/// us.
///
/// # Errors
/// It is none.
pub fn bare_ok(ok: &[u8]) -> Result<Vec<u8>, Malformed> {
    const BROKEN: &str = "an OK that is too short";
    let mut fields = Fields(ok);
    if fields.u8(BROKEN)? != 0 {
        return Err(Malformed("another packet than an OK"));
    }
    // Affected rows and the last insert id.
    fields.length(BROKEN)?;
    fields.length(BROKEN)?;
    let mut bare = ok.get(..ok.len().saturating_sub(fields.0.len())).unwrap_or_default().to_vec();
    let (status, warnings) = (fields.u16(BROKEN)?, fields.u16(BROKEN)?);
    bare.extend_from_slice(&(status & !STATE_CHANGED).to_le_bytes());
    bare.extend_from_slice(&warnings.to_le_bytes());
    Ok(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_and_the_state_go_and_the_rest_stays() {
        let bare = |parts: &[&[u8]]| bare_ok(&parts.concat()).unwrap();
        let head = [0, 0, 0, 2, 0, 3, 0];
        assert_eq!(bare(&[&head]), head);
        assert_eq!(bare(&[&head, b"a text to the end"]), head);
        assert_eq!(bare(&[&head, &[4], b"text"]), head);
        let changed = [0, 0, 0, 2, 0x40, 3, 0];
        assert_eq!(bare(&[&changed, &[4], b"text", &[6, 1, 4, 3, b'a', b'b', b'c']]), head);
        assert_eq!(bare(&[&[0, 0xfc, 1, 1, 5], &head[3..]]), [&[0, 0xfc, 1, 1, 5], &head[3..]].concat(), "counts as they are");
        assert!(bare_ok(&[0xff, 1, 2]).is_err());
        assert!(bare_ok(&[0, 0]).is_err());
        assert!(bare_ok(&head[..6]).is_err());
    }
}
