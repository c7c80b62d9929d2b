//! The first byte of a command (MySQL's source documentation, "Command Phase"), of those that we know apart.

/// Leaves.
pub const QUIT: u8 = 0x01;
/// Chooses a database.
pub const INIT_DB: u8 = 0x02;
/// A query.
pub const QUERY: u8 = 0x03;
/// Kills a connection.
pub const PROCESS_KILL: u8 = 0x0c;
/// Asks whether the server is there.
pub const PING: u8 = 0x0e;
/// Logs in anew.
pub const CHANGE_USER: u8 = 0x11;
/// Dumps the binary log.
pub const BINLOG_DUMP: u8 = 0x12;
/// Dumps a table, before 5.0.
pub const TABLE_DUMP: u8 = 0x13;
/// Makes a replica known.
pub const REGISTER_SLAVE: u8 = 0x15;
/// Dumps the binary log from a set of transactions on.
pub const BINLOG_DUMP_GTID: u8 = 0x1e;
/// Copies the whole server.
pub const CLONE: u8 = 0x20;
/// The stream between the members of a group.
pub const SUBSCRIBE_GROUP_REPLICATION_STREAM: u8 = 0x21;
/// MariaDB 10.2: commands inside a command.
pub const MULTI: u8 = 0xfe;
