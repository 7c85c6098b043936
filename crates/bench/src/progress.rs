//! What is being done now: one line that changes on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};

/// Speaks on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    /// A step of many. Elsewhere than on a terminal only the first of each kind (`detail` is 0) is worth a line.
    pub(crate) fn step(&self, what: &str, detail: usize, of: usize) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{what} ({}/{of})", detail + 1);
        } else if detail == 0 {
            let _ = writeln!(std::io::stderr(), "{what} ({of} rounds)");
        }
    }

    /// Something to be seen, such as a peer that is absent.
    pub(crate) fn say(&self, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{clear}{line}");
    }
}
