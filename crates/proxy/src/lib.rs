#![doc = include_str!("../README.md")]

mod access_log;
mod answer;
mod body;
mod client;
mod control;
mod ending;
mod forward;
mod front;
pub mod hand_over;
mod headers;
mod instance;
mod listener_uid;
mod pause;
mod pool;
mod predecessors;
pub mod program;
mod proxy_header;
mod routing;
mod run;
mod settings;
mod shared;
mod statics;
mod table_file;
mod tls;
mod tunnel;
mod worker;

pub use client::{Control, ControlError};
pub use run::{Order, RunError, run};
pub use settings::{Cidr, CidrError, Limits, Settings};
pub use table_file::TableError;
pub use tls::CertificatesError;
