//! mysql_async as a client, with rustls: verified TLS, or none.

use mysql_async::{OptsBuilder, SslOpts};

use super::mysql_client::MysqlDsn;

/// How mysql_async reaches what the DSN says.
pub fn mysql_options(dsn: &MysqlDsn) -> OptsBuilder {
    let place = dsn.place();
    // It would look for a socket by itself.
    let options = OptsBuilder::default().user(Some(place.user)).pass(Some(place.password)).db_name(place.database).prefer_socket(false);
    let options = match place.socket {
        Some(path) => options.socket(Some(path.display().to_string())),
        None => options.ip_or_hostname(place.host).tcp_port(place.port),
    };
    let verified = |ca: std::path::PathBuf| SslOpts::default().with_root_certs(vec![ca.into()]).with_disable_built_in_roots(true);
    options.max_allowed_packet(Some(64 << 20)).ssl_opts(place.ca.map(verified))
}
