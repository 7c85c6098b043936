//! Log lines go to stderr, for people or as one JSON object a line. Which are kept is decided by a filter such as `info`
//! or `warn,allod_agent=debug`.

use tracing_subscriber::{EnvFilter, filter::LevelFilter, util::SubscriberInitExt as _};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogForm {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("--log {filter:?} is not a filter such as info or warn,allod_agent=debug")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word alone that is no level; it would be read as the name of a crate and silence all others.
    #[error("--log {filter:?}: {word:?} is not one of off, error, warn, info, debug, trace")]
    Level {
        /// As given.
        filter: String,
        /// The word.
        word: String,
    },
    /// Logging was started before.
    #[error("logging has been started already")]
    Started,
}

/// Reads a filter.
fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let mut words = filter.split(',').map(str::trim);
    if let Some(word) = words.find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        return Err(LoggingError::Level { filter: filter.to_owned(), word: word.to_owned() });
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })
}

/// Sends log lines to stderr from now on.
///
/// # Errors
/// [`LoggingError`] when the filter can't be understood or logging has been started already.
pub fn start(filter: &str, form: LogForm) -> Result<(), LoggingError> {
    let lines = tracing_subscriber::fmt().with_env_filter(parse_filter(filter)?).with_writer(std::io::stderr);
    let started = match form {
        LogForm::Text => lines.compact().with_ansi(false).finish().try_init(),
        LogForm::Json => lines.json().flatten_event(true).with_current_span(true).finish().try_init(),
    };
    started.map_err(|_| LoggingError::Started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_with_its_text() {
        for bad in ["loud", "", "info,allod", "allod=loud", "a=b=c", "[{"] {
            let error = parse_filter(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn levels_and_targets_are_filters() {
        for good in ["info", "warn,allod_agent=debug", "off"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
    }
}
