//! `allod scale`: this many copies of a unit, on each server of the app. It stays through deploys.

use super::{each, target::Which};
use crate::{failure::Failure, session::Session};
use allod_proto::{UnitName, limits, messages::app::AppScale};
use clap::Args;
use std::{collections::BTreeSet, str::FromStr};

/// `allod scale`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod scale web=3\n  allod scale web=2 worker=1 --app blog/staging")]
pub struct Scale {
    /// A unit and how many copies of it each server runs
    #[arg(value_name = "UNIT=N", required = true)]
    units: Vec<Wanted>,
    #[command(flatten)]
    which: Which,
}

/// `web=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    unit: UnitName,
    instances: u32,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (unit, count) = text.split_once('=').ok_or("write UNIT=N, as web=3")?;
        let unit = unit.parse().map_err(|error: allod_proto::NameError| error.to_string())?;
        let instances = count.parse().ok().filter(|count| *count <= limits::INSTANCES);
        let instances =
            instances.ok_or_else(|| format!("{count:?} is not a number from 0 to {}", limits::INSTANCES))?;
        Ok(Self { unit, instances })
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well on a server.
pub async fn run(session: &Session, scale: Scale) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = scale.units.iter().find(|wanted| !seen.insert(&wanted.unit)) {
        return Err(Failure::usage(format!("{} is there twice", twice.unit)));
    }
    let target = scale.which.target(session)?;
    let done = each::change(session, &target.servers, |_| {
        let calls = scale.units.iter().map(|wanted| AppScale {
            app: target.app.clone(),
            unit: wanted.unit.clone(),
            instances: wanted.instances,
        });
        calls.collect()
    })
    .await?;
    each::conclude(session, &target, &done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_unit_and_a_number_is_refused() {
        for bad in ["web", "web=", "=3", "web=-1", "web=65", "Web=1", "web=1=2", "web= 1"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_unit_and_a_number_are_read() {
        let wanted: Wanted = "worker=0".parse().unwrap();
        assert_eq!((wanted.unit.as_str(), wanted.instances), ("worker", 0));
        assert_eq!("web=64".parse::<Wanted>().unwrap().instances, 64);
    }
}
