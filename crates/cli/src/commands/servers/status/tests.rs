//! The tables of `servers status`.
