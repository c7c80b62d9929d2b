//! The log: tracing, on standard error, as text for people or JSON for programs.

use keyward_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts the log. Once per process; a second call changes nothing.
///
/// # Errors
/// A text for the operator: `log.level` is no filter.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = log.level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(filter).map_err(|_| "log.level: a filter such as `info` or `keyward=debug`".to_owned())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Text from peers is escaped where it enters an error (`error::escaped`); no colours: logs are files.
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
    Ok(())
}
