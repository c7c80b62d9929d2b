//! KILL and USE, out of the text of a query (MySQL's manual, "KILL Statement", "USE Statement" and "Comments"; MariaDB's knowledge base,
//! "KILL"). They name what is called otherwise upstream: a connection by its number, a database by the name of our connection. A statement
//! that is not understood here goes on as it is and means upstream what it says, so that a doubt is always `None`.

use super::capabilities::Capabilities;

const COM_QUERY: u8 = 0x03;
/// With QUERY_ATTRIBUTES, what stands before the text of a query without any: no parameters, in one set.
const NO_ATTRIBUTES: &[u8] = &[0, 1];

/// What a KILL statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// `KILL n`, `KILL CONNECTION n`.
    Connection(u64),
    /// `KILL QUERY n`.
    Query(u64),
}

impl Kill {
    /// The number.
    #[must_use]
    pub const fn id(self) -> u64 {
        match self {
            Self::Connection(id) | Self::Query(id) => id,
        }
    }
}

/// The KILL statement of a connection that this text is: `KILL [HARD | SOFT] [CONNECTION | QUERY] n`. `None` for any other, and for an
/// expression, a user, a number of a query.
#[must_use]
pub fn kill(text: &[u8]) -> Option<Kill> {
    let mut text = Text::of(text);
    text.accept(b"KILL").then_some(())?;
    // MariaDB only.
    let _ = text.accept(b"HARD") || text.accept(b"SOFT");
    let kill = if text.accept(b"QUERY") {
        Kill::Query
    } else {
        text.accept(b"CONNECTION");
        Kill::Connection
    };
    let id = text.number()?;
    text.ends().then_some(kill(id))
}

/// The database of the USE statement that this text is, its quotes taken off.
#[must_use]
pub fn used_database(text: &[u8]) -> Option<Vec<u8>> {
    let mut text = Text::of(text);
    text.accept(b"USE").then_some(())?;
    let name = text.name()?;
    text.ends().then_some(name)
}

/// The text of a COM_QUERY, its first byte included in the payload. `None` for another command and for a query with attributes.
#[must_use]
pub fn query_text(payload: &[u8], client: Capabilities) -> Option<&[u8]> {
    let text = payload.strip_prefix(&[COM_QUERY])?;
    if client.has(Capabilities::QUERY_ATTRIBUTES) { text.strip_prefix(NO_ATTRIBUTES) } else { Some(text) }
}

/// The COM_QUERY that makes a server answer with this error, as a client with these capabilities sends it. The servers take 128 letters of
/// the text; its quotes, which are none of ours, go.
#[must_use]
pub fn signal(code: u16, state: &str, text: &str, client: Capabilities) -> Vec<u8> {
    let attributes = if client.has(Capabilities::QUERY_ATTRIBUTES) { NO_ATTRIBUTES } else { &[] };
    let text: String = text.chars().filter(|letter| !matches!(letter, '\'' | '\\')).take(128).collect();
    let statement = format!("SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = '{text}'");
    [&[COM_QUERY], attributes, statement.as_bytes()].concat()
}

/// Whether a COM_QUERY that begins with these bytes may be a KILL or a USE. `false` stays so, whatever comes behind them.
#[must_use]
pub fn may_be_either(start: &[u8], client: Capabilities) -> bool {
    let Some(text) = query_text(start, client) else {
        let begins = [&[COM_QUERY], NO_ATTRIBUTES].concat();
        return client.has(Capabilities::QUERY_ATTRIBUTES) && begins.starts_with(start);
    };
    let mut text = Text::of(text);
    if text.skip() != Skipped::To {
        return true;
    }
    // The first half of what may become a comment, or the end of one.
    if matches!(text.rest, b"-" | b"/" | b"*") {
        return true;
    }
    let word = text.word();
    [b"KILL".as_slice(), b"USE"].into_iter().any(|keyword| match keyword.get(..word.len()) {
        Some(begin) if text.rest.len() == word.len() => begin.eq_ignore_ascii_case(word),
        Some(_) => keyword.eq_ignore_ascii_case(word),
        None => false,
    })
}

/// Where a walk over white space and comments ended.
#[derive(PartialEq, Eq)]
enum Skipped {
    /// Before a byte of something else.
    To,
    /// At the end, outside of any comment or in one that ends with its line.
    End,
    /// In a comment that is not closed.
    Open,
}

/// What is left of a text.
#[derive(Clone, Copy)]
struct Text<'a> {
    rest: &'a [u8],
    /// Inside a comment whose content counts.
    counts: bool,
}

impl<'a> Text<'a> {
    fn of(rest: &'a [u8]) -> Self {
        Self { rest, counts: false }
    }

