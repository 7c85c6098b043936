#![doc = include_str!("../README.md")]

pub mod deploy;
pub mod detect;
mod explain;
pub mod health;
pub mod liveness;
pub mod manifest_check;
pub mod pack;
pub mod plan;
pub mod probe;
pub mod reconcile;
pub mod rollout;
pub mod routes;
pub mod scale;
pub mod seal;
pub mod site;
mod spec_check;
pub mod stop;
mod work;

pub use deploy::{RolloutPlan, Served, roll_out};
pub use detect::detect;
pub use manifest_check::check;
pub use pack::{PackError, Packed, pack};
pub use scale::{ScalePlan, scale};
pub use site::Site;
pub use spec_check::check_spec;
pub use stop::{StopPlan, stop};

#[cfg(test)]
mod fake;
