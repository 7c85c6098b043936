#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what fails in here fails the test that drives it"
)]

pub mod client;
