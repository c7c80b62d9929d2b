//! The test bed: OpenBao, PostgreSQL and Keyward as real processes, and the clients that talk to them.
//!
//! [`bao`], [`postgres15`] and [`postgres18`] are shared: started at first use, once per run, ended with it. Each test makes its own
//! mount, role, database and Keyward in them. A test that harms a server starts its own: [`Bao::own`], [`Postgres::own`].
//!
//! ```text
//! process.rs       children that end with us, deadlines, scratch folders      http.rs          a request to OpenBao or to the metrics
//! canary.rs        passwords that must never be seen anywhere                 certificates.rs  a CA and a leaf for PostgreSQL
//! bao.rs postgres.rs   the servers        psql.rs   the client        config.rs keyward.rs   the YAML, and the process under test
//! ```

mod bao;
mod canary;
mod certificates;
mod config;
mod http;
mod keyward;
mod postgres;
mod process;
mod psql;

pub use bao::{Bao, Database, Kv, bao};
pub use canary::canary;
pub use config::Config;
pub use http::request;
pub use keyward::Keyward;
pub use postgres::{Login, Method, Postgres, postgres15, postgres18};
pub use process::eventually;
pub use psql::{Dsn, Psql, psql, psql18};
