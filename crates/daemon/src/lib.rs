#![doc = include_str!("../README.md")]

pub mod clock;
pub mod flags;
pub mod logging;
pub mod parent;
pub mod shutdown;

pub use clock::Clock;
pub use flags::{BeginError, CommonFlags};
pub use logging::{LogForm, LoggingError};
pub use parent::{ParentError, die_with_parent};
pub use shutdown::{Shutdown, ShutdownTrigger};
