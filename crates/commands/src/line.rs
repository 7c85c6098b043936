//! The request line of the ssh door: one name and `key=value` words. It is total and has no second reading: no quoting, no
//! escape, no shell; what is accepted prints back as the bytes that came.

use allod_proto::{
    Fault, FaultCode, NamedCommandName, ParamName, RunId,
    messages::named::CommandRun,
    named::{PARAMS, REQUEST_LINE, VALUE},
};
use std::{collections::BTreeMap, fmt::Write as _};

/// The longest form of a request in the record, in characters, without the mark of what was cut off.
pub const ESCAPED: usize = 512;

/// First words that ask for something else than a command of their name.
pub const RESERVED: [&str; 4] = [HELP, RUNS, WATCH, DETACH];

const HELP: &str = "help";
const RUNS: &str = "runs";
const WATCH: &str = "watch";
const DETACH: &str = "detach";

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Nothing: a login without a command.
    Nothing,
    /// What they may run.
    Help,
    /// Which runs they have begun.
    Runs,
    /// What one of these prints, and how it ends: `watch run-…`.
    Watch(RunId),
    /// To run this; `detach NAME …` does not wait for its end.
    Run(CommandRun),
}

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineRefused {
    /// Too long.
    #[error("it has {0} bytes, and a request has at most {REQUEST_LINE}")]
    TooLong(usize),
    /// A byte that is in no request.
    #[error(
        "byte {at} is \\x{byte:02x}, and a request is printable ASCII: letters, digits and signs on one line"
    )]
    Byte {
        /// Counted from 1.
        at: usize,
        /// It.
        byte: u8,
    },
    /// A space before, after, or beside another.
    #[error("words stand one space apart, with none before the first and none after the last")]
    Spaces,
    /// The first word.
    #[error("its first word is no command's name: a lower-case letter, then up to 62 of a-z, 0-9, _ and -")]
    Name,
    /// An option, as of a shell's command.
    #[error("word {0} begins with -, and there are no options here: only key=value")]
    Option(usize),
    /// A word without `=`.
    #[error("word {0} is not key=value, and nothing else follows the name")]
    Positional(usize),
    /// What stands before `=`.
    #[error("the key of word {0} is none: a lower-case letter, then up to 30 of a-z, 0-9 and _")]
    Key(usize),
    /// What stands after `=`.
    #[error(
        "the value of word {0} is none: 1 to {VALUE} of A-Z, a-z, 0-9 and ._:,@%/+=-, and - not the first"
    )]
    Value(usize),
    /// A key that stands there twice.
    #[error("the key of word {0} stands there twice")]
    Twice(usize),
    /// What stands after `watch`.
    #[error("watch is followed by a run's id and nothing else: run- and 12 of 0-9 and a-f")]
    Watch,
    /// Nothing after `detach`.
    #[error("detach is followed by a command's name and its parameters")]
    Detach,
    /// More words than a command has parameters.
    #[error("it has more than {PARAMS} parameters")]
    TooMany,
}

impl From<LineRefused> for Fault {
    fn from(refused: LineRefused) -> Self {
        Self::new(FaultCode::Invalid, format!("refused: {refused}"))
            .hint("a request is a name and key=value words; `help` lists what this key may run")
    }
}

/// Reads a request.
///
/// # Errors
/// [`LineRefused`] with the first rule it breaks.
pub fn parse(bytes: &[u8]) -> Result<Line, LineRefused> {
    if bytes.len() > REQUEST_LINE {
        return Err(LineRefused::TooLong(bytes.len()));
    }
    let printable = |byte: &u8| (0x20..0x7f).contains(byte);
    if let Some((at, byte)) = (1..).zip(bytes).find(|(_, byte)| !printable(byte)) {
        return Err(LineRefused::Byte { at, byte: *byte });
    }
    // Printable ASCII is UTF-8; nothing is replaced.
    let text = std::str::from_utf8(bytes).map_err(|error| LineRefused::Byte {
        at: error.valid_up_to().saturating_add(1),
        byte: bytes.get(error.valid_up_to()).copied().unwrap_or_default(),
    })?;
    match text {
        "" => Ok(Line::Nothing),
        HELP => Ok(Line::Help),
        RUNS => Ok(Line::Runs),
        text => words(text),
    }
}

fn words(text: &str) -> Result<Line, LineRefused> {
    if text.split(' ').any(str::is_empty) {
        return Err(LineRefused::Spaces);
    }
    let mut words = (1..).zip(text.split(' ')).peekable();
    match words.peek().copied() {
        Some((_, WATCH)) => {
            let id = text.strip_prefix("watch ").and_then(|id| RunId::new(id).ok());
            id.map(Line::Watch).ok_or(LineRefused::Watch)
        }
        Some((_, DETACH)) => {
            words.next();
            words.peek().ok_or(LineRefused::Detach)?;
            run(words).map(|run| Line::Run(CommandRun { detach: true, ..run }))
        }
        Some(_) | None => run(words).map(Line::Run),
    }
}

/// A name and its parameters: words with their numbers.
fn run<'a>(mut words: impl Iterator<Item = (usize, &'a str)>) -> Result<CommandRun, LineRefused> {
    let (_, name) = words.next().unwrap_or_default();
    NamedCommandName::new(name).map_err(|_| LineRefused::Name)?;
    let mut params = BTreeMap::new();
    for (number, word) in words {
        let (key, value) = param(number, word)?;
        if params.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(LineRefused::Twice(number));
        }
        if params.len() > PARAMS {
            return Err(LineRefused::TooMany);
        }
    }
    Ok(CommandRun { name: name.to_owned(), params, stdin: None, detach: false })
}

fn param(number: usize, word: &str) -> Result<(&str, &str), LineRefused> {
    if word.starts_with('-') {
        return Err(LineRefused::Option(number));
    }
    let (key, value) = word.split_once('=').ok_or(LineRefused::Positional(number))?;
    ParamName::new(key).map_err(|_| LineRefused::Key(number))?;
    if value_is_sound(value) { Ok((key, value)) } else { Err(LineRefused::Value(number)) }
}

/// Whether a text may be a parameter's value, by whichever door it comes: 1 to 256 bytes that mean nothing to a shell, a
/// glob or a terminal, and can't be read as an option.
#[must_use]
pub fn value_is_sound(value: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:,@%/+=-".contains(&byte);
    (1..=VALUE).contains(&value.len()) && !value.starts_with('-') && value.bytes().all(known)
}

/// Any bytes as they stand in the record: printable ASCII as it is, everything else and `\` as `\xNN`. What is longer than
/// [`ESCAPED`] characters is cut, and `\...` says of how many bytes: no request can write that itself.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let plain = (0x20..0x7f).contains(byte) && *byte != b'\\';
        if text.len().saturating_add(if plain { 1 } else { 4 }) > ESCAPED {
            // Writing to a String can't fail.
            let _ = write!(text, "\\... of {} bytes", bytes.len());
            return text;
        }
        if plain {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
