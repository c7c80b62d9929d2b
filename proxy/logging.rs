//! The log: tracing, on standard error, as text for people or JSON for programs.

use keyward_config::{Log, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// Starts the log. Once per process; a second call changes nothing.
///
/// # Errors
/// A text for the operator: `log.level` is no filter.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = log.level.as_deref().unwrap_or("info");
    // By target and level alone: a filter that may look into spans would be asked each time a session moves a byte.
    let filter: Targets = filter.parse().map_err(|_| "log.level: a filter such as `info` or `keyward=debug`".to_owned())?;
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Text from peers is escaped where it enters an error (`error::escaped`); no colours: logs are files.
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let started = registry().with(layer).with(filter).try_init();
    drop(started);
    Ok(())
}
