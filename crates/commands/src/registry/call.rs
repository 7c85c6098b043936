//! One call of a named command: which definition is meant, whether this caller may, and the exact arguments. There is no
//! shell: a value becomes a part of one argument, and nothing of it is read again.

use super::{
    Registry,
    params::{self, Patterns},
};
use crate::{Caller, Door, line::value_is_sound};
use allod_proto::{
    NamedCommandName, ParamName, Role,
    messages::named::CommandRun,
    named::{Definition, PARAMS, ParamKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The lines of the root-owned files that parameters take their values from.
#[derive(Debug, Clone, Default)]
pub struct Choices(BTreeMap<String, BTreeSet<String>>);

impl Choices {
    /// Of these files; lines that can be no value are left out.
    #[must_use]
    pub fn new(mut files: BTreeMap<String, BTreeSet<String>>) -> Self {
        files.values_mut().for_each(|lines| lines.retain(|line| value_is_sound(line)));
        Self(files)
    }

    pub(super) fn has(&self, file: &str, value: &str) -> bool {
        self.0.get(file).is_some_and(|lines| lines.contains(value))
    }
}

/// A call that this caller may make. Only [`Registry::decide`] makes one.
#[derive(Debug, Clone)]
pub struct NamedCall {
    definition: Arc<Definition>,
    params: BTreeMap<ParamName, String>,
    argv: Vec<String>,
    counter: u64,
}

impl NamedCall {
    /// What was declared.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The parameters as meant: defaults filled in, the slot among them.
    #[must_use]
    pub fn params(&self) -> &BTreeMap<ParamName, String> {
        &self.params
    }

    /// The exact arguments, the program first.
    #[must_use]
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// The counter of the registry that allowed it.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// The parameters as the record has them: secret ones replaced by what `hash` makes of them.
    #[must_use]
    pub fn recorded(&self, hash: impl Fn(&str) -> String) -> BTreeMap<ParamName, String> {
        let is_secret = |name: &ParamName| self.definition.params.get(name).is_some_and(|param| param.secret);
        let recorded = |(name, value): (&ParamName, &String)| {
            (name.clone(), if is_secret(name) { hash(value) } else { value.clone() })
        };
        self.params.iter().map(recorded).collect()
    }
}

/// Why there is no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCall {
    /// There is no such command, or it is not for this caller: the two look alike.
    #[error("there is no command {name:?} that you may run")]
    NotYours {
        /// As asked, cut.
        name: String,
    },
    /// A parameter is missing, unknown or wrong.
    #[error("{name}: {why}")]
    Parameters {
        /// The command.
        name: NamedCommandName,
        /// All that is wrong, as clauses.
        why: String,
    },
    /// All callers are stopped.
    #[error("all callers are stopped by `allod gate panic`")]
    Held,
}

impl Registry {
    /// Decides a call.
    ///
    /// # Errors
    /// [`NoCall`].
    pub fn decide(&self, caller: &Caller, ask: &CommandRun, choices: &Choices) -> Result<NamedCall, NoCall> {
        let not_yours = || NoCall::NotYours { name: ask.name.chars().take(80).collect() };
        let (definition, slot) = self.meant(&ask.name).ok_or_else(not_yours)?;
        if !may_run(caller, definition) {
            return Err(not_yours());
        }
        let params = meant_params(definition, ask, slot, (choices, &self.patterns))
            .map_err(|why| NoCall::Parameters { name: definition.name.clone(), why: why.join("; ") })?;
        let argv = definition.exec.iter().map(|part| fill(part, &params)).collect();
        Ok(NamedCall { definition: Arc::clone(definition), params, argv, counter: self.counter })
    }

    /// The definition that a name means, and the value of its slot where that is at the name's end.
    fn meant<'a>(&self, name: &'a str) -> Option<(&Arc<Definition>, Option<&'a str>)> {
        if let Some(definition) =
            NamedCommandName::new(name).ok().and_then(|name| self.definitions.get(&name))
        {
            return Some((definition, None));
        }
        let families = self.definitions.values().filter(|definition| definition.slot.is_some());
        families
            .filter_map(|family| {
                let value = name.strip_prefix(family.name.as_str())?.strip_prefix('_')?;
                Some((family, Some(value)))
            })
            // Of `pip` and `pip_install`, the longer name is meant.
            .max_by_key(|(family, _)| family.name.as_str().len())
    }
}

/// Whether a definition is for this caller: operators and owners, and whoever it names. A key that is narrowed to some
/// commands runs only those.
#[must_use]
pub fn may_run(caller: &Caller, definition: &Definition) -> bool {
    let name = definition.name.as_str();
    if matches!(caller.door(), Door::Recovery | Door::System) {
        return false;
    }
    let within = |listed: &[String]| listed.iter().any(|one| one == name || one == "command.run");
    if caller.apps().is_some() || !caller.commands().is_none_or(within) {
        return false;
    }
    let is_caller = |listed: &String| {
        // A key without a name is nobody's name.
        (!caller.name().is_empty() && listed == caller.name())
            || caller.key().is_some_and(|key| listed == key.as_str())
    };
    caller.role() >= Role::Operator || definition.callers.iter().any(is_caller)
}

fn meant_params(
    definition: &Definition,
    ask: &CommandRun,
    slot: Option<&str>,
    (choices, patterns): (&Choices, &Patterns),
) -> Result<BTreeMap<ParamName, String>, Vec<String>> {
    if ask.params.len() > PARAMS {
        return Err(vec![format!("more than {PARAMS} parameters")]);
    }
    let mut why = Vec::new();
    let mut given: BTreeMap<&str, &str> =
        ask.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if let (Some(value), Some(name)) = (slot, &definition.slot)
        && given.insert(name.as_str(), value).is_some()
    {
        why.push(format!("{name} is given twice: at the end of the name and as a parameter"));
    }
    let mut meant = BTreeMap::new();
    for (name, param) in &definition.params {
        let value = match (given.remove(name.as_str()), &param.default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) => {
                why.push(format!("{name} is missing: {}", params::describe(param)));
                continue;
            }
        };
        // Only a number may begin with a sign.
        let is_number = matches!(param.kind, ParamKind::Integer { .. }) && value.len() <= 20;
        if !is_number && !value_is_sound(value) {
            why.push(format!("{name} has a character that no value may have, or begins with -"));
        } else if let Err(wanted) = params::check(param, value, choices, patterns) {
            why.push(format!("{name} must be {wanted}"));
        } else {
            meant.insert(name.clone(), value.to_owned());
        }
    }
    for name in given.keys() {
        let name: String = name.chars().take(40).collect();
        why.push(format!("there is no parameter {name:?}"));
    }
    if why.is_empty() { Ok(meant) } else { Err(why) }
}

/// One argument with its placeholders filled in. What a value has in it is not looked at again.
fn fill(part: &str, params: &BTreeMap<ParamName, String>) -> String {
    let mut filled = String::with_capacity(part.len());
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}') {
            Some((name, after)) => {
                let value = ParamName::new(name).ok().and_then(|name| params.get(&name));
                filled.push_str(value.map_or("", String::as_str));
                rest = after;
            }
            None => rest = after,
        }
    }
    filled.push_str(rest);
    filled
}
