//! The registry on disk: `commands.d/NAME.toml`, root's own files. What can't be read whole is not taken in; what stood
//! before stands, also over a restart. Each change counts up, is kept as history, and an older folder put back is refused.

mod folder;
mod history;

#[cfg(test)]
pub(crate) use history::HistoryRecord;

use crate::{failure, layout::Layout};
use allod_commands::{
    Registry, Rules,
    registry::{Choices, difference, parse},
};
use allod_proto::{
    Fault, FaultCode, Fingerprint, NamedCommandName, Timestamp,
    messages::named::{CommandHistoryReply, RegistryChange},
    named::{Definition, RegistryState},
};
use allod_store::Format;
use folder::{Folder, Stamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// What stands, as it was taken in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryRecord {
    /// Counts up with every change.
    counter: u64,
    /// When it was taken in.
    since: Timestamp,
    /// The files, by name.
    texts: BTreeMap<NamedCommandName, String>,
    /// Whether all callers are stopped.
    held: bool,
}

impl Format for RegistryRecord {
    const NAME: &'static str = "registry";
    const FORMAT: u32 = 1;
}

/// Who made a change.
#[derive(Debug, Clone)]
pub(super) struct Author {
    /// Their name.
    pub(super) name: String,
    /// Their key.
    pub(super) key: Option<Fingerprint>,
}

impl Author {
    fn on_the_machine() -> Self {
        Self { name: "root on the machine".to_owned(), key: None }
    }
}

/// The registry as it stands.
#[derive(Debug)]
pub(super) struct Store {
    layout: Layout,
    record: RegistryRecord,
    rules: Arc<Rules>,
    /// What the folder looked like when it was last read.
    seen: Option<Stamp>,
    complaints: Vec<String>,
}

/// What a look at the folder brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// For the record: what changed, or what is wrong.
    pub(super) notes: Vec<String>,
}

impl Store {
    /// Opens what stood. The folder is made if it is not there; it is read by [`Store::refresh`].
    ///
    /// # Errors
    /// A sentence, when what stood can't be read.
    pub(super) fn open(layout: Layout) -> Result<Self, String> {
        let record: RegistryRecord =
            allod_store::load(&layout.registry()).map_err(|error| error.to_string())?.unwrap_or_default();
        let (definitions, complaints) = understood(&record.texts);
        let registry = Registry::new(definitions, record.counter).unwrap_or_default();
        let rules = Arc::new(Rules { registry, choices: Choices::default(), held: record.held });
        Ok(Self { layout, record, rules, seen: None, complaints })
    }

    /// What decides calls now.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// Where it came from.
    pub(super) fn state(&self) -> RegistryState {
        RegistryState {
            counter: self.record.counter,
            digest: self.rules.registry.digest(),
            since: self.record.since,
            complaints: self.complaints.clone(),
            held: self.record.held,
            unbounded: None,
        }
    }

    /// Looks whether the files changed, and takes them in if all of them are good.
    pub(super) fn refresh(&mut self, now: Timestamp) -> Taken {
        let folder = Folder(self.layout.commands());
        let stamp = folder.stamp(&self.rules.registry);
        if self.seen.as_ref() == Some(&stamp) {
            return Taken::default();
        }
        self.seen = Some(stamp);
        let complaints = match self.take_in(&folder, now) {
            Ok(taken) => {
                self.complaints.clear();
                return taken;
            }
            Err(complaints) => complaints,
        };
        // Each is told once, however often the folder is looked at.
        let new: Vec<String> =
            complaints.iter().filter(|it| !self.complaints.contains(it)).cloned().collect();
        self.complaints = complaints;
        let kept = self.record.counter;
        Taken { notes: new.into_iter().map(|why| format!("not taken in, {kept} stands: {why}")).collect() }
    }

