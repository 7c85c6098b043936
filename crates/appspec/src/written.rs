//! The file as written: every key there may be, each value with its place, nothing resolved yet.

use crate::{
    complaint::{At, Complaint, Complaints, Spot},
    reader::{Keys, List, Reader, expected},
};
use allod_proto::EnvName;
use std::collections::{BTreeMap, BTreeSet};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A file without complaint, in the form it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub(crate) name: Option<At<String>>,
    pub(crate) base: Layer,
    pub(crate) environments: BTreeMap<EnvName, Layer>,
}

/// What the file says at its top, or in one `[env.X]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) servers: Option<List>,
    pub(crate) build: Option<List>,
    pub(crate) before_deploy: Option<List>,
    pub(crate) after_deploy: Option<List>,
    pub(crate) hook_timeout: Option<At<String>>,
    pub(crate) folder: Option<At<String>>,
    pub(crate) ignore: Option<List>,
    pub(crate) keep_releases: Option<At<u32>>,
    pub(crate) release: Option<List>,
    pub(crate) on_failure: Option<At<String>>,
    pub(crate) batch: Option<At<u32>>,
    pub(crate) vars: BTreeMap<String, At<String>>,
    pub(crate) secrets: BTreeMap<String, At<String>>,
    pub(crate) units: BTreeMap<String, UnitLayer>,
    pub(crate) broken: BTreeSet<String>,
}

/// What one layer says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitLayer {
    pub(crate) spot: Spot,
    pub(crate) kind: Option<At<String>>,
    pub(crate) start: Option<List>,
    pub(crate) runtime: Option<At<String>>,
    pub(crate) instances: Option<At<u32>>,
    pub(crate) routes: Option<List>,
    pub(crate) strip_prefix: Option<At<bool>>,
    pub(crate) health: Option<At<HealthWritten>>,
    pub(crate) health_timeout: Option<At<String>>,
    pub(crate) drain: Option<At<String>>,
    pub(crate) stop_grace: Option<At<String>>,
    pub(crate) max_body: Option<At<String>>,
    pub(crate) response_timeout: Option<At<String>>,
    pub(crate) idle_timeout: Option<At<String>>,
    pub(crate) memory: Option<At<String>>,
    pub(crate) open_files: Option<At<u32>>,
    pub(crate) root: Option<At<String>>,
    pub(crate) fallback: Option<At<String>>,
    pub(crate) broken: BTreeSet<String>,
}

/// `health` as written: a path alone is short for `{ http = path }`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HealthWritten {
    pub(crate) http: Option<At<String>>,
    pub(crate) host: Option<At<String>>,
    pub(crate) tcp: Option<At<bool>>,
    pub(crate) command: Option<List>,
    pub(crate) ready: Option<At<bool>>,
    pub(crate) running: Option<At<String>>,
}

/// Reads `allod.toml` and checks it for every environment it speaks of.
///
/// # Errors
/// Every complaint there is, about form and meaning, in the order of the file.
pub fn parse(text: &str) -> Result<Written, Complaints> {
    let mut reader = Reader::new(text);
    let table = reader.table()?;
    let written = Written::read(&mut reader, table.get_ref());
    let mut complaints = reader.complaints;
    for environment in written.environments() {
        written.judge(&environment, &mut complaints);
    }
    Complaints::check(complaints)?;
    Ok(written)
}

impl Written {
    /// Every environment the file speaks of; `production` is always one.
    #[must_use]
    pub fn environments(&self) -> Vec<EnvName> {
        let mut all: BTreeSet<EnvName> = self.environments.keys().cloned().collect();
        all.insert(EnvName::default());
        all.into_iter().collect()
    }

