//! Every driver against one contract, and each against what can go wrong with it alone.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests run real programs and look at them, fail by panicking, and say what they skip"
)]

mod contract;
mod coordination;
mod embedded;
mod following;
mod hostile;
mod local_api;
mod real;
mod spaces;
