//! How things look: tables, colours, times, an operation as it goes on. Pure text; printing is the output's.

pub mod operation;
pub mod steps;
pub mod style;
pub mod table;
pub mod time;

pub use allod_proto::shown as text;
pub use operation::{Ended, follow};
pub use style::Style;
pub use table::Table;
pub use text::safe;
