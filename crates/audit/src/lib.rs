#![doc = include_str!("../README.md")]

mod batch;
pub mod chain;
mod commit;
mod disk;
pub mod entry;
pub mod error;
#[cfg(test)]
mod fixture;
pub mod found;
pub mod head;
mod kept;
pub mod line;
mod lines;
mod open;
mod pen;
mod read;
pub mod record;
mod scan;
pub mod verify;

pub use chain::{Chain, Gap};
pub use entry::{Counted, Door, Ending, Entry, Intent, Note, Outcome, Read, Refusals, Start, Who};
pub use error::RecordError;
pub use found::{Found, What};
pub use line::{Line, LineError};
pub use record::{Clock, Opened, Record, Settings};
pub use verify::{Report, verify};
