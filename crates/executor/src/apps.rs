//! How each app is wanted: one durable file an app, changed only by what a caller signed.

use crate::layout::Layout;
use allod_proto::{
    AppRef, Fault, FaultCode, OperationId, ReleaseId, SecretName, Timestamp, UnitName,
    executor::{DesiredApp, Goal, OpenOperation, Release},
    messages::app::ReleaseSummary,
};
use allod_store::{Format, Step, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An app's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRecord {
    /// The app.
    pub app: AppRef,
    /// The release that serves.
    pub current: Option<ReleaseId>,
    /// Releases in the order in which they began to serve, oldest first.
    pub served: Vec<Served>,
    /// Every release that can be gone back to.
    pub releases: Vec<Release>,
    /// Copies of each unit, where a caller scaled it.
    pub scale: BTreeMap<UnitName, u32>,
    /// Stopped on purpose.
    pub stopped: bool,
    /// What is in progress, with the sequence number of its intent in the record.
    pub operation: Option<InProgress>,
}

/// When a release began to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Which.
    pub release: ReleaseId,
    /// When.
    pub at: Timestamp,
}

/// An operation in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InProgress {
    /// The operation.
    pub operation: OpenOperation,
    /// Its intent's sequence number.
    pub intent: u64,
    /// What is known of its release command; `None` before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_command: Option<CommandRun>,
}

/// A command that must not run twice, as it is written down before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CommandRun {
    /// It may have begun. Without an end after it, nobody knows what it did.
    Begun {},
    /// It ended.
    Ended {
        /// `exit status 0`, `signal 9`, `timeout`.
        exit: String,
        /// Whether it ended well.
        ok: bool,
        /// The last lines it printed.
        tail: Vec<String>,
    },
}

impl Format for AppRecord {
    const NAME: &'static str = "app";
    const FORMAT: u32 = 1;
}

impl AppRecord {
    fn new(app: AppRef) -> Self {
        Self {
            app,
            current: None,
            served: Vec::new(),
            releases: Vec::new(),
            scale: BTreeMap::new(),
            stopped: false,
            operation: None,
        }
    }

    /// The release of this id.
    #[must_use]
    pub fn release(&self, id: &ReleaseId) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == *id)
    }

    /// The release that serves.
    #[must_use]
    pub fn current(&self) -> Option<&Release> {
        self.release(self.current.as_ref()?)
    }

    /// The release that served before the current one and is still there.
    #[must_use]
    pub fn previous(&self) -> Option<&ReleaseId> {
        let current = self.current.as_ref()?;
        let before = |served: &&Served| served.release != *current && self.release(&served.release).is_some();
        self.served.iter().rev().find(before).map(|served| &served.release)
    }

    /// Adds a release, or leaves it if it is there.
    pub fn keep(&mut self, release: Release) {
        if self.release(&release.id).is_none() {
            self.releases.push(release);
        }
    }

    /// The wanted copies of each unit of a release: what a caller scaled, and what the release says otherwise.
    #[must_use]
    pub fn scale_for(&self, release: &Release) -> BTreeMap<UnitName, u32> {
        release
            .spec
            .processes()
            .map(|(unit, process)| (unit.clone(), self.scale.get(unit).copied().unwrap_or(process.instances)))
            .collect()
    }

    /// What an operation wants becomes what is wanted.
    pub fn promote(&mut self, at: Timestamp) {
        let Some(in_progress) = &mut self.operation else { return };
        if in_progress.operation.promoted {
            return;
        }
        in_progress.operation.promoted = true;
        match in_progress.operation.goal.clone() {
            Goal::Release { release, .. } => {
                self.stopped = false;
                self.served.retain(|served| served.release != release.id);
                self.served.push(Served { release: release.id.clone(), at });
                self.current = Some(release.id.clone());
                self.scale.retain(|unit, _| release.spec.process(unit).is_some());
            }
            Goal::Scale { unit, instances } => {
                self.scale.insert(unit, instances);
            }
            Goal::Stop {} | Goal::Remove {} => self.stopped = true,
        }
    }

    /// Forgets the releases that are beyond what is kept: neither current nor among the newest `keep` that served, nor
    /// what an operation brings.
    pub fn forget_old(&mut self) -> Vec<ReleaseId> {
        let keep = self.current().map_or(0, |release| release.spec.keep_releases);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX).saturating_add(1);
        let mut kept: Vec<ReleaseId> =
            self.served.iter().rev().take(keep).map(|served| served.release.clone()).collect();
        if let Some(InProgress {
            operation: OpenOperation { goal: Goal::Release { release, .. }, .. }, ..
        }) = &self.operation
        {
            kept.push(release.id.clone());
        }
        let gone: Vec<_> =
            self.releases.iter().map(|release| release.id.clone()).filter(|id| !kept.contains(id)).collect();
        self.releases.retain(|release| kept.contains(&release.id));
        self.served.retain(|served| kept.contains(&served.release));
        gone
    }

    /// The app as the agent is told.
    #[must_use]
    pub fn desired(&self, secrets: BTreeMap<SecretName, u64>, uid: Option<u32>) -> DesiredApp {
        DesiredApp {
            app: self.app.clone(),
            current: self.current().cloned(),
            previous: self.previous().cloned(),
            scale: self.scale.clone(),
            stopped: self.stopped,
            operation: self.operation.as_ref().map(|in_progress| in_progress.operation.clone()),
            secrets,
            uid,
        }
    }

    /// Its releases, newest first.
    #[must_use]
    pub fn summaries(&self) -> Vec<ReleaseSummary> {
        let previous = self.previous();
        let mut all: Vec<_> = self
            .releases
            .iter()
            .map(|release| ReleaseSummary {
                id: release.id.clone(),
                version: release.version.clone(),
                made_at: release.made_at,
                by: release.by.clone(),
                served_at: self
                    .served
                    .iter()
                    .find(|served| served.release == release.id)
                    .map(|served| served.at),
                current: self.current.as_ref() == Some(&release.id),
                previous: previous == Some(&release.id),
            })
            .collect();
        all.sort_by_key(|summary| std::cmp::Reverse(summary.served_at.unwrap_or(summary.made_at)));
        all
    }
}

