//! The bench as a person runs it.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod stopped;
