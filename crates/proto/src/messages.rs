//! What each command asks and what it answers. Requests refuse unknown fields; replies ignore them.

pub mod app;
pub mod audit;
pub mod keys;
pub mod named;
pub mod ops;
pub mod secrets;
pub mod server;
