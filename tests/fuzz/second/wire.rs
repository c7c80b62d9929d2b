//! Bytes of SSH read a second time (RFC 4251 section 5): by the letters of a table and not by the code of a parser, so that the two can hardly
//! err in the same way.

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `boolean` (0 or 1), `uint32` or `uint64`.
    Number(u64),
    /// `string`, or all that is left.
    Bytes(&'a [u8]),
}

/// The values of these letters at the beginning of `bytes`, and how many bytes they take: `b` a boolean, `u` a uint32, `l` a uint64, `s` a
/// string, `*` all that is left. `None`: there are fewer.
pub fn begin<'a>(letters: &str, bytes: &'a [u8]) -> Option<(Vec<Value<'a>>, usize)> {
    let (mut values, mut at) = (Vec::new(), 0);
    for letter in letters.bytes() {
        let number = |width: usize| Some(bytes.get(at..at + width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let (value, length) = match letter {
            b'b' => (Value::Number(number(1)?.min(1)), 1),
            b'u' => (Value::Number(number(4)?), 4),
            b'l' => (Value::Number(number(8)?), 8),
            b's' => {
                let end = 4 + usize::try_from(number(4)?).unwrap();
                (Value::Bytes(bytes.get(at + 4..at + end)?), end)
            }
            b'*' => (Value::Bytes(&bytes[at..]), bytes.len() - at),
            letter => panic!("no such letter: {letter}"),
        };
        values.push(value);
        at += length;
    }
    Some((values, at))
}

/// The same where nothing may come behind them.
pub fn whole<'a>(letters: &str, bytes: &'a [u8]) -> Option<Vec<Value<'a>>> {
    begin(letters, bytes).filter(|(_, length)| *length == bytes.len()).map(|(values, _)| values)
}
