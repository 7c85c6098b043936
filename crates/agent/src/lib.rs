#![doc = include_str!("../README.md")]

mod agent;
mod chunks;
mod commands;
mod door;
mod drive;
mod executor_link;
mod facts;
mod keys;
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
mod witness;

pub use program::main;
