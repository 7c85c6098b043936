//! What a check can find wrong with a record, and where.

use allod_proto::record::Head;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line} (number {seq}): {what}")]
pub struct Found {
    /// The file's name in the record's folder; `stream` for lines from the network.
    pub file: String,
    /// The sequence number that should be there.
    pub seq: u64,
    /// The line in the file, from 1; 0 when it is about the whole file.
    pub line: u64,
    /// What is wrong.
    pub what: What,
}

/// What can be wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// It is no line of a record, or an unfinished one where more follows.
    #[error("it is not a line of the record")]
    Malformed,
    /// It names another line before it than the one that is there: one of the two was edited.
    #[error("the line before it is not the one it was written after: one of them was edited")]
    Edited,
    /// Lines are missing before it.
    #[error("line {expected} is not here, this is line {found}")]
    Missing {
        /// The number that should follow.
        expected: u64,
        /// The number that follows.
        found: u64,
    },
    /// A line comes twice or too late.
    #[error("line {found} is here again or too late, after line {expected} was due")]
    Reordered {
        /// The number that should follow.
        expected: u64,
        /// The number that follows.
        found: u64,
    },
    /// The oldest line on disk does not follow from a kept head of what was dropped.
    #[error("the lines before it are gone and no kept head leads to it")]
    Unanchored,
    /// The file does not begin with the line that its name says.
    #[error("the file should begin with line {expected} and begins with line {found}")]
    WrongSegment {
        /// The number in the file's name.
        expected: u64,
        /// The number of its first line.
        found: u64,
    },
    /// The line is not the one that was signed, or seen, under this number.
    #[error("line {} was {} when {source_of} was made, and is another now", head.seq, head.hash)]
    Replaced {
        /// The head that contradicts.
        head: Head,
        /// Where it comes from: a file's name, or `a head seen before`.
        source_of: String,
    },
    /// A head that was signed, or seen, lies beyond the last line.
    #[error("the record ends before line {}, which was there when {source_of} was made", head.seq)]
    Cut {
        /// The head that is gone.
        head: Head,
        /// Where it comes from.
        source_of: String,
    },
    /// A file of signed heads is missing, unreadable, or not signed by the record key.
    #[error("{0}")]
    BadHead(String),
    /// A file of changes is not the one that the record names.
    #[error("the changes in it are not those that the record names")]
    KeptEdited,
    /// A file of changes that the record names is not there, and newer than the oldest that is.
    #[error("the record names these changes, and they are not here")]
    KeptGone,
    /// The disk refuses.
    #[error("can't read it: {0}")]
    Unreadable(String),
}
