//! The log: tracing, on standard error, as text for people or JSON for programs.

use keyward_config::{Log, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// What is logged: by target and level alone. A filter that may look into spans would be asked each time a session moves a byte.
///
/// # Errors
/// A text for the operator: `log.level` is no filter.
pub fn filter(log: &Log) -> Result<Targets, String> {
    let filter = targets(log.level.as_ref().map_or("info", |level| level.as_str()));
    filter.ok_or_else(|| "levels and `target=level`, with commas between: `info`, `keyward=debug`, `warn,keyward=debug`".to_owned())
}

/// Starts the log. Once per process; a second call changes nothing.
///
/// # Errors
/// [`filter`]'s.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = filter(log).map_err(|text| format!("log.level: {text}"))?;
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

/// Levels and `target=level`, with commas between. What the parser would take for the name of a target that nobody has is refused.
fn targets(text: &str) -> Option<Targets> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let strange = |part: &&str| part.ends_with('=') || part.contains(|letter: char| "[]{}".contains(letter) || letter.is_whitespace());
    if parts.is_empty() || parts.iter().any(strange) { None } else { parts.join(",").parse().ok() }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_made_of_targets_and_levels_and_of_nothing_else() {
        let all = targets("warn, keyward=debug,,tokio=off,").unwrap();
        let would = |target, level| all.would_enable(target, &level);
        assert!(would("other", Level::WARN) && !would("other", Level::INFO));
        assert!(would("keyward::relay", Level::DEBUG) && !would("keyward", Level::TRACE) && !would("tokio", Level::ERROR));
        for wrong in ["", ",", "keyward=", "info,[link]=debug", "keyward[{id}]=debug", "loud=very", "in fo"] {
            assert!(targets(wrong).is_none(), "{wrong}");
        }
    }
}
