//! What is known of each instance, in memory and on the disk. Records of one instance reach the disk in order, also when
//! whoever asked for a save no longer waits for it.

use super::{
    Busy, InstancesSettings, Now, blocking,
    link::{Link, Reached},
    record::{self, InstanceRecord},
    remains, unknown, watcher,
};
use crate::{
    groups::Group,
    isolation::Isolation,
    shim::order::{Running, ToShim},
};
use allod_proto::{AppRef, Fault, FaultCode, InstanceId, Timestamp, executor::Instance};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{RwLock, RwLockReadGuard, watch},
    task::AbortHandle,
};

/// How much longer than its grace a stop may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often the ports of one instance are looked at.
const PORTS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) record: InstanceRecord,
    link: Option<Arc<Link>>,
    /// The link of an instance that has ended, for the last word.
    farewell: Option<Arc<Link>>,
    watcher: Option<AbortHandle>,
    ports_at: Option<Timestamp>,
}

pub(super) struct Table {
    pub(super) settings: InstancesSettings,
    pub(super) now: Now,
    pub(super) boot: String,
    entries: Mutex<BTreeMap<InstanceId, Entry>>,
    busy: Mutex<Busy>,
    changed: watch::Sender<u64>,
    /// Records of one instance reach the disk in order. Whatever writes holds it to its own end: nothing stops a write
    /// that has begun, least of all that nobody waits for it any more.
    saving: Arc<tokio::sync::Mutex<()>>,
    /// Each watcher holds it for reading, as long as it lives.
    watching: Arc<RwLock<()>>,
    /// Held for reading while something starts, for writing while an app's last processes are cleared away.
    starting: RwLock<()>,
    /// Nothing starts any more.
    ending: AtomicBool,
}

impl Drop for Table {
    fn drop(&mut self) {
        for entry in self.lock().values() {
            if let Some(watcher) = &entry.watcher {
                watcher.abort();
            }
        }
    }
}

impl Table {
    pub(super) fn new(settings: InstancesSettings, now: Now) -> Arc<Self> {
        Arc::new(Self {
            settings,
            now,
            boot: record::boot(),
            entries: Mutex::default(),
            busy: Mutex::default(),
            changed: watch::Sender::new(0),
            saving: Arc::default(),
            watching: Arc::default(),
            starting: RwLock::new(()),
            ending: AtomicBool::new(false),
        })
    }

    /// Waits until whatever is being started has been, or has failed.
    pub(super) async fn started(&self) {
        drop(self.starting.write().await);
    }

    /// From when this answers, nothing starts any more.
    pub(super) async fn start_no_more(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.started().await;
    }

    /// The right to start something; while it is held, nothing is cleared away.
    ///
    /// # Errors
    /// `Unreachable` after [`Table::start_no_more`].
    pub(super) async fn may_start(&self) -> Result<RwLockReadGuard<'_, ()>, Fault> {
        let guard = self.starting.read().await;
        if self.ending.load(Ordering::SeqCst) {
            return Err(Fault::new(FaultCode::Unreachable, "the server is ending, so nothing is started"));
        }
        Ok(guard)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn all(&self) -> Vec<Instance> {
        self.lock().values().map(|entry| entry.record.instance.clone()).collect()
    }

    /// What runs, and the grace each has.
    pub(super) fn running(&self) -> Vec<(InstanceId, Duration)> {
        let entries = self.lock();
        let running = entries.values().filter(|entry| entry.record.instance.exit.is_none());
        running
            .map(|entry| (entry.record.instance.id.clone(), Duration::from_millis(entry.record.grace_ms)))
            .collect()
    }

    pub(super) fn get(&self, id: &InstanceId) -> Option<Entry> {
        self.lock().get(id).cloned()
    }

    /// The way to the shim of a known instance; `None` when it has exited.
    pub(super) fn link(&self, id: &InstanceId) -> Result<Option<Arc<Link>>, Fault> {
        self.lock().get(id).map(|entry| entry.link.clone()).ok_or_else(|| unknown(id))
    }

    /// Takes a record in, without a shim yet.
    pub(super) fn insert(&self, record: InstanceRecord) {
        let id = record.instance.id.clone();
        self.lock().insert(id, Entry { record, link: None, farewell: None, watcher: None, ports_at: None });
    }

