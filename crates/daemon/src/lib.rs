#![doc = include_str!("../README.md")]

pub mod clock;
pub mod descriptors;
pub mod flags;
pub mod inspection;
pub mod logging;
pub mod parent;
pub mod shutdown;

pub use clock::Clock;
pub use descriptors::raise_descriptor_limit;
pub use flags::{BeginError, CommonFlags};
pub use inspection::{close_to_inspection, write_no_core_dumps};
pub use logging::{LogForm, LoggingError};
pub use parent::{ParentError, die_with_parent};
pub use shutdown::{Shutdown, ShutdownTrigger};
