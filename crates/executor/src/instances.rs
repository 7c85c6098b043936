//! The instances of all apps: each is kept by a shim of its own, and this is what the executor knows of them. It is
//! written down before a shim is started, so that an executor that dies at any moment finds every one of them again.

mod adopt;
mod launch;
mod link;
mod ports;
mod record;
pub(crate) mod remains;
mod starter;
mod table;
mod watcher;

use crate::{failure, groups::Groups, isolation::Isolation, layout::Layout, secrets::OpenSecrets};
use allod_proto::{
    AppRef, Fault, FaultCode, InstanceId, Timestamp, UnitName,
    executor::{Instance, Release},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use table::Table;

#[cfg(test)]
pub(crate) use record::InstanceRecord;

pub use crate::shim::order::Ran;

pub use allod_proto::spec::SEARCH_PATH;

/// What time it is.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What instances need to know of the server.
#[derive(Debug, Clone)]
pub struct InstancesSettings {
    /// Where everything lies.
    pub layout: Layout,
    /// Who is kept apart from whom.
    pub isolation: Isolation,
    /// The program that is the shim.
    pub program: PathBuf,
    /// Its arguments: `shim`.
    pub args: Vec<OsString>,
    /// `PATH` of every app: [`SEARCH_PATH`].
    pub search_path: String,
    /// What bounds and ends them.
    pub groups: Arc<Groups>,
}

/// What is to be started.
#[derive(Debug)]
pub struct StartOrder<'a> {
    /// The unit of the release; a process.
    pub unit: UnitName,
    /// The release, whose files are there.
    pub release: &'a Release,
    /// Where it is to listen: loopback.
    pub address: Option<SocketAddr>,
    /// The values of the secrets the release needs. Each goes where its specification says.
    pub secrets: OpenSecrets,
}

/// What [`Instances::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Instances whose shims answered.
    pub adopted: Vec<InstanceId>,
    /// Instances whose shims live and did not answer in time: they are asked again until they do.
    pub awaited: Vec<InstanceId>,
    /// Instances whose shims did not: what was left of them has been killed.
    pub lost: Vec<InstanceId>,
    /// Files that are no record of an instance, and why.
    pub damaged: Vec<String>,
}

/// All instances of this server. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Instances {
    table: Arc<Table>,
}

impl Instances {
    /// Finds the instances of an earlier life again: those that run are taken over, of those whose shim is gone the
    /// rest is killed. To be called within a runtime.
    ///
    /// # Errors
    /// `Internal` when the folder of records can't be read.
    pub async fn open(settings: InstancesSettings, now: Now) -> Result<(Self, Found), Fault> {
        let table = Table::new(settings, now);
        let found = adopt::adopt(&table).await?;
        clear_groups(&table).await?;
        Ok((Self { table }, found))
    }

    /// Starts an instance. When this answers, its program has been started; whether it is healthy is another question.
    ///
    /// # Errors
    /// `NotFound` when the release has no such process or a secret has no value; `Unhealthy` when the program can't be
    /// started, with the reason; `DiskFull` or `Internal` for failures of the machine.
    pub async fn start(&self, order: StartOrder<'_>) -> Result<Instance, Fault> {
        launch::start(&self.table, order).await
    }

    /// Stops an instance: SIGTERM to its process group, after `grace` SIGKILL to everything it ever started. Answers
    /// when it is gone. One that has exited is as stopped as one can be.
    ///
    /// # Errors
    /// `NotFound` when there is no such instance; `Timeout` when something of it can't be killed.
    pub async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<Instance, Fault> {
        let mut changes = self.table.changes();
        let mut link = self.table.link(id)?;
        if link.is_none() && self.table.get(id).is_some_and(|entry| entry.record.instance.exit.is_none()) {
            // It is just being started, maybe for somebody who is gone: there will be a way to its shim, or none of it.
            self.table.started().await;
            link = self.table.link(id)?;
        }
        if let Some(link) = link {
            // A shim that is gone or does not answer is found out by its watcher, or by the time-out below.
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            let _ = link.send(&crate::shim::order::ToShim::Stop { grace_ms }).await;
        }
        let patience = grace.saturating_add(table::PATIENCE);
        let ended = tokio::time::timeout(patience, self.table.wait_exit(id, &mut changes)).await;
        match ended {
            Ok(instance) => instance,
            Err(_) => {
                self.table.give_up(id).await?;
                self.table.get(id).map(|entry| entry.record.instance).ok_or_else(|| unknown(id))
            }
        }
    }

