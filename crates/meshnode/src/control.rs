//! The client of a coordinator: Noise, register, map.