    /// Leaves white space and comments behind.
    fn skip(&mut self) -> Skipped {
        loop {
            let end = self.rest.iter().position(|byte| !is_space(*byte)).unwrap_or(self.rest.len());
            self.advance(end);
            match self.rest {
                [] => return if self.counts { Skipped::Open } else { Skipped::End },
                [b'*', b'/', ..] if self.counts => {
                    self.counts = false;
                    self.advance(2);
                }
                [b'/', b'*', b'!', version @ ..] | [b'/', b'*', b'M' | b'm', b'!', version @ ..] if !self.counts => {
                    // Of a version as many digits as there can be: 50701, 080013, 100203.
                    let digits = version.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
                    if digits == version.len() {
                        return Skipped::Open;
                    }
                    self.rest = version;
                    self.advance(if digits < 5 { 0 } else { digits });
                    self.counts = true;
                }
                [b'/', b'*', comment @ ..] => match comment.windows(2).position(|pair| pair == b"*/") {
                    Some(end) => {
                        self.rest = comment;
                        self.advance(end.saturating_add(2));
                    }
                    None => return Skipped::Open,
                },
                [b'#', ..] | [b'-', b'-'] => self.skip_line(),
                [b'-', b'-', after, ..] if is_space(*after) || after.is_ascii_control() => self.skip_line(),
                _ => return Skipped::To,
            }
        }
    }

    fn skip_line(&mut self) {
        let end = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
        self.advance(end);
    }

    fn advance(&mut self, by: usize) {
        self.rest = self.rest.get(by..).unwrap_or_default();
    }