    fn read<'t>(reader: &mut Reader<'t>, table: &DeTable<'t>) -> Self {
        let mut keys = Keys::new(reader, table, "");
        let name = keys.string("name");
        let mut base = Layer::take(&mut keys);
        let mut environments = BTreeMap::new();
        for (spot, name, value) in keys.named("env") {
            let Some(name) = parsed(keys.reader(), &spot, EnvName::new(name)) else { continue };
            if let Some(table) = table_at(keys.reader(), &spot, value) {
                let mut keys = Keys::new(keys.reader(), table, &spot.path);
                let mut layer = Layer::take(&mut keys);
                layer.broken = keys.finish();
                environments.insert(name, layer);
            }
        }
        base.broken = keys.finish();
        Self { name, base, environments }
    }
}

fn parsed<T, E: std::fmt::Display>(reader: &mut Reader<'_>, spot: &Spot, value: Result<T, E>) -> Option<T> {
    value.map_err(|error| reader.complaints.push(spot.complain(error.to_string()))).ok()
}

fn table_at<'a, 't>(
    reader: &mut Reader<'_>,
    spot: &Spot,
    value: &'a Spanned<DeValue<'t>>,
) -> Option<&'a DeTable<'t>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        reader.complaints.push(spot.complain(expected("a table", value.get_ref())));
    }
    table
}

impl Layer {
    fn take(keys: &mut Keys<'_, '_>) -> Self {
        let mut layer = Self {
            servers: keys.list("servers"),
            build: keys.command("build"),
            before_deploy: keys.command("before_deploy"),
            after_deploy: keys.command("after_deploy"),
            hook_timeout: keys.string("hook_timeout"),
            folder: keys.string("folder"),
            ignore: keys.list("ignore"),
            keep_releases: keys.number("keep_releases"),
            release: keys.command("release"),
            on_failure: keys.string("on_failure"),
            batch: keys.number("batch"),
            vars: keys.strings("vars").into_iter().collect(),
            secrets: keys.strings("secrets").into_iter().collect(),
            ..Self::default()
        };
        for (spot, name, value) in keys.named("units") {
            if let Some(table) = table_at(keys.reader(), &spot, value) {
                layer.units.insert(name, UnitLayer::read(keys.reader(), spot, table));
            }
        }
        layer
    }
}

impl UnitLayer {
    fn read<'t>(reader: &mut Reader<'t>, spot: Spot, table: &DeTable<'t>) -> Self {
        let mut keys = Keys::new(reader, table, &spot.path);
        let unit = Self {
            kind: keys.string("type"),
            start: keys.command("start"),
            runtime: keys.string("runtime"),
            instances: keys.number("instances"),
            routes: keys.list("routes"),
            strip_prefix: keys.flag("strip_prefix"),
            health: HealthWritten::take(&mut keys),
            health_timeout: keys.string("health_timeout"),
            drain: keys.string("drain"),
            stop_grace: keys.string("stop_grace"),
            max_body: keys.string("max_body"),
            response_timeout: keys.string("response_timeout"),
            idle_timeout: keys.string("idle_timeout"),
            memory: keys.string("memory"),
            open_files: keys.number("open_files"),
            root: keys.string("root"),
            fallback: keys.string("fallback"),
            broken: BTreeSet::new(),
            spot,
        };
        Self { broken: keys.finish(), ..unit }
    }
}

impl HealthWritten {
    fn take(keys: &mut Keys<'_, '_>) -> Option<At<Self>> {
        let (spot, value) = keys.any("health")?;
        if let Some(path) = value.get_ref().as_str() {
            let http = Some(At { spot: spot.clone(), value: path.to_owned() });
            return Some(At { spot, value: Self { http, ..Self::default() } });
        }
        let Some(table) = value.get_ref().as_table() else {
            let complaint: Complaint = spot.complain(expected("a path or a table", value.get_ref()));
            keys.reader().complaints.push(complaint);
            keys.is_broken("health");
            return None;
        };
        let mut inner = Keys::new(keys.reader(), table, &spot.path);
        let value = Self {
            http: inner.string("http"),
            host: inner.string("host"),
            tcp: inner.flag("tcp"),
            command: inner.command("command"),
            ready: inner.flag("ready"),
            running: inner.string("running"),
        };
        if inner.finish().is_empty() {
            return Some(At { spot, value });
        }
        keys.is_broken("health");
        None
    }
}
