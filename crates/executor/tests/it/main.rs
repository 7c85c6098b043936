//! The executor's instances with real shims and real programs, and releases put together from a hostile folder.
#![allow(clippy::disallowed_methods, reason = "tests start real programs and look at them")]

mod assemble;
mod instances;
mod own_users;
mod support;
