//! What a client asks for by the names of its login: whom, which connection, as which account, which database. One rule for every
//! protocol.

use keyward_config::Name;

/// A login, taken apart. All of it is unproven text from the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who he says he is.
    pub user: String,
    /// `None`: he named none.
    pub connection: Option<String>,
    /// By what the connection is named, if it is.
    pub named_by: NamedBy,
    /// `None`: he named none.
    pub account: Option<String>,
    /// The upstream's database; `None`: the connection's own.
    pub database: Option<String>,
}

/// By what a login names its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The listener leads to one.
    Listener,
    /// The login name: `user+connection`.
    Login,
    /// The database's name.
    Database,
}

impl Asked {
    /// The connection is named by the listener (`door`); else by the login `user+connection[+account]`; else by the database name. With the
    /// first two, `database` is the upstream's, and absent or equal to a login name it is the connection's own.
    #[must_use]
    pub fn of(door: Option<&Name>, login: &str, database: Option<&str>) -> Self {
        let mut parts = login.splitn(3, '+').map(str::to_owned);
        let user = parts.next().unwrap_or_default();
        let (named, account) = (parts.next(), parts.next());
        let upstreams = database.filter(|name| *name != login && *name != user).map(str::to_owned);
        match (door.map(ToString::to_string), named) {
            // Behind a listener that leads to one connection, no other one is there.
            (Some(door), Some(named)) if door != named => {
                let connection = Some(format!("{named} at {door}"));
                Self { user, connection, named_by: NamedBy::Login, account, database: upstreams }
            }
            (Some(door), _) => Self { user, connection: Some(door), named_by: NamedBy::Listener, account, database: upstreams },
            (None, Some(named)) => Self { user, connection: Some(named), named_by: NamedBy::Login, account, database: upstreams },
            (None, None) => {
                let connection = database.map(str::to_owned);
                Self { user, connection, named_by: NamedBy::Database, account: None, database: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asked(door: Option<&str>, login: &str, database: Option<&str>) -> [Option<String>; 3] {
        let door = door.map(|name| name.parse().unwrap());
        let Asked { user, connection, account, database, .. } = Asked::of(door.as_ref(), login, database);
        assert_eq!(user, "alice");
        [connection, account, database]
    }

    #[test]
    fn the_listener_names_the_connection_else_the_login_else_the_database() {
        let of = |parts: [Option<&str>; 3]| parts.map(|part| part.map(str::to_owned));
        assert_eq!(asked(None, "alice", Some("orders")), of([Some("orders"), None, None]));
        assert_eq!(asked(None, "alice", None), of([None, None, None]));
        assert_eq!(asked(None, "alice+orders", None), of([Some("orders"), None, None]));
        assert_eq!(asked(None, "alice+orders+reader", Some("shop")), of([Some("orders"), Some("reader"), Some("shop")]));
        assert_eq!(asked(None, "alice+orders", Some("alice+orders")), of([Some("orders"), None, None]));
        assert_eq!(asked(Some("orders"), "alice", Some("alice")), of([Some("orders"), None, None]));
        assert_eq!(asked(Some("orders"), "alice", Some("shop")), of([Some("orders"), None, Some("shop")]));
        assert_eq!(asked(Some("orders"), "alice+orders", None), of([Some("orders"), None, None]));
        assert_eq!(asked(Some("orders"), "alice+payroll", None), of([Some("payroll at orders"), None, None]), "no such name");
    }
}