    fn take_in(&mut self, folder: &Folder, now: Timestamp) -> Result<Taken, Vec<String>> {
        let found = folder.read()?;
        let same = found.texts == self.record.texts;
        // A folder from before there was a counter has none.
        let older = found.counter.is_some_and(|counter| counter < self.record.counter)
            || (found.counter.is_none() && self.record.counter > 0 && !same);
        if older {
            let newest = self.record.counter;
            let counter = found.counter.map_or("missing".to_owned(), |counter| counter.to_string());
            return Err(vec![format!(
                "{} is an older registry: its counter is {counter}, and {newest} was in force; if that is meant, write \
                 {newest} into {}",
                folder.0.display(),
                folder.counter().display(),
            )]);
        }
        let (definitions, mut complaints) = understood(&found.texts);
        let registry = match Registry::new(definitions, self.record.counter) {
            Ok(registry) => registry,
            Err(ambiguous) => {
                complaints.extend(ambiguous);
                Registry::default()
            }
        };
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let choices = folder::choices(&registry)?;
        if same {
            if found.counter != Some(self.record.counter) && self.record.counter > 0 {
                folder.write_counter(self.record.counter).map_err(|fault| vec![fault.message])?;
            }
            self.rules = Arc::new(Rules { registry, choices, held: self.record.held });
            return Ok(Taken::default());
        }
        let changed =
            self.keep(found.texts, &Author::on_the_machine(), now).map_err(|fault| vec![fault.message])?;
        self.install(choices)?;
        Ok(Taken { notes: changed.into_iter().map(|(name, line)| format!("{name}: {line}")).collect() })
    }

    /// The next registry is durable: history first, then what stands, then the counter beside the files.
    fn keep(
        &mut self,
        texts: BTreeMap<NamedCommandName, String>,
        author: &Author,
        now: Timestamp,
    ) -> Result<Vec<(NamedCommandName, String)>, Fault> {
        let counter = self.record.counter.saturating_add(1);
        let mut lines = Vec::new();
        let names: BTreeSet<_> = self.record.texts.keys().chain(texts.keys()).cloned().collect();
        for name in names.iter().filter(|name| self.record.texts.get(*name) != texts.get(*name)) {
            let old = self.rules.registry.get(name);
            let new = texts.get(name).and_then(|text| parse(name, text).ok());
            let changes = difference(old, new.as_ref());
            lines.extend(changes.iter().map(|line| (name.clone(), line.clone())));
            let (at, by, key) = (now, author.name.clone(), author.key.clone());
            let change = RegistryChange { counter, at, by, key, changes, text: texts.get(name).cloned() };
            history::append(&self.layout, name, change)?;
        }
        let record = RegistryRecord { counter, since: now, texts, held: self.record.held };
        self.save(record)?;
        let folder = Folder(self.layout.commands());
        folder.write_counter(counter)?;
        Ok(lines)
    }

    fn save(&mut self, record: RegistryRecord) -> Result<(), Fault> {
        allod_store::save(&self.layout.registry(), &record, 0o600)
            .map_err(|error| failure::of_store("save the registry of commands", &error))?;
        self.record = record;
        Ok(())
    }

    /// What stands decides from now on.
    fn install(&mut self, choices: Choices) -> Result<(), Vec<String>> {
        let (definitions, complaints) = understood(&self.record.texts);
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let registry = Registry::new(definitions, self.record.counter)?;
        self.rules = Arc::new(Rules { registry, choices, held: self.record.held });
        self.seen = Some(Folder(self.layout.commands()).stamp(&self.rules.registry));
        Ok(())
    }

    /// Adds or changes one definition, as an owner asked.
    ///
    /// # Errors
    /// `Invalid` with every complaint, `NotAllowed` for a user that root on the machine did not grant, `Conflict` while
    /// the files are not good.
    pub(super) fn add(
        &mut self,
        name: &NamedCommandName,
        text: &str,
        author: &Author,
        now: Timestamp,
    ) -> Result<Vec<String>, Fault> {
        let definition = parse(name, text).map_err(|wrong| {
            let lines: Vec<String> = wrong.iter().map(|it| it.about(&format!("{name}.toml"))).collect();
            Fault::new(FaultCode::Invalid, lines.join("\n"))
                .hint("`allod commands lint FILE` says the same before anything is sent")
        })?;
        self.may_run_as(&definition)?;
        self.change(name, Some(text), author, now)
    }

    /// Removes one definition, as an owner asked.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` while the files are not good.
    pub(super) fn remove(
        &mut self,
        name: &NamedCommandName,
        author: &Author,
        now: Timestamp,
    ) -> Result<Vec<String>, Fault> {
        if self.rules.registry.get(name).is_none() {
            return Err(Fault::new(FaultCode::NotFound, format!("there is no command {name}"))
                .hint("`allod commands list`"));
        }
        self.change(name, None, author, now)
    }

