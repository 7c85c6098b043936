//! Help, usage errors, exit codes.
