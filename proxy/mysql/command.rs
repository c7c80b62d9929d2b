//! The first byte of a command (MySQL's source documentation, "Command Phase"), of those that we know apart.

/// Leaves.
pub(super) const QUIT: u8 = 0x01;
/// Chooses a database.
pub(super) const INIT_DB: u8 = 0x02;
/// A query.
pub(super) const QUERY: u8 = 0x03;
/// Kills a connection.
pub(super) const PROCESS_KILL: u8 = 0x0c;
/// Asks whether the server is there.
pub(super) const PING: u8 = 0x0e;
/// Logs in anew.
pub(super) const CHANGE_USER: u8 = 0x11;
/// Dumps the binary log.
pub(super) const BINLOG_DUMP: u8 = 0x12;
/// Dumps a table, before 5.0.
pub(super) const TABLE_DUMP: u8 = 0x13;
/// Makes a replica known.
pub(super) const REGISTER_SLAVE: u8 = 0x15;
/// Dumps the binary log from a set of transactions on.
pub(super) const BINLOG_DUMP_GTID: u8 = 0x1e;
/// Copies the whole server.
pub(super) const CLONE: u8 = 0x20;
/// The stream between the members of a group.
pub(super) const SUBSCRIBE_GROUP_REPLICATION_STREAM: u8 = 0x21;
/// MariaDB 10.2: commands inside a command.
pub(super) const MULTI: u8 = 0xfe;
