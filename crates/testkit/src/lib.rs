#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what fails in here fails the test that drives it"
)]
#![expect(clippy::print_stderr, reason = "what was skipped is said")]

pub mod certificate;
pub mod client;
pub mod coordinator;
pub mod headscale;
pub mod lab;
pub mod peer;
pub mod stock;