    fn change(
        &mut self,
        name: &NamedCommandName,
        text: Option<&str>,
        author: &Author,
        now: Timestamp,
    ) -> Result<Vec<String>, Fault> {
        // What root changed on the machine meanwhile is root's change, and is taken in before.
        self.refresh(now);
        if let Some(why) = self.complaints.first() {
            return Err(Fault::new(FaultCode::Conflict, format!("the registry's files are not good: {why}"))
                .hint("mend them on the machine first"));
        }
        let mut texts = self.record.texts.clone();
        match text {
            Some(text) => drop(texts.insert(name.clone(), text.to_owned())),
            None => drop(texts.remove(name)),
        }
        let (definitions, wrong) = understood(&texts);
        let registry = Registry::new(definitions, self.record.counter);
        let wrong: Vec<String> =
            wrong.into_iter().chain(registry.as_ref().err().cloned().unwrap_or_default()).collect();
        if !wrong.is_empty() {
            return Err(Fault::new(FaultCode::Invalid, wrong.join("\n")));
        }
        let choices = folder::choices(&registry.unwrap_or_default())
            .map_err(|wrong| Fault::new(FaultCode::Invalid, wrong.join("\n")))?;
        let folder = Folder(self.layout.commands());
        // The file first: a power cut before the rest leaves what root might as well have written.
        folder.write(name, text)?;
        let lines = self.keep(texts, author, now)?;
        self.install(choices).map_err(|wrong| Fault::new(FaultCode::Internal, wrong.join("\n")))?;
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    /// A user other than its own is granted by root on the machine, command by command.
    fn may_run_as(&self, definition: &Definition) -> Result<(), Fault> {
        let Some(user) = &definition.run_as else { return Ok(()) };
        let grants = Folder(self.layout.commands()).grants();
        let granted =
            grants.iter().any(|(name, granted)| name == definition.name.as_str() && granted == user);
        if granted || self.rules.registry.get(&definition.name).is_some_and(|now| now == definition) {
            return Ok(());
        }
        let message = format!("running {} as {user} is granted only by root on the machine", definition.name);
        Err(Fault::new(FaultCode::NotAllowed, message).hint(format!(
            "leave run_as out, so that it has a user of its own; or, as root on the server: echo '{} {user}' >> {}",
            definition.name,
            Folder(self.layout.commands()).run_as().display(),
        )))
    }

    /// Stops all callers, or lets them in again.
    ///
    /// # Errors
    /// When that can't be made to last.
    pub(super) fn hold(&mut self, held: bool) -> Result<(), Fault> {
        self.save(RegistryRecord { held, ..self.record.clone() })?;
        self.rules = Arc::new(Rules { held, ..(*self.rules).clone() });
        Ok(())
    }

    /// How a definition came to be what it is.
    ///
    /// # Errors
    /// `NotFound` for a name that never was one.
    pub(super) fn history(&self, name: &NamedCommandName) -> Result<CommandHistoryReply, Fault> {
        let changes = history::load(&self.layout, name)?;
        if changes.is_empty() {
            return Err(Fault::new(FaultCode::NotFound, format!("there never was a command {name} here")));
        }
        Ok(CommandHistoryReply { changes })
    }
}

/// The definitions of these files, and what is wrong with those that are none.
fn understood(texts: &BTreeMap<NamedCommandName, String>) -> (Vec<Definition>, Vec<String>) {
    let mut complaints = Vec::new();
    let mut definitions = Vec::new();
    for (name, text) in texts {
        match parse(name, text) {
            Ok(definition) => definitions.push(definition),
            Err(wrong) => complaints.extend(wrong.iter().map(|it| it.about(&format!("{name}.toml")))),
        }
    }
    (definitions, complaints)
}

/// The name that a file of the registry is for.
fn name_of(file: &Path) -> Result<Option<NamedCommandName>, String> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.strip_suffix(".toml") {
        Some(stem) => NamedCommandName::new(stem).map(Some).map_err(|error| format!("{name}: {error}")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