    /// Stops every instance at once, each with the grace its release gives it, and lets no other start. What can't be
    /// stopped is logged.
    pub async fn stop_all(&self) {
        self.table.start_no_more().await;
        let mut stops = tokio::task::JoinSet::new();
        for (id, grace) in self.table.running() {
            let instances = self.clone();
            stops.spawn(async move {
                if let Err(fault) = instances.stop(&id, grace).await {
                    tracing::warn!(instance = %id, %fault, "an instance could not be stopped");
                }
            });
        }
        while stops.join_next().await.is_some() {}
    }

    /// Ends this life; instances run on. Nothing else ends it for sure: a watcher that is writing an exit down holds on to
    /// what it needs. When this returns, another life may begin over the same folder.
    pub async fn close(&self) {
        self.table.close().await;
    }

    /// Forgets every instance that has exited, so that no shim stays for it. At the end of a life that has no other
    /// after it.
    pub async fn forget_ended(&self) {
        for instance in self.all().into_iter().filter(|instance| instance.exit.is_some()) {
            if let Err(fault) = self.forget(&instance.id).await {
                tracing::warn!(instance = %instance.id, %fault, "an instance could not be forgotten");
            }
        }
    }

    /// Forgets an instance that has exited. Its log stays.
    ///
    /// # Errors
    /// `NotFound` when there is no such instance; `Conflict` when it still runs.
    pub async fn forget(&self, id: &InstanceId) -> Result<(), Fault> {
        let entry = self.table.get(id).ok_or_else(|| unknown(id))?;
        if entry.record.instance.exit.is_none() {
            return Err(Fault::new(FaultCode::Conflict, format!("{id} still runs")));
        }
        self.table.forget(id).await
    }

    /// Runs a command as an instance would, with its environment, to its end: a health check.
    ///
    /// # Errors
    /// `NotFound` when there is no such instance; `Invalid` when the release is not the instance's; as
    /// [`Instances::start`] when the command can't be started.
    pub async fn check(
        &self,
        id: &InstanceId,
        release: &Release,
        argv: &[String],
        secrets: OpenSecrets,
        timeout: Duration,
    ) -> Result<Ran, Fault> {
        let instance = self.table.get(id).ok_or_else(|| unknown(id))?.record.instance;
        if instance.release != release.id || instance.app != release.spec.app {
            return Err(Fault::new(FaultCode::Invalid, format!("{id} is not an instance of {}", release.id)));
        }
        let order = StartOrder { unit: instance.unit, release, address: instance.address, secrets };
        launch::check(&self.table, order, id, argv, timeout).await
    }

    /// Runs a command of a release to its end, as its instances run, with a log of its own: the release command.
    /// Dropped before its end, the command is killed.
    ///
    /// # Errors
    /// As [`Instances::start`] when it can't be started. A command that fails is no error: see [`Ran::ok`].
    pub async fn run_once(
        &self,
        release: &Release,
        argv: &[String],
        secrets: OpenSecrets,
        timeout: Duration,
    ) -> Result<Ran, Fault> {
        launch::run_once(&self.table, release, secrets, argv, timeout).await
    }

    /// Every instance there is, those that have exited and are not forgotten among them. Ports are as
    /// [`Instances::refresh_ports`] last found them.
    #[must_use]
    pub fn all(&self) -> Vec<Instance> {
        self.table.all()
    }

    /// One instance.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<Instance> {
        self.table.get(id).map(|entry| entry.record.instance)
    }

    /// Looks which ports the processes of each running instance listen on. At most once a second for each, and not at
    /// all any more for those that listen where they were told to.
    pub async fn refresh_ports(&self) {
        let asked = self.table.due_for_ports();
        if asked.is_empty() {
            return;
        }
        let found = tokio::task::spawn_blocking(move || ports::listening(&asked)).await;
        self.table.set_ports(found.unwrap_or_default());
    }

    /// Counts up whenever an instance starts, becomes ready or ends.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.table.changes()
    }
}

impl std::fmt::Debug for Instances {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instances").field("known", &self.table.all().len()).finish_non_exhaustive()
    }
}

fn unknown(id: &InstanceId) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no instance {id}"))
}

/// Of the groups that an earlier life left, those of instances that run stay.
async fn clear_groups(table: &Arc<Table>) -> Result<(), Fault> {
    let kept: BTreeSet<String> =
        table.running().iter().map(|(id, _)| crate::groups::Whose::App(id).to_string()).collect();
    let groups = Arc::clone(&table.settings.groups);
    blocking("clear away control groups", move || {
        let left = groups.sweep(|name| kept.contains(name));
        if !left.is_empty() {
            tracing::info!(?left, "control groups of an earlier life are gone, with what was in them");
        }
        Ok(())
    })
    .await
}

/// Runs what waits for the disk or reads all of `/proc`.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(failure::of_io(doing, &std::io::Error::other(error))))
}

/// The apps whose commands run to their end right now, and how many.
type Busy = BTreeMap<AppRef, u32>;