    /// The letters, digits, `_`, `$` and bytes beyond ASCII at which it stands.
    fn word(&self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"_$".contains(byte) || !byte.is_ascii()));
        self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default()
    }

    /// Leaves this keyword behind, if it comes next.
    fn accept(&mut self, keyword: &[u8]) -> bool {
        let mut after = *self;
        let found = after.skip() == Skipped::To && after.word().eq_ignore_ascii_case(keyword);
        if found {
            after.advance(keyword.len());
            *self = after;
        }
        found
    }

    fn number(&mut self) -> Option<u64> {
        (self.skip() == Skipped::To).then_some(())?;
        let digits = self.word();
        self.advance(digits.len());
        // Its own `parse` would take a sign.
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse().ok()
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        (self.skip() == Skipped::To).then_some(())?;
        let Some((quote @ (b'`' | b'"'), mut inside)) = self.rest.split_first() else {
            let name = self.word();
            self.advance(name.len());
            return Some(name.to_vec()).filter(|name| !name.is_empty());
        };
        let mut name = Vec::new();
        loop {
            let end = inside.iter().position(|byte| byte == quote)?;
            name.extend_from_slice(inside.get(..end)?);
            inside = inside.get(end.saturating_add(1)..)?;
            // A doubled quote is one that belongs to the name.
            match inside.strip_prefix(&[*quote]) {
                Some(rest) => {
                    name.push(*quote);
                    inside = rest;
                }
                None => break,
            }
        }
        self.rest = inside;
        Some(name).filter(|name| !name.is_empty())
    }

    /// Whether nothing follows but semicolons, as the servers take them off.
    fn ends(mut self) -> bool {
        loop {
            match self.skip() {
                Skipped::End => return true,
                Skipped::To if self.rest.first() == Some(&b';') => self.advance(1),
                _ => return false,
            }
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Capabilities = Capabilities::NONE;

    #[test]
    fn every_spelling_of_a_kill_is_known() {
        let cases = [
            ("KILL 7", Kill::Connection(7)),
            ("kill 2147483648;", Kill::Connection(2_147_483_648)),
            ("KILL QUERY 39", Kill::Query(39)),
            ("Kill Connection 4294967295 ; ", Kill::Connection(4_294_967_295)),
            ("KILL HARD QUERY 5", Kill::Query(5)),
            ("KILL SOFT 5", Kill::Connection(5)),
            ("\t/* a */ KILL\n-- b\r\n QUERY # c\n 5 /* d */ ; -- e", Kill::Query(5)),
            ("KILL/**/QUERY/* */5/**/", Kill::Query(5)),
            ("/*!50000 KILL QUERY */ 5", Kill::Query(5)),
            ("/*!080013 KILL*/ 5", Kill::Connection(5)),
            ("/*M!100203 KILL /* inner */ QUERY 5 */;", Kill::Query(5)),
            ("/*! KILL 5 */", Kill::Connection(5)),
            ("KILL 5 --", Kill::Connection(5)),
            ("/*!*/KILL 5#", Kill::Connection(5)),
        ];
        for (text, wanted) in cases {
            assert_eq!(kill(text.as_bytes()), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_names_no_connection_by_its_number_is_no_kill() {
        for text in [
            "",
            "KILL",
            "KILL QUERY",
            "KILLQUERY 5",
            "KILL QUERY ID 5",
            "KILL USER root",
            "KILL 5.0",
            "KILL 5e1",
            "KILL +5",
            "KILL -5",
            "KILL (5)",
            "KILL 0x5",
            "KILL 5 5",
            "KILL 5, 6",
            "KILL 5; SELECT 1",
            "KILL 99999999999999999999999",
            "KILL CONNECTION_ID()",
            "SELECT 'KILL 5'",
            "KILL 5 --x",
            "KILL 5 /* open",
            "/*!50000 KILL 5",
            "/* KILL 5 */",
            "# KILL 5",
        ] {
            assert_eq!(kill(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_database_of_a_use_is_unquoted() {
        for (text, wanted) in [
            ("USE orders", "orders"),
            ("use `my``orders`;", "my`orders"),
            ("USE/**/\"web-1\" -- x", "web-1"),
            ("/*!50000 USE orders */", "orders"),
            ("USE`orders`", "orders"),
            ("USE bücher", "bücher"),
        ] {
            assert_eq!(used_database(text.as_bytes()).as_deref(), Some(wanted.as_bytes()), "{text}");
        }
        for text in ["USE", "USE a.b", "USE `a", "USE ``", "USE a b", "USEa", "USER a", "USE web-1", "USE 'a'", "USE a; DROP TABLE b"] {
            assert_eq!(used_database(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_text_of_a_query_stands_behind_its_attributes() {
        assert_eq!(query_text(b"\x03KILL 5", PLAIN), Some(b"KILL 5".as_slice()));
        assert_eq!(query_text(b"\x03\0\x01KILL 5", Capabilities::QUERY_ATTRIBUTES), Some(b"KILL 5".as_slice()));
        assert_eq!(query_text(b"\x03\x01\x01\0\x01\xfe\0\x01a\x01bKILL 5", Capabilities::QUERY_ATTRIBUTES), None);
        assert_eq!(query_text(b"\x02KILL 5", PLAIN), None);
        assert_eq!(query_text(b"", PLAIN), None);
    }

    #[test]
    fn an_ordinary_query_is_told_by_its_first_letters() {
        for text in ["S", "SELECT 1", " /* x */ INSERT", "-- x\nKI LL", "KILLS", "USER", "/*!50000 SE", "'", "/x", "-1", "*"] {
            let payload = [b"\x03", text.as_bytes()].concat();
            assert_eq!(may_be_either(&payload, PLAIN), text == "*", "{text}");
        }
        assert!(!may_be_either(b"\x03\x01", Capabilities::QUERY_ATTRIBUTES), "it has attributes");
    }

    /// Pieces of text that mean something here, so that random ones meet each other.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "KILL",
            "kill ",
            "QUERY",
            " QUERY ",
            "CONNECTION ",
            "HARD",
            "USE ",
            "use",
            " ",
            "\n",
            "/*",
            "*/",
            "/*!",
            "/*!50000",
            "/*M!",
            "5",
            "50000",
            " 2147483648",
            "`",
            "``",
            "\"",
            "a",
            "-",
            "--",
            "-- ",
            "#",
            ";",
            "ü",
            "\0",
            "SELECT",
            "/",
            "*",
            "'",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_kill_and_a_use_look_like_one_from_their_first_byte(text in text(), attributes: bool) {
            let (client, first): (_, &[u8]) =
                if attributes { (Capabilities::QUERY_ATTRIBUTES, &[3, 0, 1]) } else { (PLAIN, &[3]) };
            let payload = [first, &text].concat();
            let looked: Vec<bool> = (0..=payload.len()).map(|end| may_be_either(&payload[..end], client)).skip(1).collect();
            prop_assert!(looked.is_sorted_by(|before, after| before >= after), "no stays no: {looked:?}");
            if kill(&text).is_some() || used_database(&text).is_some() {
                prop_assert!(looked.iter().all(|may| *may));
            }
        }

        #[test]
        fn comments_around_a_kill_change_nothing(id: u64, query: bool, gaps in prop::collection::vec(0_usize..6, 4)) {
            let gap = |at: usize| [" ", "\t\n", "/* x */", "-- x\n", "#\n", " /**/ "][gaps[at]];
            let what = if query { "QUERY" } else { "connection" };
            let text = format!("{}KILL{}{what}{}{id}{};", gap(0), gap(1), gap(2), gap(3));
            let wanted = if query { Kill::Query(id) } else { Kill::Connection(id) };
            prop_assert_eq!(kill(text.as_bytes()), Some(wanted), "{}", text);
        }
    }
}
