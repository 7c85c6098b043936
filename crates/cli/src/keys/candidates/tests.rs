//! The order of keys.
