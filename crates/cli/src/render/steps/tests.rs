//! Operations as text.
