#![doc = include_str!("../README.md")]

pub mod arguments;
pub mod commands;
pub mod dispatch;
#[cfg(unix)]
pub mod example;
pub mod failure;
#[cfg(test)]
mod formats;
#[cfg(target_os = "linux")]
pub mod gate;
pub mod inventory;
pub mod keys;
pub mod known;
#[cfg(test)]
mod lasting;
#[cfg(target_os = "linux")]
mod local_door;
pub mod mesh;
pub mod output;
#[cfg(target_os = "linux")]
pub mod recover;
pub mod render;
pub mod session;
pub mod settings;
#[cfg(target_os = "linux")]
mod sshd_told;
#[cfg(target_os = "linux")]
pub mod up;

pub use dispatch::main;
