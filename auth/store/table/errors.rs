//! What the server's refusals mean (PostgreSQL's manual, Appendix A).

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::{StoreError, StoreErrorKind};

/// A failure as the rest of the program knows it; `what` says what was asked. The server's main message is for the operator's log: it names
/// tables, logins and hosts, and no value, since we send none but the secret's name.
pub(super) fn explain(what: &str, error: &Error) -> StoreError {
    match error.as_db_error() {
        Some(refused) => {
            let code = refused.code();
            StoreError::new(kind_of(code), format!("{what}: {} ({})", refused.message(), code.code()))
        }
        None => StoreError::new(StoreErrorKind::Unavailable, format!("{what}: {}", causes(error))),
    }
}

/// A login that failed without a word of the server's: it broke off, or it asked for what we do not have.
pub(super) fn login_failed(error: &Error) -> StoreError {
    let explained = explain("logging in to the table's server", error);
    let broke_off = error.is_closed() || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>());
    if error.as_db_error().is_some() || broke_off { explained } else { StoreError { kind: StoreErrorKind::LoginFailed, ..explained } }
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
