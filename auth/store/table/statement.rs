//! What the server is asked. Names come from the file and are quoted; the secret's name is a bound parameter.

use super::settings::Settings;
use crate::store::text;

/// PostgreSQL's bound (its manual, "Identifiers and Key Words").
const MAX_NAME: usize = 63;

/// The statements of a store, ready to send.
pub(super) struct Statements {
    /// `$1`: the name. Two columns: the value as text, null if it is too long; its length in bytes, null if there is no value.
    pub(super) read: String,
    /// One row: the server's version; whether we may change the table; whether we are a superuser.
    pub(super) status: String,
}

impl Statements {
    /// # Errors
    /// A name that is none.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let parts: Vec<&str> = settings.table.split('.').collect();
        if parts.len() > 2 {
            return Err("`table` is a name, or schema.name".to_owned());
        }
        let table = parts.iter().map(|part| quoted("table", part)).collect::<Result<Vec<_>, _>>()?.join(".");
        let (key, value) = (quoted("key_column", &settings.key_column)?, quoted("value_column", &settings.value_column)?);
        let max = text::MAX;
        // A second row is asked for to be refused: which of the two is meant, nobody knows.
        let read = format!(
            "SELECT CASE WHEN octet_length({value}::text) <= {max} THEN {value}::text END, octet_length({value}::text) \
             FROM {table} WHERE {key} = $1 LIMIT 2"
        );
        let status = format!(
            "SELECT current_setting('server_version'), has_table_privilege('{table}', 'INSERT, UPDATE, DELETE, TRUNCATE'), \
             current_setting('is_superuser') = 'on' FROM (SELECT count({key}) + count({value}) FROM {table} WHERE false) AS readable"
        );
        Ok(Self { read, status })
    }
}

/// A name as SQL takes it exactly as it is. What would need escaping is refused: no such table is meant by anybody.
fn quoted(key: &str, name: &str) -> Result<String, String> {
    let inner = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$'));
    let first = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !inner || !first || name.len() > MAX_NAME {
        return Err(format!("`{key}` is a name of letters, digits and _ - $, at most {MAX_NAME}, and no digit first"));
    }
    Ok(format!("\"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_none_gets_out_of_its_quotes() {
        assert_eq!(quoted("table", "Secret_1").unwrap(), "\"Secret_1\"");
        let long = "x".repeat(64);
        for bad in ["", "a\"b", "a;b", "a b", "1a", "a'b", "a\0", "é", &long] {
            let error = quoted("table", bad).unwrap_err();
            assert!(error.starts_with("`table` is a name"), "{error}");
        }
    }
}
