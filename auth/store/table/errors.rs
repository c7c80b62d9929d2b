//! What the server's refusals mean (PostgreSQL's manual, Appendix A).

use tokio_postgres::Error;
use tokio_postgres::error::{ErrorPosition, SqlState};

use crate::store::{StoreError, StoreErrorKind};

/// A failure of a question as the rest of the program knows it; `what` says what was asked. The server converts and casts values on their way
/// out, and quotes in its message what it could not: its words count only where they are about our own statement, which has names of the file
/// and no value. Its log has all of them.
pub(super) fn explain(what: &str, error: &Error) -> StoreError {
    match error.as_db_error() {
        Some(refused) => {
            let code = refused.code();
            // Where in the text that we sent. A stored view or function has no place there.
            let ours = matches!(refused.position(), Some(ErrorPosition::Original(_)));
            let why = if ours { refused.message() } else { words(code) };
            StoreError::new(kind_of(code), format!("{what}: {why} ({})", code.code()))
        }
        None => StoreError::new(StoreErrorKind::Unavailable, format!("{what}: {}", causes(error))),
    }
}

/// A failure of a login. No row was read by then: what the server says names logins, databases and hosts. One that failed without a word of
/// the server's broke off, or asked for what we do not have.
pub(super) fn login_failed(error: &Error) -> StoreError {
    let what = "logging in to the table's server";
    if let Some(refused) = error.as_db_error() {
        let code = refused.code();
        return StoreError::new(kind_of(code), format!("{what}: {} ({})", refused.message(), code.code()));
    }
    let broke_off = error.is_closed() || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>());
    let kind = if broke_off { StoreErrorKind::Unavailable } else { StoreErrorKind::LoginFailed };
    StoreError::new(kind, format!("{what}: {}", causes(error)))
}

/// What a code means, for whoever keeps the table.
fn words(code: &SqlState) -> &'static str {
    match code.code() {
        "42501" => "permission denied; the login needs USAGE on the schema and SELECT on the table",
        "57014" => "the server stopped it: it took longer than 2 s, or somebody cancelled it",
        code if code.starts_with("22") => "the value is not what its column, or the view's cast, makes of it",
        code if code.starts_with("53") => "the server has too little memory, disk or connections",
        code if code.starts_with("57") => "the server ends connections, or takes none yet",
        _ => "the server refused it; its log says why",
    }
}

/// By the class of the code, where no single code says more.
fn kind_of(code: &SqlState) -> StoreErrorKind {
    match code.code() {
        "42501" => StoreErrorKind::Denied,
        // No such database, schema, table, column.
        "3D000" | "3F000" | "42P01" | "42703" => StoreErrorKind::NotFound,
        code if code.starts_with("28") => StoreErrorKind::LoginFailed,
        // Types that do not fit, a view that cannot be read.
        code if code.starts_with("42") || code.starts_with("22") => StoreErrorKind::Malformed,
        _ => StoreErrorKind::Unavailable,
    }
}

fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_kinds() {
        use StoreErrorKind::{Denied, LoginFailed, Malformed, NotFound, Unavailable};
        for (code, kind) in [
            ("42501", Denied),
            ("28P01", LoginFailed),
            ("28000", LoginFailed),
            ("3D000", NotFound),
            ("42P01", NotFound),
            ("42703", NotFound),
            ("42883", Malformed),
            ("22P02", Malformed),
            ("53300", Unavailable),
            ("57014", Unavailable),
            ("57P01", Unavailable),
            ("57P03", Unavailable),
            ("XX000", Unavailable),
        ] {
            assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
        }
    }
}
