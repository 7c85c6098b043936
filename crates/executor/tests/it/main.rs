//! The executor's instances with real shims and real programs, and releases put together from a hostile folder.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests start real programs and look at them, fail by panicking, and say what they skip"
)]

mod assemble;
mod groups;
mod instances;
mod own_users;
mod power_cut;
mod support;
