//! The one binary. Which program it is depends on its first argument.
fn main() {}
