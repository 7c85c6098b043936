//! The executor's own state, opened once: keys, apps, instances, record, and the epoch that requests must carry.

use crate::{
    apps::Apps,
    gate::Asked,
    groups::{Base, Groups},
    identity::Identity,
    instances::{Instances, InstancesSettings, SEARCH_PATH},
    isolation::Isolation,
    keys::KeyStore,
    layout::Layout,
    memory::Memory,
    named::{Named, Past},
    rate::Rate,
    room::Room,
};
use allod_audit::{Line, Opened, Record};
use allod_daemon::Clock;
use allod_proto::{AppRef, Epoch, Fault, FaultCode, Fingerprint, Timestamp, messages::app::Accepted};
use allod_signing::{KeySigner, PublicKey, Signer, Window};
use rustix::rand::{GetRandomFlags, getrandom};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use zeroize::Zeroizing;

/// Who waits for whom, by app.
type Turns = Mutex<HashMap<AppRef, Arc<tokio::sync::Mutex<()>>>>;

/// What is known of the agent's present life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AgentSeen {
    /// Which connection is its.
    pub(crate) connection: u64,
    /// When it last asked.
    pub(crate) asked_at: Timestamp,
}

/// All that the executor holds.
pub struct Executor {
    layout: Layout,
    isolation: Isolation,
    clock: Clock,
    identity: Mutex<Identity>,
    record_key: String,
    record_public: PublicKey,
    record: Record,
    keys: Mutex<KeyStore>,
    apps: Mutex<Apps>,
    memory: Mutex<Memory>,
    window: Mutex<Window>,
    instances: Instances,
    rate: Mutex<Rate>,
    room: Room,
    named: Named,
    groups: Arc<Groups>,
    /// One change of an app at a time.
    turns: Turns,
    /// One release command of an app at a time; a change of the app need not wait for it.
    commands: Turns,
    /// The agent, while one is attached.
    agent: Mutex<Option<AgentSeen>>,
    /// The logins that the gate has told of.
    gate_asked: Mutex<Asked>,
    /// Held while the record is checked for somebody who recovers the server.
    checking: tokio::sync::Mutex<()>,
    began: Timestamp,
    _lock: allod_store::Lock,
}

impl Executor {
    /// Opens the state, makes what is missing, and takes back the instances that run.
    ///
    /// # Errors
    /// A sentence that names what can't be opened. Nothing is taken for empty that can't be read.
    pub async fn open(
        layout: Layout,
        isolation: Isolation,
        groups: &Base,
        first_owner: Option<&str>,
    ) -> Result<Arc<Self>, String> {
        layout.create().map_err(|error| error.to_string())?;
        let lock = allod_store::Lock::take(&layout.executor()).map_err(|error| error.to_string())?;
        // What an earlier life wrote and did not sync is about to be believed, and told to others.
        let swept = allod_store::settle(&layout.executor()).map_err(|error| error.to_string())?;
        tracing::debug!(swept, "the state of an earlier life is on the disk");
        let room = Room::new(&layout.executor());
        room.restore();
        room.spend();
        let named = Named::open(&layout).map_err(|error| format!("named commands: {error}"))?;
        let clock = Clock::start();
        let identity = Identity::open(&layout, &isolation)?;
        let record_signer = load_or_make(&layout.record_key(), "allod record key", None)?;
        let record_key = record_signer.public_openssh();
        let record_public = record_signer.public_key().clone();
        let mut keys = KeyStore::load(layout.clone())?;
        if let Some(line) = first_owner {
            keys.enroll_first(line).map_err(|fault| fault.message)?;
        }
        let apps = Apps::load(layout.clone()).map_err(|error| error.to_string())?;
        let (record, opened) = open_record(&layout, clock, Arc::new(record_signer))?;
        let (memory, past) = remember(&record, record_public.fingerprint(), &apps, clock.now())
            .map_err(|error| format!("the record: {error}"))?;
        named
            .restore(past, &isolation, &layout)
            .map_err(|fault| format!("named commands: {}", fault.message))?;
        report(&opened);
        let epoch = Epoch::from_random(random()?);
        let groups = open_groups(groups, &layout);
        let program = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
        let settings = InstancesSettings {
            layout: layout.clone(),
            isolation,
            program,
            args: vec!["shim".into()],
            search_path: SEARCH_PATH.to_owned(),
            groups: Arc::clone(&groups),
        };
        let (instances, found) = Instances::open(settings, Arc::new(move || clock.now()))
            .await
            .map_err(|fault| format!("instances: {}", fault.message))?;
        tracing::info!(adopted = found.adopted.len(), awaited = found.awaited.len(), lost = found.lost.len(), damaged = ?found.damaged, "instances");
        crate::artefacts::sweep(&layout).map_err(|fault| fault.message)?;
        let executor = Arc::new(Self {
            layout,
            isolation,
            clock,
            identity: Mutex::new(identity),
            record_key,
            record_public,
            record,
            keys: Mutex::new(keys),
            apps: Mutex::new(apps),
            memory: Mutex::new(memory),
            window: Mutex::new(Window::new(epoch, 20_000, 100_000)),
            instances,
            rate: Mutex::default(),
            room,
            named,
            groups,
            turns: Mutex::default(),
            commands: Mutex::default(),
            agent: Mutex::default(),
            gate_asked: Mutex::default(),
            checking: tokio::sync::Mutex::default(),
            began: clock.now(),
            _lock: lock,
        });
        // What root declared is in force before anybody asks.
        crate::named::refresh(&executor).await;
        Ok(executor)
    }