/// All apps. Each change is on disk before it is seen.
#[derive(Debug)]
pub struct Apps {
    layout: Layout,
    apps: BTreeMap<AppRef, AppRecord>,
}

impl Apps {
    /// Reads every app's file.
    ///
    /// # Errors
    /// A file that is torn or of a newer format is refused by name; it is never taken for an app that is not there.
    pub fn load(layout: Layout) -> Result<Self, StoreError> {
        let mut apps = BTreeMap::new();
        for path in files_below(&layout.apps())? {
            if let Some(record) = allod_store::load::<AppRecord>(&path)? {
                apps.insert(record.app.clone(), record);
            }
        }
        Ok(Self { layout, apps })
    }

    /// Every app.
    pub fn all(&self) -> impl Iterator<Item = &AppRecord> {
        self.apps.values()
    }

    /// One app.
    #[must_use]
    pub fn get(&self, app: &AppRef) -> Option<&AppRecord> {
        self.apps.get(app)
    }

    /// One app that must be there.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn known(&self, app: &AppRef) -> Result<&AppRecord, Fault> {
        self.get(app).ok_or_else(|| {
            Fault::new(FaultCode::NotFound, format!("there is no app {app} on this server"))
                .hint("`allod status` lists the apps; `allod deploy` brings one")
        })
    }

    /// Changes an app, on disk first. An app that was not there begins empty.
    ///
    /// # Errors
    /// When the disk refuses; nothing has changed then.
    pub fn change<T>(&mut self, app: &AppRef, change: impl FnOnce(&mut AppRecord) -> T) -> Result<T, Fault> {
        let mut record = self.apps.get(app).cloned().unwrap_or_else(|| AppRecord::new(app.clone()));
        let result = change(&mut record);
        let path = self.layout.app(app);
        if let Some(folder) = path.parent() {
            allod_store::create_folder(folder, 0o700).map_err(store_fault)?;
        }
        allod_store::save(&path, &record, 0o600).map_err(store_fault)?;
        self.apps.insert(app.clone(), record);
        Ok(result)
    }

    /// Forgets an app.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&mut self, app: &AppRef) -> Result<(), Fault> {
        allod_store::remove_file(&self.layout.app(app)).map_err(store_fault)?;
        self.apps.remove(app);
        Ok(())
    }

    /// The app with this operation in progress.
    ///
    /// # Errors
    /// `NotFound` when no operation in progress has the id.
    pub fn with_operation(&self, id: &OperationId) -> Result<(&AppRecord, &InProgress), Fault> {
        self.apps
            .values()
            .find_map(|record| {
                record.operation.as_ref().filter(|open| open.operation.id == *id).map(|open| (record, open))
            })
            .ok_or_else(|| Fault::new(FaultCode::NotFound, format!("no operation {id} is in progress")))
    }
}

/// A store error as a fault: the person sees where, the log sees all.
pub fn store_fault(error: StoreError) -> Fault {
    let code = if error.is_disk_full() { FaultCode::DiskFull } else { FaultCode::Internal };
    tracing::error!(%error, cause = ?std::error::Error::source(&error).map(ToString::to_string), "state could not be written");
    let fault = Fault::new(code, format!("state could not be written: {error}"));
    match code {
        FaultCode::DiskFull => fault.hint("free some space: `allod servers prune`, or remove an app"),
        _ => fault,
    }
}

fn files_below(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder that can't be read is no empty one: its apps would be gone.
        let failed = |source| StoreError::Io { path: folder.clone(), step: Step::Inspect, source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|ext| ext == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
