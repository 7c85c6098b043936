#![doc = include_str!("../README.md")]

mod agent;
mod chunks;
mod commands;
mod door;
mod drive;
mod executor_link;
mod facts;
#[cfg(test)]
mod formats;
mod keys;
#[cfg(test)]
mod lasting;
mod log_reader;
mod observations;
mod operations;
mod ports;
mod program;
mod reconcile;
mod recorder;
mod route_table;
mod runtimes;
mod service;
mod site;
mod sshd_log;
mod tidy;
mod witness;

pub use program::main;
