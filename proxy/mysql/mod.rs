//! MySQL and MariaDB: one link, one session, one straight-line function (MySQL's internals manual, "Client/Server Protocol"; MariaDB's
//! knowledge base, "Client/Server Protocol").

pub mod capabilities;
mod facts;
pub mod framer;
mod login;
mod opening;
pub mod packet;
mod public_key;
mod settings;
pub mod statement;
mod upstream;
pub mod wire;
