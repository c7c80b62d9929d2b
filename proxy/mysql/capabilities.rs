//! The capability flags that both sides of a login show each other (MySQL's source documentation, "Capabilities Flags"; MariaDB's
//! knowledge base, "Connection", "Capabilities"). A flag that both have may change the bytes of the whole session, so that what the client
//! was told and what the upstream was told must be the same.

/// A set of flags. The low 32 bits are the protocol's, the high 32 bits are MariaDB's extended ones.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
        }

        /// For the log: a flag by its name.
        const NAMES: &[(Capabilities, &str)] = &[$((Capabilities::$name, stringify!($name)),)*];
    };
}

flags! {
    /// Also CLIENT_MYSQL: a MariaDB server and a client that speaks MariaDB's extensions have it not.
    LONG_PASSWORD = 0;
    /// Counts found rows instead of changed ones.
    FOUND_ROWS = 1;
    /// Longer column flags.
    LONG_FLAG = 2;
    /// The client's answer names a database.
    CONNECT_WITH_DB = 3;
    /// `database.table.column` is an error.
    NO_SCHEMA = 4;
    /// zlib.
    COMPRESS = 5;
    /// Nothing, since 3.22.
    ODBC = 6;
    /// `LOAD DATA LOCAL`.
    LOCAL_FILES = 7;
    /// Spaces before `(`.
    IGNORE_SPACE = 8;
    /// The protocol of MySQL 4.1.
    PROTOCOL_41 = 9;
    /// `interactive_timeout` instead of `wait_timeout`.
    INTERACTIVE = 10;
    /// TLS.
    SSL = 11;
    /// Of the client alone.
    IGNORE_SIGPIPE = 12;
    /// Status flags.
    TRANSACTIONS = 13;
    /// Was PROTOCOL_41 once.
    RESERVED = 14;
    /// An authentication response has a length.
    SECURE_CONNECTION = 15;
    /// Several statements in one query.
    MULTI_STATEMENTS = 16;
    /// Several results of a query.
    MULTI_RESULTS = 17;
    /// Several results of a prepared statement.
    PS_MULTI_RESULTS = 18;
    /// Authentication plugins.
    PLUGIN_AUTH = 19;
    /// Attributes of the connection.
    CONNECT_ATTRS = 20;
    /// An authentication response may be longer than 255 bytes.
    PLUGIN_AUTH_LENENC = 21;
    /// A login with an expired password succeeds, for its change.
    CAN_HANDLE_EXPIRED_PASSWORDS = 22;
    /// An OK tells changes of the session's state.
    SESSION_TRACK = 23;
    /// An OK instead of an EOF.
    DEPRECATE_EOF = 24;
    /// Result sets may come without the description of their columns.
    OPTIONAL_RESULTSET_METADATA = 25;
    /// Zstandard.
    ZSTD = 26;
    /// Parameters of a query.
    QUERY_ATTRIBUTES = 27;
    /// More than one proof.
    MULTI_FACTOR = 28;
    /// MySQL: reserved for a longer set of flags. MariaDB: progress reports before 10.2; its client still says so.
    CAPABILITY_EXTENSION = 29;
    /// Of the client alone.
    SSL_VERIFY_SERVER_CERT = 30;
    /// Of the client alone.
    REMEMBER_OPTIONS = 31;
    /// MariaDB: progress reports.
    MARIADB_PROGRESS = 32;
    /// MariaDB 10.2: several commands in one packet.
    MARIADB_COM_MULTI = 33;
    /// MariaDB: a prepared statement with many rows of parameters.
    MARIADB_BULK = 34;
    /// MariaDB: columns tell more of their type.
    MARIADB_EXTENDED_TYPES = 35;
    /// MariaDB: the description of columns is not sent twice.
    MARIADB_CACHE_METADATA = 36;
    /// MariaDB: a result for each row of parameters.
    MARIADB_BULK_UNIT_RESULTS = 37;
}

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether all of these are in it.
    #[must_use]
    pub const fn has(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The protocol's 32 bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// MariaDB's extended 32 bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn extended(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Of the two halves.
    #[must_use]
    pub fn from_halves(low: u32, extended: u32) -> Self {
        Self(u64::from(low) | (u64::from(extended) << 32))
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

const fn all(flags: &[Capabilities]) -> Capabilities {
    match flags {
        [] => Capabilities::NONE,
        [first, rest @ ..] => first.or(all(rest)),
    }
}

/// What we speak ourselves at both logins, whatever the other side of the session speaks.
const OURS: Capabilities = all(&[
    Capabilities::PROTOCOL_41,
    Capabilities::SECURE_CONNECTION,
    Capabilities::PLUGIN_AUTH,
    Capabilities::PLUGIN_AUTH_LENENC,
    Capabilities::CONNECT_ATTRS,
    Capabilities::CONNECT_WITH_DB,
]);

/// What passes a relay that reads no more than the first bytes of commands. Not among them: compression, since the headers would be inside
/// it; several proofs, since the server asks for one alone; expired passwords, since the user would be let in to change the account's.
const RELAYED: Capabilities = all(&[
    Capabilities::LONG_PASSWORD,
    Capabilities::FOUND_ROWS,
    Capabilities::LONG_FLAG,
    Capabilities::NO_SCHEMA,
    Capabilities::ODBC,
    Capabilities::IGNORE_SPACE,
    Capabilities::INTERACTIVE,
    Capabilities::IGNORE_SIGPIPE,
    Capabilities::TRANSACTIONS,
    Capabilities::RESERVED,
    Capabilities::MULTI_STATEMENTS,
    Capabilities::MULTI_RESULTS,
    Capabilities::PS_MULTI_RESULTS,
    Capabilities::SESSION_TRACK,
    Capabilities::DEPRECATE_EOF,
    Capabilities::OPTIONAL_RESULTSET_METADATA,
    Capabilities::QUERY_ATTRIBUTES,
    Capabilities::MARIADB_PROGRESS,
    Capabilities::MARIADB_BULK,
    Capabilities::MARIADB_EXTENDED_TYPES,
    Capabilities::MARIADB_CACHE_METADATA,
    Capabilities::MARIADB_BULK_UNIT_RESULTS,
]);

/// What changes the bytes of the session, or what they mean: a client that was promised it cannot do without it.
const PROMISES: Capabilities = all(&[
    Capabilities::FOUND_ROWS,
    Capabilities::PROTOCOL_41,
    Capabilities::MULTI_STATEMENTS,
    Capabilities::MULTI_RESULTS,
    Capabilities::PS_MULTI_RESULTS,
    Capabilities::SESSION_TRACK,
    Capabilities::DEPRECATE_EOF,
    Capabilities::OPTIONAL_RESULTSET_METADATA,
    Capabilities::QUERY_ATTRIBUTES,
    Capabilities::MARIADB_BULK,
    Capabilities::MARIADB_EXTENDED_TYPES,
    Capabilities::MARIADB_CACHE_METADATA,
    Capabilities::MARIADB_BULK_UNIT_RESULTS,
]);

/// What we greet with for a server that greets with `server`: what we can relay of it, and what we speak ourselves.
#[must_use]
pub fn offer(server: Capabilities, tls: bool, local_files: bool) -> Capabilities {
    let mut relayed = RELAYED;
    if local_files {
        relayed = relayed.or(Capabilities::LOCAL_FILES);
    }
    let ours = if tls { OURS.or(Capabilities::SSL) } else { OURS };
    server.and(relayed).or(ours)
}

/// A flag that the client was promised and the upstream has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub &'static str);

/// What our answer to the upstream says, and with it how both sides speak after the login: what the client, the upstream and our offer have
/// in common, and of our own login what the upstream knows. SSL and CONNECT_WITH_DB are never in it: the login knows whether it has them.
///
/// # Errors
/// The client has a flag that changes the bytes of the session, and the upstream has it not.
pub fn upstream_answer(client: Capabilities, offered: Capabilities, server: Capabilities) -> Result<Capabilities, Missing> {
    let asked = client.and(offered);
    let missing = asked.and(PROMISES).without(server);
    if let Some((_, name)) = NAMES.iter().find(|(flag, _)| missing.has(*flag)) {
        return Err(Missing(name));
    }
    let both = asked.and(server).or(client.and(Capabilities::LONG_PASSWORD));
    // Attributes of ours are sent whether the client has some or not: they change nothing after the login.
    let ours = OURS.and(server);
    Ok(both.or(ours).without(Capabilities::SSL.or(Capabilities::CONNECT_WITH_DB)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What MySQL 9.7 and MariaDB 11.8 greet with, and what their clients answer.
    const MYSQL: Capabilities = Capabilities(0xdfff_ffff);
    const MARIADB: Capabilities = Capabilities(0x3d_81ff_fffe);
    const MYSQL_CLIENT: Capabilities = Capabilities(0x19bf_a28d);
    const MARIADB_CLIENT: Capabilities = Capabilities(0x1d_00bf_a28c);

    #[test]
    fn nothing_is_offered_that_cannot_be_relayed() {
        let never = all(&[
            Capabilities::COMPRESS,
            Capabilities::ZSTD,
            Capabilities::MULTI_FACTOR,
            Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS,
            Capabilities::CAPABILITY_EXTENSION,
            Capabilities::SSL_VERIFY_SERVER_CERT,
            Capabilities::REMEMBER_OPTIONS,
            Capabilities::MARIADB_COM_MULTI,
        ]);
        for server in [MYSQL, MARIADB, Capabilities(u64::MAX)] {
            assert_eq!(offer(server, true, true).and(never), Capabilities::NONE, "{server:?}");
            assert!(!offer(server, false, false).has(Capabilities::SSL));
            assert!(!offer(server, true, false).has(Capabilities::LOCAL_FILES));
            assert!(offer(server, true, true).has(Capabilities::LOCAL_FILES.or(Capabilities::SSL)));
            assert_eq!(offer(server, true, true).0 >> 38, 0, "what we do not know we do not offer");
        }
        assert_eq!(offer(Capabilities::NONE, false, true), OURS, "only what we speak ourselves");
        assert!(offer(MYSQL, true, false).has(Capabilities::QUERY_ATTRIBUTES.or(Capabilities::LONG_PASSWORD)));
        assert!(!offer(MARIADB, true, false).has(Capabilities::LONG_PASSWORD), "the mark of a MariaDB");
        assert_eq!(offer(MARIADB, true, false).extended(), 0x3d);
    }

    #[test]
    fn an_upstream_hears_what_the_client_said_and_it_can_do() {
        for (client, server) in [(MYSQL_CLIENT, MYSQL), (MARIADB_CLIENT, MARIADB), (MYSQL_CLIENT, MARIADB), (MARIADB_CLIENT, MYSQL)] {
            let offered = offer(server, true, false);
            let said = upstream_answer(client.and(offered), offered, server).unwrap();
            assert!(said.has(OURS.without(Capabilities::CONNECT_WITH_DB)), "{said:?}");
            let unsaid = Capabilities::SSL.or(Capabilities::CONNECT_WITH_DB).or(Capabilities::LOCAL_FILES).or(Capabilities::COMPRESS);
            assert_eq!(said.and(unsaid), Capabilities::NONE);
            assert_eq!(said.without(OURS).without(client), Capabilities::NONE, "no more than the client asked for");
            assert_eq!(said.without(server.or(Capabilities::LONG_PASSWORD)), Capabilities::NONE);
        }
    }

    #[test]
    fn a_promise_that_the_upstream_cannot_keep_fails_the_login() {
        let offered = offer(MYSQL, true, false);
        let client = MYSQL_CLIENT.or(Capabilities::DEPRECATE_EOF);
        let missing = upstream_answer(client, offered, MYSQL.without(Capabilities::DEPRECATE_EOF));
        assert_eq!(missing, Err(Missing("DEPRECATE_EOF")));
        let bulk = Capabilities::MARIADB_BULK;
        let missing = upstream_answer(MARIADB_CLIENT, offer(MARIADB, true, false), MARIADB.without(bulk));
        assert_eq!(missing, Err(Missing("MARIADB_BULK")));
        assert!(upstream_answer(MYSQL_CLIENT, offered, MYSQL.without(Capabilities::CONNECT_ATTRS)).is_ok(), "only of the login");
        let unoffered = offered.without(Capabilities::QUERY_ATTRIBUTES);
        assert!(upstream_answer(client.or(Capabilities::QUERY_ATTRIBUTES), unoffered, unoffered).is_ok(), "it was promised to nobody");
    }
}
