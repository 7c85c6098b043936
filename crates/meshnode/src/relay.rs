//! The client of a relay: one connection to one region.
