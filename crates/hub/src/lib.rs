#![doc = include_str!("../README.md")]

pub mod control;
pub mod coordination;
mod deeds;
pub mod http;
pub mod identity;
pub mod judge;
pub mod page;
pub mod probe;
pub mod program;
pub mod record;
pub mod registry;
pub mod report;
mod show;
pub mod status;
