//! The registry of named commands: what its files say, and which call of them may be made. Pure: files are read, and
//! programs run, by the executor.

mod call;
mod difference;
mod lint;
mod params;
mod written;

pub use call::{Choices, NamedCall, NoCall, may_run};
pub use difference::difference;
pub use lint::lint;
pub use params::describe;
pub use written::parse;

use allod_proto::{
    Digest, NamedCommandName,
    messages::named::Runnable,
    named::{Definition, ParamKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Every definition there is. An empty one allows nothing.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    definitions: BTreeMap<NamedCommandName, Arc<Definition>>,
    counter: u64,
    patterns: params::Patterns,
}

impl Registry {
    /// Of these definitions, as the `counter`th.
    ///
    /// # Errors
    /// The names that could be called in two ways: a family's slot would make another command's name.
    pub fn new(definitions: Vec<Definition>, counter: u64) -> Result<Self, Vec<String>> {
        let definitions: BTreeMap<_, _> = definitions
            .into_iter()
            .map(|definition| (definition.name.clone(), Arc::new(definition)))
            .collect();
        let families = definitions.values().filter(|definition| definition.slot.is_some());
        let mut ambiguous = Vec::new();
        for family in families {
            let prefix = format!("{}_", family.name);
            for name in definitions.keys().filter(|name| name.as_str().starts_with(&prefix)) {
                ambiguous.push(format!(
                    "{name} could also be meant as {} with {} at its end: rename one of them",
                    family.name,
                    name.as_str().get(prefix.len()..).unwrap_or_default(),
                ));
            }
        }
        if !ambiguous.is_empty() {
            return Err(ambiguous);
        }
        let params = definitions.values().flat_map(|definition| definition.params.values());
        let patterns = params::Patterns::of(params);
        Ok(Self { definitions, counter, patterns })
    }

    /// Counts up with every change.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// The definitions, by name.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.values().map(|definition| &**definition)
    }

    /// The definition of this name.
    #[must_use]
    pub fn get(&self, name: &NamedCommandName) -> Option<&Definition> {
        self.definitions.get(name).map(|definition| &**definition)
    }

    /// The digest of all of it, whatever the files look like.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let all: Vec<&Definition> = self.definitions().collect();
        Digest::of(serde_json::to_vec(&all).unwrap_or_default())
    }

    /// The root-owned files whose lines are values of some parameter.
    #[must_use]
    pub fn lists(&self) -> BTreeSet<&str> {
        let params = self.definitions().flat_map(|definition| definition.params.values());
        params
            .filter_map(|param| match &param.kind {
                ParamKind::List { file } => Some(file.as_str()),
                ParamKind::Choice { .. } | ParamKind::Integer { .. } | ParamKind::Pattern { .. } => None,
            })
            .collect()
    }

    /// What this caller may run: by the same rule that decides a call.
    #[must_use]
    pub fn runnable(&self, caller: &crate::Caller) -> Vec<Runnable> {
        let may = self.definitions().filter(|definition| may_run(caller, definition));
        may.map(|definition| Runnable {
            name: definition.name.clone(),
            summary: definition.summary.clone(),
            params: definition.params.iter().map(|(name, param)| (name.clone(), describe(param))).collect(),
            slot: definition.slot.clone(),
            approval: definition.approval.is_some(),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
