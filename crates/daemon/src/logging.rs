//! Log lines go to stderr, for people or as one JSON object a line. Which are kept is decided by a filter such as `info`
//! or `warn,allod_agent=debug`.

use std::io::{self, Write};
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
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(|| Lossy(std::io::stderr()));
    let started = match form {
        LogForm::Text => lines.compact().with_ansi(false).finish().try_init(),
        LogForm::Json => lines.json().flatten_event(true).with_current_span(true).finish().try_init(),
    };
    started.map_err(|_| LoggingError::Started)
}

/// A writer whose failures are nobody's concern: a program whose log reader has died must still be able to end in order.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What could not be written counts as written; else the caller complains on the same broken stderr, and panics.
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_line_that_nobody_reads_any_more_does_no_harm() {
        let subscriber = tracing_subscriber::fmt().with_writer(|| Lossy(Broken)).finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!("told to end"));
        assert!(Lossy(Broken).flush().is_ok());
    }

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
