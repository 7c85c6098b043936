//! One command a file, each with its flags and one `run`.

pub mod audit;
pub mod can;
pub mod completions;
pub mod doctor;
pub mod fleet;
pub mod keys;
pub mod ops;
pub mod servers;
