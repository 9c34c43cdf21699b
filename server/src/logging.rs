//! Where messages go.

use std::io::{IsTerminal as _, stderr};

use anyhow::{anyhow, ensure};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

/// Sends messages to standard error, so that standard output is left to what commands print. Coloured on
/// a terminal alone, and not where the environment sets `NO_COLOR` (<https://no-color.org>).
///
/// # Errors
/// When the filter cannot be read, or messages go somewhere already.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let is_coloured = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(&log.filter)?)
        .with_ansi(is_coloured)
        // A message that cannot be written is lost. The library would say so where it could not write, and panic in
        // whatever call it was about.
        .log_internal_errors(false)
        .with_writer(stderr);
    let started = match log.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| anyhow!("messages cannot be written: {error}"))
}

/// Reads a filter. A word alone has to be a level: the library would take a misspelt one for the name of
/// a module, and nothing would be logged.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    for word in text.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ']', '{', '}', ':'])) {
        ensure!(
            !word.is_empty() && word.parse::<LevelFilter>().is_ok(),
            "log.filter: {word:?} is no level; levels are error, warn, info, debug, trace and off, and \
             a module takes one as in \"info,rateguard_engine=debug\""
        );
    }
    EnvFilter::try_new(text).map_err(|error| anyhow!("log.filter {text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_with_levels_are_a_filter() {
        for text in
            ["info", "WARN", "off", "info,rateguard_engine=debug", "warn,rateguard_grpc::server=trace"]
        {
            assert!(filter(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_once_and_by_name() {
        for (text, word) in [("inof", "inof"), ("info,debgu", "debgu"), ("", "\"\""), ("a=inof", "a=inof")] {
            let error = format!("{:#}", filter(text).unwrap_err());
            assert!(error.starts_with("log.filter") && error.contains(word), "{error}");
            assert_eq!(error.matches("log.filter").count(), 1);
        }
    }
}
