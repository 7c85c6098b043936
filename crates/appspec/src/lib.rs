#![doc = include_str!("../README.md")]

pub mod complaint;
mod document;
mod health;
pub mod measure;
pub mod reader;
mod resolve;
mod unit;
mod written;

pub use complaint::{Complaint, Complaints};
pub use document::{Detected, DetectedUnit, document};
pub use resolve::{Hooks, OnFailure, Resolved};
pub use written::{Written, parse};

/// The file's name in an app's folder.
pub const FILE: &str = "allod.toml";
