//! What all workers share: the table, the instances, paused apps, counters. The table is held for reading only while a
//! route is looked up and its request counted, never across an await.

use crate::{
    access_log::AccessLog,
    instance::{InFlight, Instance},
    pause::Pauses,
    routing::{Entry, Table, Target},
    settings::{Cidr, Limits},
    table_file::{self, TableError},
    tls::Tls,
};
use allod_daemon::clock::Clock;
use std::{
    collections::{HashMap, hash_map},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Shared {
    table: RwLock<Table>,
    instances: Mutex<HashMap<SocketAddr, Arc<Instance>>>,
    routes: PathBuf,
    pub(crate) pauses: Pauses,
    pub(crate) limits: Limits,
    pub(crate) trusted_hops: Vec<Cidr>,
    pub(crate) clock: Clock,
    pub(crate) log: AccessLog,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) own_errors: AtomicU64,
    pub(crate) tls: Option<Tls>,
    pub(crate) https_redirect: Option<u16>,
    /// Another proxy has taken over: each answer is the last on its connection.
    pub(crate) is_retiring: AtomicBool,
}

/// What is settled at the start.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) limits: Limits,
    pub(crate) trusted_hops: Vec<Cidr>,
    pub(crate) clock: Clock,
    pub(crate) log: AccessLog,
    pub(crate) tls: Option<Tls>,
    pub(crate) https_redirect: Option<u16>,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Choice {
    /// No route.
    Nowhere,
    /// A route whose app is stopped, has files, or has no instance left to try.
    Route(Arc<Entry>),
    /// An instance; the request is counted there from now on.
    Instance { entry: Arc<Entry>, in_flight: InFlight, uid: Option<u32>, generation: u64 },
}

impl Shared {
    /// Loads the table at `routes` and is ready to serve it.
    pub(crate) fn load(routes: &Path, fixed: Fixed) -> Result<Self, TableError> {
        let Fixed { limits, trusted_hops, clock, log, tls, https_redirect } = fixed;
        let shared = Self {
            table: RwLock::default(),
            instances: Mutex::default(),
            routes: routes.to_owned(),
            pauses: Pauses::default(),
            limits,
            trusted_hops,
            clock,
            log,
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            own_errors: AtomicU64::new(0),
            tls,
            https_redirect,
            is_retiring: AtomicBool::new(false),
        };
        shared.reload()?;
        Ok(shared)
    }

    /// Reads the file again. When this returns, every new request follows it; on an error nothing has changed.
    pub(crate) fn reload(&self) -> Result<u64, TableError> {
        let file = table_file::load(&self.routes)?;
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let table = Table::compile(&file, |address| match instances.entry(address) {
            hash_map::Entry::Occupied(known) if !known.get().is_closed() => Arc::clone(known.get()),
            hash_map::Entry::Occupied(mut ended) => {
                let fresh = Arc::new(Instance::new(address));
                ended.insert(Arc::clone(&fresh));
                fresh
            }
            hash_map::Entry::Vacant(vacant) => Arc::clone(vacant.insert(Arc::new(Instance::new(address)))),
        })
        .map_err(|reason| TableError::Invalid { path: self.routes.clone(), reason })?;
        let generation = table.generation;
        let before =
            std::mem::replace(&mut *self.table.write().unwrap_or_else(PoisonError::into_inner), table);
        self.forget_quiet(&mut instances);
        drop(instances);
        drop(before);
        Ok(generation)
    }

    /// Closes the instances that no route leads to any more and that have nothing in flight. Only after the swap is zero
    /// in flight the last word: before it, a request could still enter.
    fn forget_quiet(&self, instances: &mut HashMap<SocketAddr, Arc<Instance>>) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|address, instance| {
            let is_needed = table.serves(*address) || instance.in_flight() > 0;
            if !is_needed {
                instance.close();
            }
            is_needed
        });
    }

    pub(crate) fn generation(&self) -> u64 {
        self.table.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Looks up the route, and the next of its instances that is not among those `tried`.
    pub(crate) fn choose(&self, host: Option<&str>, path: &str, tried: &[SocketAddr]) -> Choice {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = table.find(host, path) else { return Choice::Nowhere };
        match entry.next_member(tried) {
            Some(member) => Choice::Instance {
                entry: Arc::clone(entry),
                in_flight: member.instance.enter(),
                uid: member.uid,
                generation: table.generation,
            },
            None => Choice::Route(Arc::clone(entry)),
        }
    }

    /// Waits until nothing is in flight to an instance that no route leads to any more, then closes what is left.
    pub(crate) async fn drain(&self, address: SocketAddr, wait: Duration) -> Result<u64, String> {
        if self.table.read().unwrap_or_else(PoisonError::into_inner).serves(address) {
            return Err(format!("a route still leads to {address}: load a table without it first"));
        }
        let instance = self.instances.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        let Some(instance) = instance else { return Ok(0) };
        let in_time = tokio::time::timeout(wait, instance.quiet()).await;
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        // A table that came meanwhile may lead there again; its requests must not be cut.
        if self.table.read().unwrap_or_else(PoisonError::into_inner).serves(address) {
            return Err(format!("a route leads to {address} again"));
        }
        let cut = instance.close();
        if instances.get(&address).is_some_and(|known| Arc::ptr_eq(known, &instance)) {
            instances.remove(&address);
        }
        tracing::info!(%address, cut, in_time = in_time.is_ok(), "drained an instance");
        Ok(cut)
    }

    /// Whether another proxy has taken over.
    pub(crate) fn is_retiring(&self) -> bool {
        self.is_retiring.load(Ordering::Relaxed)
    }

    /// Whether forwarded headers of this peer are believed.
    pub(crate) fn trusts(&self, peer: SocketAddr) -> bool {
        self.trusted_hops.iter().any(|hop| hop.contains(peer.ip()))
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl Entry {
    /// Whether the route's app was stopped on purpose.
    pub(crate) fn stopped(&self) -> Option<&str> {
        match &self.target {
            Target::Stopped(message) => Some(message),
            Target::Instances(_) | Target::Static { .. } => None,
        }
    }
}
