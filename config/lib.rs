//! The YAML file of Keyward: a tree that knows its lines, the sections that every protocol and every store share, and
//! every problem with its line.
//!
//! This crate sees nobody: it never learns the word PostgreSQL. A protocol or a store brings its own settings as a
//! [`Section`] in its row of [`Kinds`]; they are read from the same mapping as the generic keys beside them.
//!
//! ```text
//! text ── node.rs ──▶ Node (spans, duplicates)        problem.rs  Problems: all of them, each file:line:column
//! Node ── read.rs ──▶ any serde type + unknown keys   schema.rs   the JSON Schema of the whole file
//! entry.rs: one mapping, several types (generic keys, kind's keys)     dangling.rs  names that lead nowhere
//! load.rs: load() ──▶ Config: listener.rs connection.rs host.rs store.rs user.rs access.rs limits.rs audit.rs …
//! ```

mod access;
mod address;
mod audit;
mod by_key;
mod connection;
mod dangling;
mod entry;
mod environment;
mod failure;
mod host;
mod json;
mod kind;
mod limits;
mod listener;
mod load;
#[cfg(test)]
mod load_tests;
mod name;
mod node;
mod problem;
mod protected;
mod quantity;
mod read;
mod reason;
mod schema;
mod scope;
mod stamp;
mod store;
mod suggest;
mod template;
mod text_file;
mod upstream_tls;
mod user;

pub use access::{Access, Pattern};
pub use address::{ListenAddress, UpstreamAddress};
pub use audit::{Audit, Log, LogFormat, OnFailure};
pub use by_key::{ByKey, Keys, by_key};
pub use connection::{Account, Connection, ConnectionLimits, CredentialField, LeaseSharing, Place};
pub use environment::{Declared, FromEnvironment, Given, Origin, Taken, Variables};
pub use host::Host;
pub use kind::{Assets, Kinds, ProtocolSettings, Section, Settings, StoreSettings};
pub use limits::Limits;
pub use listener::{Listener, ServerTls};
pub use load::{Config, Http, Loaded, Reload, load, load_in, parse, parse_in};
pub use name::Name;
pub use node::{Node, Span};
pub use problem::{Problem, Problems, Severity};
pub use protected::{Protected, SecretInput};
pub use quantity::{Bytes, Period};
pub use read::Spanned;
pub use reason::Reason;
pub use schema::schema;
pub use scope::FilePath;
pub use stamp::Stamp;
pub use store::Store;
pub use template::{Found, Template};
pub use text_file::read_file;
pub use upstream_tls::{TlsInput, TlsMode, UpstreamTls};
pub use user::User;
