//! The ports that are listened on. A listener lives as long as the connection that asked for it; what comes in waits for an
//! `accept` for a moment, within bounds, and is reset then.

use crate::stream::{Incoming, Stream};
use allod_meshnode::MeshListener;
use allod_proto::{Fault, FaultCode};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Connections of one listener that wait for an `accept`.
pub(crate) const BACKLOG: usize = 128;
/// How long one waits.
const MOMENT: Duration = Duration::from_secs(10);
/// `accept`s that wait, in all and of one listener.
pub(crate) const WAITING: (usize, usize) = (256, 64);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    by_port: Mutex<HashMap<u16, Arc<Port>>>,
    waiting: AtomicUsize,
}

/// One that is listened on.
#[derive(Debug)]
pub(crate) struct Port {
    /// What it is asked for by: not to be guessed, nor the one that the port had before.
    id: u64,
    /// Whose it is.
    user: u32,
    queue: Mutex<VecDeque<(Instant, Incoming)>>,
    changed: Notify,
    is_over: AtomicBool,
    waiting: AtomicUsize,
}

/// The right to a port. Dropped, nobody listens there, and whoever waits is told.
#[derive(Debug)]
pub(crate) struct Held {
    ports: Arc<Ports>,
    port: Arc<Port>,
    number: u16,
}

/// One `accept` that waits.
struct Waiting<'a>(&'a Ports, &'a Port);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ports {
    /// Takes a port for a user.
    pub(crate) fn take(self: &Arc<Self>, number: u16, user: u32, id: u64) -> Result<Held, Fault> {
        let mut ports = lock(&self.by_port);
        if ports.contains_key(&number) {
            return Err(taken(number));
        }
        let port = Arc::new(Port {
            id,
            user,
            queue: Mutex::default(),
            changed: Notify::new(),
            is_over: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        });
        ports.insert(number, Arc::clone(&port));
        Ok(Held { ports: Arc::clone(self), port, number })
    }

    /// A connection of this machine to itself.
    pub(crate) fn connect(&self, to: SocketAddr, from: SocketAddr) -> Option<Stream> {
        let port = lock(&self.by_port).get(&to.port()).map(Arc::clone)?;
        let (near, far) = Stream::pair();
        port.put(Incoming { stream: far, peer: from, local: to }).then_some(near)
    }

    /// The next connection of one's own listener.
    pub(crate) async fn accept(&self, id: u64, user: u32) -> Result<(Arc<Port>, Incoming), Fault> {
        let found =
            lock(&self.by_port).values().find(|port| port.id == id && port.user == user).map(Arc::clone);
        let port = found.ok_or_else(over)?;
        let incoming = {
            let _waiting = Waiting::begin(self, &port)?;
            port.next().await.ok_or_else(over)?
        };
        Ok((port, incoming))
    }
}

/// Somebody has it.
pub(crate) fn taken(number: u16) -> Fault {
    Fault::new(FaultCode::Conflict, format!("port {number} of the mesh is listened on already"))
}

fn over() -> Fault {
    Fault::new(FaultCode::NotFound, "there is no such listener (any more)")
}

impl<'a> Waiting<'a> {
    fn begin(ports: &'a Ports, port: &'a Port) -> Result<Self, Fault> {
        let this = Self(ports, port);
        let all = ports.waiting.fetch_add(1, Ordering::Relaxed);
        let theirs = port.waiting.fetch_add(1, Ordering::Relaxed);
        if all >= WAITING.0 || theirs >= WAITING.1 {
            return Err(Fault::new(FaultCode::TooMany, "as many wait to accept as may"));
        }
        Ok(this)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.1.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Port {
    /// Lets one wait; says whether there was room. Otherwise it is reset.
    fn put(&self, incoming: Incoming) -> bool {
        let mut queue = lock(&self.queue);
        if self.is_over.load(Ordering::Relaxed) || queue.len() >= BACKLOG {
            drop(queue);
            incoming.stream.reset();
            return false;
        }
        queue.push_back((Instant::now(), incoming));
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// Puts one back that could not be handed over: the next who asks gets it.
    pub(crate) fn put_back(&self, incoming: Incoming) {
        let mut queue = lock(&self.queue);
        if self.is_over.load(Ordering::Relaxed) {
            drop(queue);
            return incoming.stream.reset();
        }
        queue.push_front((Instant::now(), incoming));
        drop(queue);
        self.changed.notify_one();
    }

    async fn next(&self) -> Option<Incoming> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_over.load(Ordering::Relaxed) {
                return None;
            }
            if let Some((_, incoming)) = lock(&self.queue).pop_front() {
                return Some(incoming);
            }
            changed.await;
        }
    }

    /// Resets whoever waited too long. Says when to look again.
    fn tidy(&self, now: Instant) -> Instant {
        loop {
            let mut queue = lock(&self.queue);
            let Some(until) = queue.front().map(|(since, _)| *since + MOMENT) else { return now + MOMENT };
            if until > now {
                return until;
            }
            let late = queue.pop_front();
            drop(queue);
            if let Some((_, late)) = late {
                tracing::debug!(peer = %late.peer, local = %late.local, "nobody accepted it");
                late.stream.reset();
            }
        }
    }
}

impl Held {
    pub(crate) fn id(&self) -> u64 {
        self.port.id
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// The next connection, for the node itself.
    pub(crate) async fn next(&self) -> Option<Incoming> {
        self.port.next().await
    }

    /// Takes in what comes from the mesh, for as long as the mesh gives it.
    pub(crate) async fn run(&self, listener: MeshListener) {
        let mut again = Instant::now() + MOMENT;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(stream) => drop(self.port.put(Incoming::of_mesh(stream))),
                    Err(_) => return,
                },
                () = sleep_until(again) => again = self.port.tidy(Instant::now()),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.ports.by_port).remove(&self.number);
        let left = {
            let mut queue = lock(&self.port.queue);
            self.port.is_over.store(true, Ordering::Relaxed);
            std::mem::take(&mut *queue)
        };
        for (_, incoming) in left {
            incoming.stream.reset();
        }
        self.port.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
