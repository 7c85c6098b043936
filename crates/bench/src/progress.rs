//! What is being done now: one line that changes on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write};

/// Speaks on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
    is_silent: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), is_silent: false }
    }

    /// Says nothing: a failure that a test wants must not look like one of the test.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self { is_terminal: false, is_silent: true }
    }

    fn to(&self) -> Box<dyn Write> {
        if self.is_silent { Box::new(io::sink()) } else { Box::new(io::stderr()) }
    }

    /// A step of many. Elsewhere than on a terminal only the first of each kind (`detail` is 0) is worth a line.
    pub(crate) fn step(&self, what: &str, detail: usize, of: usize) {
        if self.is_terminal {
            let _ = write!(self.to(), "\r\x1b[K{what} ({}/{of})", detail + 1);
        } else if detail == 0 {
            let _ = writeln!(self.to(), "{what} ({of} rounds)");
        }
    }

    /// Something to be seen, such as a peer that is absent.
    pub(crate) fn say(&self, line: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(self.to(), "{clear}{line}");
    }
}
