//! One line: `{"prev":…,"seq":…,"at":…,"boot":…,` and then the entry. `prev` comes first so that a shell can check the
//! chain with `cut` and `sha256sum`. One entry is one line of printable text, whatever a caller put into it.

use crate::entry::Entry;
use allod_proto::{Digest, Timestamp, limits, record::Head};
use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, Formatter};
use std::io;

/// The longest line with its newline, in bytes.
pub const LONGEST: usize = limits::LINE;

/// A line of the record, read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// SHA-256 of the line before with its newline; [`Digest::ZERO`] before line 1.
    pub prev: Digest,
    /// Counts up by one from 1.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Milliseconds since the machine booted, on a clock that is never set.
    pub boot: u64,
    /// What it says.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Why something is not a line, or can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The text is not a line of the record.
    #[error("not a line of the record: {0}")]
    Malformed(String),
    /// The line would be longer than [`LONGEST`].
    #[error("the entry is longer than {LONGEST} bytes")]
    TooLong,
}

impl Line {
    /// The exact bytes of the line with its newline.
    ///
    /// # Errors
    /// [`LineError`] when the entry can't be written as JSON or is too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LineError> {
        let mut bytes = Vec::new();
        write_line(
            &mut bytes,
            &Place { prev: self.prev, seq: self.seq, at: self.at, boot: self.boot },
            &tail(&self.entry)?,
        );
        Ok(bytes)
    }

    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// [`LineError::Malformed`] when it is none, or one whose entry this program does not know.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let link =
            Link::parse(text.as_bytes()).ok_or_else(|| malformed("it does not begin with prev and seq"))?;
        let line: Self = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
        if (line.prev, line.seq) == (link.prev, link.seq) {
            Ok(line)
        } else {
            Err(malformed("it has two places"))
        }
    }
}

fn malformed(problem: &str) -> LineError {
    LineError::Malformed(problem.to_owned())
}

/// Where a line stands.
pub(crate) struct Place {
    pub(crate) prev: Digest,
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) boot: u64,
}

/// Appends the whole line to `bytes` and gives its head.
pub(crate) fn write_line(bytes: &mut Vec<u8>, place: &Place, tail: &[u8]) -> Head {
    let Place { prev, seq, at, boot } = place;
    let start = bytes.len();
    bytes.extend_from_slice(
        format!("{{\"prev\":\"{prev}\",\"seq\":{seq},\"at\":{at},\"boot\":{boot},").as_bytes(),
    );
    bytes.extend_from_slice(tail);
    Head { seq: *seq, hash: Digest::of(bytes.get(start..).unwrap_or_default()) }
}

/// The part of a line that does not depend on its place: the entry without its opening brace, and the newline. Made by
/// the caller's own thread, before the line has a place.
pub(crate) fn tail(entry: &Entry) -> Result<Vec<u8>, LineError> {
    // The place takes less than 200 bytes.
    const MOST: usize = LONGEST - 256;
    let mut bytes = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Plain);
    entry.serialize(&mut serializer).map_err(|error| malformed(&error.to_string()))?;
    if bytes.first() != Some(&b'{') || bytes.len() < 3 {
        return Err(malformed("the entry is no object"));
    }
    bytes.remove(0);
    bytes.push(b'\n');
    if bytes.len() > MOST { Err(LineError::TooLong) } else { Ok(bytes) }
}

/// The first two fields of a line, read from its bytes alone, so that the chain can be checked over entries that this
/// program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) prev: Digest,
    pub(crate) seq: u64,
}

impl Link {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(br#"{"prev":""#)?;
        let (digest, rest) = rest.split_at_checked(64)?;
        let rest = rest.strip_prefix(br#"","seq":"#)?;
        let digits = rest.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = rest.split_at_checked(digits)?;
        if rest.first() != Some(&b',') || number.first() == Some(&b'0') {
            return None;
        }
        let prev = std::str::from_utf8(digest).ok()?.parse().ok()?;
        let seq = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some(Self { prev, seq })
    }

    /// The same, of a line that is also one JSON object.
    pub(crate) fn of_whole_line(line: &[u8]) -> Option<Self> {
        let link = Self::parse(line)?;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        serde_json::from_slice::<serde::de::IgnoredAny>(text).ok()?;
        Some(link)
    }
}

/// JSON in which no character can move a cursor, end a line, hide or reorder text.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut written = 0;
        for (at, character) in fragment.char_indices().filter(|(_, character)| is_unsafe(*character)) {
            writer.write_all(fragment.get(written..at).unwrap_or_default().as_bytes())?;
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = at + character.len_utf8();
        }
        writer.write_all(fragment.get(written..).unwrap_or_default().as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

/// C0 is escaped by JSON itself. This is the rest: DEL, C1 with NEL, the line and paragraph separators, bidirectional
/// controls, and what has no width (Unicode 16, categories Cc, Zl, Zp and Cf; variation selectors).
fn is_unsafe(character: char) -> bool {
    matches!(character,
        '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests;
