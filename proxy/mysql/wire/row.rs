//! A row of a result in text.

use super::{Fields, Malformed};

const NULL: u8 = 0xfb;

/// Its first columns; `None`: NULL.
///
/// # Errors
/// There are fewer, or they are longer than the row.
pub fn columns<const N: usize>(payload: &[u8]) -> Result<[Option<&[u8]>; N], Malformed> {
    let mut fields = Fields(payload);
    let mut columns = [None; N];
    for column in &mut columns {
        *column = match fields.0 {
            [NULL, rest @ ..] => {
                fields = Fields(rest);
                None
            }
            _ => Some(fields.counted("a row that ends within its columns")?),
        };
    }
    Ok(columns)
}
