#![doc = include_str!("../README.md")]

pub mod arguments;
pub mod commands;
pub mod dispatch;
#[cfg(unix)]
pub mod example;
pub mod failure;
#[cfg(test)]
mod formats;
pub mod inventory;
pub mod keys;
pub mod known;
#[cfg(test)]
mod lasting;
pub mod mesh;
pub mod output;
#[cfg(target_os = "linux")]
pub mod recover;
pub mod render;
pub mod session;
pub mod settings;
#[cfg(target_os = "linux")]
pub mod up;

pub use dispatch::main;