    /// Ends in order. Instances run on unless asked otherwise.
    pub async fn close(&self, stop_apps: bool) {
        if stop_apps {
            // How each ended is written down, also on a full disk.
            self.room.spend();
            self.instances.stop_all().await;
            self.instances.forget_ended().await;
        }
        self.instances.close().await;
        self.named.close().await;
        self.write_counts(true);
        if let Err(error) = self.record.close() {
            tracing::error!(%error, "the record could not be closed");
        }
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What keeps apps apart.
    #[must_use]
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// What bounds and ends runs and instances.
    #[must_use]
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// The server's identity now.
    #[must_use]
    pub fn identity(&self) -> Fingerprint {
        self.who().fingerprint().clone()
    }

    /// Who the server is, and was.
    pub(crate) fn who(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record key in OpenSSH form.
    #[must_use]
    pub fn record_key(&self) -> &str {
        &self.record_key
    }

    /// The record key.
    #[must_use]
    pub fn record_public_key(&self) -> &PublicKey {
        &self.record_public
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The running copies.
    #[must_use]
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// The time, on a clock that never goes back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How far the wall clock has parted from [`Executor::now`], if somebody set it.
    #[must_use]
    pub fn clock_stepped(&self) -> Option<Duration> {
        self.clock.stepped()
    }

    /// How long it has been running.
    pub(crate) fn age(&self) -> Duration {
        self.now().since(self.began)
    }

    /// Who holds it checks the record, and nobody else does.
    pub(crate) fn checking(&self) -> &tokio::sync::Mutex<()> {
        &self.checking
    }

    /// The agent, while one is attached.
    pub(crate) fn agent(&self) -> MutexGuard<'_, Option<AgentSeen>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The logins that the gate has told of lately.
    pub(crate) fn gate_asked(&self) -> MutexGuard<'_, Asked> {
        self.gate_asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since `earlier`.
    #[must_use]
    pub fn took_since(&self, earlier: Timestamp) -> u64 {
        u64::try_from(self.now().since(earlier).as_millis()).unwrap_or(u64::MAX)
    }

    /// The enrolled keys.
    pub fn keys(&self) -> MutexGuard<'_, KeyStore> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The apps.
    pub fn apps(&self) -> MutexGuard<'_, Apps> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done under which id.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is written line by line.
    pub(crate) fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room set aside for a full disk.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Named commands.
    pub(crate) fn named(&self) -> &Named {
        &self.named
    }

    /// The nonces of this epoch.
    pub fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one's turn to change an app. It lasts as long as what this answers.
    pub(crate) async fn turn_of(&self, app: &AppRef) -> tokio::sync::OwnedMutexGuard<()> {
        turn_in(&self.turns, app).await
    }

    /// The same for its release command: who asks again while it runs waits for its end.
    pub(crate) async fn command_of(&self, app: &AppRef) -> tokio::sync::OwnedMutexGuard<()> {
        turn_in(&self.commands, app).await
    }

    /// A new life of the agent: requests signed for the one before are stale.
    ///
    /// # Errors
    /// When the machine has no random bits.
    pub fn new_epoch(&self) -> Result<Epoch, Fault> {
        let bits = random().map_err(|why| Fault::new(FaultCode::Internal, why))?;
        let epoch = Epoch::from_random(bits);
        self.window().renew(epoch.clone());
        Ok(epoch)
    }
}

async fn turn_in(turns: &Turns, app: &AppRef) -> tokio::sync::OwnedMutexGuard<()> {
    let turn = {
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(app.clone()).or_default())
    };
    turn.lock_owned().await
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0u8; N];
    let got = getrandom(&mut bytes[..], GetRandomFlags::empty())
        .map_err(|error| format!("no random bits: {error}"))?;
    if got == N { Ok(bytes) } else { Err("the kernel gave too few random bits".to_owned()) }
}

/// Reads a private key, or makes it. It is its owner's also when an earlier life ended between making and giving it.
pub(crate) fn load_or_make(path: &Path, comment: &str, owner: Option<u32>) -> Result<KeySigner, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let signer = match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            KeySigner::from_openssh(&text, None).map_err(|error| named(error.to_string()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let signer = KeySigner::generate(random()?, comment);
            let text = signer.to_openssh();
            allod_store::write_atomic(path, text.as_bytes(), 0o600).map_err(|error| error.to_string())?;
            signer
        }
        Err(error) => return Err(named(error.to_string())),
    };
    if owner.is_some() {
        crate::isolation::give(path, owner, owner).map_err(|error| named(error.to_string()))?;
    }
    Ok(signer)
}