    /// Watches an entry's shim from now on: one that answered, or one that lives and has yet to answer.
    pub(super) fn attach(self: &Arc<Self>, id: &InstanceId, reached: Option<Reached>) {
        // Taken only for writing when this life ends, and then nothing is watched any more.
        let Ok(watching) = self.watching.clone().try_read_owned() else { return };
        if let Some(reached) = &reached {
            self.set_link(id, &reached.link);
        }
        let watching = watcher::watch(Arc::downgrade(self), id.clone(), reached, watching);
        let task = tokio::spawn(watching).abort_handle();
        match self.lock().get_mut(id) {
            Some(entry) => entry.watcher = Some(task),
            None => task.abort(),
        }
    }

    pub(super) fn set_link(&self, id: &InstanceId, link: &Arc<Link>) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.link = Some(link.clone());
        }
    }

    /// Ends this life: when this returns, nothing of it says a word to a shim or writes to the disk any more.
    pub(super) async fn close(&self) {
        for entry in self.lock().values() {
            if let Some(watcher) = &entry.watcher {
                watcher.abort();
            }
        }
        let _none_watches = self.watching.write().await;
        let _none_writes = self.saving.lock().await;
    }

    /// Changes a record, on the disk too, and tells. A change that does not reach the disk is still true.
    pub(super) async fn change(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut InstanceRecord) + Send,
    ) -> Result<(), Fault> {
        let in_order = self.saving.clone().lock_owned().await;
        let Some(record) = self.lock().get_mut(id).map(|entry| {
            change(&mut entry.record);
            entry.record.clone()
        }) else {
            return Err(unknown(id));
        };
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        let layout = self.settings.layout.clone();
        blocking("write down an instance", move || {
            let _in_order = in_order;
            record.save(&layout)
        })
        .await
    }

    /// Waits until an instance has exited.
    pub(super) async fn wait_exit(
        &self,
        id: &InstanceId,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<Instance, Fault> {
        loop {
            changes.mark_unchanged();
            let entry = self.get(id).ok_or_else(|| unknown(id))?;
            if entry.record.instance.exit.is_some() {
                return Ok(entry.record.instance);
            }
            if changes.changed().await.is_err() {
                return Err(unknown(id));
            }
        }
    }

    /// An instance has ended: that goes to the disk, and what else its app left behind is cleared away.
    pub(super) async fn end(&self, id: &InstanceId, exit: String, at: Timestamp) -> Result<(), Fault> {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.farewell = entry.link.take();
        }
        let Some(entry) = self.get(id) else { return Ok(()) };
        self.clear_user(&entry.record.instance).await;
        let exit = self.end_group(&entry.record, exit).await;
        self.change(id, |record| {
            record.instance.pid = None;
            record.instance.listens_on.clear();
            record.instance.exit.get_or_insert(exit);
            record.instance.ended_at.get_or_insert(at);
        })
        .await
    }

    /// Whatever is left in an instance's control group is killed, and the group removed. The exit says so if it was killed
    /// for its memory.
    async fn end_group(&self, record: &InstanceRecord, exit: String) -> String {
        if record.boot != self.boot || record.group.is_empty() {
            return exit;
        }
        let folders = record.group.clone();
        let ending = blocking("end a control group", move || Ok(crate::groups::end(&Group::find(&folders))));
        match ending.await.ok().flatten() {
            Some(bound) if exit == "signal 9" => crate::groups::over_memory(bound),
            Some(_) | None => exit,
        }
    }

    /// The shim of an instance is gone: whatever it kept is killed. Nobody can tell any more how it ended.
    pub(super) async fn lose(&self, id: &InstanceId) -> Result<(), Fault> {
        let Some(entry) = self.get(id) else { return Ok(()) };
        if entry.record.instance.exit.is_some() {
            return Ok(());
        }
        let (record, boot) = (entry.record, self.boot.clone());
        let same_boot = record.boot == boot;
        let killed = blocking("kill what a shim left", move || {
            remains::kill(&record, &boot);
            Ok(())
        });
        killed.await?;
        let exit = if same_boot { "shim lost" } else { "the machine was restarted" };
        self.end(id, exit.to_owned(), (self.now)()).await
    }

    /// A shim that does not do what it is told is killed, and what it kept with it.
    pub(super) async fn give_up(&self, id: &InstanceId) -> Result<(), Fault> {
        let entry = self.get(id).ok_or_else(|| unknown(id))?;
        if let Some(watcher) = &entry.watcher {
            watcher.abort();
        }
        let left = entry.record.clone();
        blocking("kill a shim", move || {
            remains::kill_shim(&left);
            Ok(())
        })
        .await?;
        self.lose(id).await
    }

    /// Where an app has a uid to itself and nothing of it is wanted any more, every process of that uid goes: also one
    /// that killed its own shim to get away.
    async fn clear_user(&self, instance: &Instance) {
        let Isolation::OwnUids { base, .. } = self.settings.isolation else { return };
        let Some(uid) = instance.uid.filter(|uid| *uid >= base) else { return };
        let _nothing_starts = self.starting.write().await;
        if self.wants_user(instance) {
            return;
        }
        let clear = blocking("clear away an app's processes", move || {
            remains::kill_user(uid);
            Ok(())
        });
        if let Err(fault) = clear.await {
            tracing::warn!(app = %instance.app, uid, %fault, "processes of an app may be left");
        }
    }

    fn wants_user(&self, ended: &Instance) -> bool {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&ended.app);
        let others = |entry: &Entry| {
            let instance = &entry.record.instance;
            instance.app == ended.app && instance.id != ended.id && instance.exit.is_none()
        };
        busy || self.lock().values().any(others)
    }

    /// While the answer lives, a command of this app runs.
    pub(super) fn busy(self: &Arc<Self>, app: &AppRef) -> BusyGuard {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let count = busy.entry(app.clone()).or_default();
        *count = count.saturating_add(1);
        BusyGuard { table: self.clone(), app: app.clone() }
    }

    /// Removes an entry, from the disk first. Its shim goes before that: without the record nobody would know of it.
    pub(super) async fn forget(&self, id: &InstanceId) -> Result<(), Fault> {
        let in_order = self.saving.clone().lock_owned().await;
        // Whoever waited for the exit may be here before the watcher has said bye, and the shim would stay for nobody.
        if let Some(link) = self.get(id).and_then(|entry| entry.farewell) {
            let _ = link.send(&ToShim::Bye {}).await;
        }
        let (layout, gone) = (self.settings.layout.clone(), id.clone());
        let removing =
            blocking("forget an instance", move || record::remove(&layout, &gone).map(|()| in_order));
        let _in_order = removing.await?;
        let Some(entry) = self.lock().remove(id) else { return Ok(()) };
        if let Some(watcher) = entry.watcher {
            watcher.abort();
        }
        Ok(())
    }

    /// Running instances whose ports are worth a look.
    pub(super) fn due_for_ports(&self) -> Vec<(InstanceId, Running)> {
        let now = (self.now)();
        let mut due = Vec::new();
        for (id, entry) in self.lock().iter_mut() {
            let instance = &entry.record.instance;
            let settled = instance.address.is_some_and(|address| instance.listens_on.contains(&address));
            let recent = entry.ports_at.is_some_and(|at| now.distance(at) < PORTS_EVERY);
            if let (None, Some(running), false, false) =
                (&instance.exit, entry.record.running, settled, recent)
            {
                entry.ports_at = Some(now);
                due.push((id.clone(), running));
            }
        }
        due
    }

    pub(super) fn set_ports(&self, found: BTreeMap<InstanceId, Vec<SocketAddr>>) {
        let mut entries = self.lock();
        for (id, ports) in found {
            if let Some(entry) = entries.get_mut(&id).filter(|entry| entry.record.instance.exit.is_none()) {
                entry.record.instance.listens_on = ports;
            }
        }
    }
}

/// Says that a command of an app runs.
pub(super) struct BusyGuard {
    table: Arc<Table>,
    app: AppRef,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let mut busy = self.table.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = busy.get_mut(&self.app) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                busy.remove(&self.app);
            }
        }
    }
}
