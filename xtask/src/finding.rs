//! What a check has to say about one line of one file. A warning is shown and fails nothing.

use std::fmt;

/// One complaint, with where it is and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path from the root of the project.
    pub(crate) file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) message: String,
    /// Whether it fails the check.
    pub(crate) fails: bool,
}

impl Finding {
    /// A finding that fails the check.
    pub(crate) fn failure(file: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, message: message.into(), fails: true }
    }

    /// A finding that is only shown.
    pub(crate) fn warning(file: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { fails: false, ..Self::failure(file, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.fails { "" } else { "warning: " };
        match self.line {
            0 => write!(f, "{}: {kind}{}", self.file, self.message),
            line => write!(f, "{}:{line}: {kind}{}", self.file, self.message),
        }
    }
}

/// Prints one line for the person at the terminal.
#[expect(clippy::print_stdout, reason = "a chore's output is its terminal's")]
pub(crate) fn tell(line: &str) {
    println!("{line}");
}

/// The line, from 1, on which byte `offset` of `text` lies.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_file_line_and_whether_it_fails() {
        assert_eq!(Finding::failure("a.rs", 3, "too long").to_string(), "a.rs:3: too long");
        assert_eq!(Finding::warning("a.rs", 0, "long").to_string(), "a.rs: warning: long");
    }

    #[test]
    fn an_offset_is_on_the_line_after_the_newlines_before_it() {
        assert_eq!(line_of("a\nb\nc", 0), 1);
        assert_eq!(line_of("a\nb\nc", 2), 2);
        assert_eq!(line_of("a\nb\nc", 400), 3);
    }
}