fn open_record(layout: &Layout, clock: Clock, signer: Arc<dyn Signer>) -> Result<(Record, Opened), String> {
    let time: allod_audit::Clock = Arc::new(move || (clock.now(), clock.boot_ms()));
    let settings = allod_audit::Settings::new(layout.record(), time);
    Record::open(settings, signer).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("the record: {error}{cause}")
    })
}

/// Reads the last day of the record back, so that what was acknowledged before a crash is done once after it.
fn remember(
    record: &Record,
    server: &Fingerprint,
    apps: &Apps,
    now: Timestamp,
) -> Result<(Memory, Past), allod_audit::RecordError> {
    let (mut memory, mut past) = (Memory::default(), Past::new(server.clone()));
    let mut from = record.oldest();
    loop {
        let lines = record.read(from, 5_000)?;
        let mut last = None;
        for line in lines.iter().filter_map(|line| Line::parse(line).ok()) {
            last = Some(line.seq);
            if now.since(line.at) <= allod_proto::limits::COMMAND_ID_MEMORY {
                memory.replay(&line);
                past.replay(&line);
            }
        }
        match last {
            Some(seq) => from = seq + 1,
            None => break,
        }
    }
    // What is still open was answered as begun.
    for open in apps.all().filter_map(|record| record.operation.as_ref()) {
        let release = open.operation.release().cloned();
        let accepted = Accepted { operation: open.operation.id.clone(), release };
        memory.done(open.intent, serde_json::to_value(accepted).ok());
    }
    memory.end_replay();
    Ok((memory, past))
}

/// What there is of control groups; what is missing is said once, here.
fn open_groups(base: &Base, layout: &Layout) -> Arc<Groups> {
    let groups = Groups::open(base, layout.root());
    match groups.unbounded() {
        None => tracing::info!("runs and instances have control groups"),
        Some(why) => {
            tracing::warn!(why, made = groups.can_be_made(), "NOT ALL IS BOUNDED of runs and instances")
        }
    }
    Arc::new(groups)
}

fn report(opened: &Opened) {
    if let Some(head) = &opened.cut_after {
        tracing::error!(seq = head.seq, hash = %head.hash, "THE RECORD WAS CUT: signed lines are gone");
    }
    if let Some(found) = &opened.damage {
        tracing::error!(%found, "the record is damaged; it carries on in a new segment");
    }
    if opened.torn_tail_bytes_cut > 0 {
        tracing::warn!(
            bytes = opened.torn_tail_bytes_cut,
            "an unfinished write at the end of the record was set aside"
        );
    }
    if !opened.unfinished.is_empty() {
        tracing::warn!(
            changes = opened.unfinished.len(),
            "changes without an outcome were found; recorded as unknown"
        );
    }
}
