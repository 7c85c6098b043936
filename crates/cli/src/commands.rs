//! One command a file, each with its flags and one `run`.

pub mod app;
pub mod audit;
pub mod can;
pub mod completions;
pub mod deploy;
pub mod doctor;
pub mod each;
pub mod fleet;
pub mod init;
pub mod keys;
pub mod login;
pub mod logout;
pub mod logs;
pub mod ops;
pub mod project;
pub mod releases;
pub mod restart;
pub mod rollback;
pub mod scale;
pub mod secrets;
pub mod servers;
pub mod start;
pub mod status;
pub mod stop;
pub mod target;
