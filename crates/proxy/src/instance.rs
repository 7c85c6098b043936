//! One instance's address as long as requests go to it: how many are in flight, which sockets lead to it, and whether it
//! is being drained. A closed instance never opens again; the same address later is a new value.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{net::TcpStream, sync::Notify};

static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    /// Tells apart two lives of one address.
    pub(crate) id: u64,
    in_flight: AtomicU64,
    quiet: Notify,
    closed: AtomicBool,
    closing: Notify,
    checked: AtomicU64,
    sockets: Mutex<HashMap<u64, OwnedFd>>,
}

impl Instance {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            in_flight: AtomicU64::new(0),
            quiet: Notify::new(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            checked: AtomicU64::new(u64::MAX),
            sockets: Mutex::new(HashMap::new()),
        }
    }

    /// Counts one request. Called while the routing table is held, so that a swap of the table comes wholly before or
    /// wholly after.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Returns when nothing is in flight.
    pub(crate) async fn quiet(&self) {
        loop {
            let mut notified = std::pin::pin!(self.quiet.notified());
            notified.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Returns when the instance is closed.
    pub(crate) async fn closed(&self) {
        let mut notified = std::pin::pin!(self.closing.notified());
        notified.as_mut().enable();
        if !self.is_closed() {
            notified.await;
        }
    }

    /// Ends every connection to it, idle and busy, and tells how many requests that cut.
    pub(crate) fn close(&self) -> u64 {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
        let cut = self.in_flight();
        for socket in sockets.values() {
            shut(socket);
        }
        drop(sockets);
        self.closing.notify_waiters();
        cut
    }

    /// Remembers a connection for [`Instance::close`] until the guard is dropped.
    pub(crate) fn register(self: &Arc<Self>, stream: &TcpStream) -> io::Result<Socket> {
        let second = stream.as_fd().try_clone_to_owned()?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        sockets.insert(id, second);
        Ok(Socket { instance: Arc::clone(self), id })
    }

    /// Whether the listener was found to be this uid's in this generation of the table.
    pub(crate) fn is_checked(&self, generation: u64, uid: u32) -> bool {
        self.checked.load(Ordering::Acquire) == mark(generation, uid)
    }

    pub(crate) fn set_checked(&self, generation: u64, uid: u32) {
        self.checked.store(mark(generation, uid), Ordering::Release);
    }

    /// Forgets the check: a connection to it ended, so another program may listen there by now.
    pub(crate) fn forget_check(&self) {
        self.checked.store(u64::MAX, Ordering::Release);
    }
}

fn mark(generation: u64, uid: u32) -> u64 {
    (generation << 32) | u64::from(uid)
}

fn shut(socket: &OwnedFd) {
    if let Err(error) = rustix::net::shutdown(socket, rustix::net::Shutdown::Both) {
        tracing::debug!(%error, "a connection to an instance had already ended");
    }
}

/// One request on its way to an instance, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Instance>);

impl InFlight {
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// One connection to an instance, known until this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    instance: Arc<Instance>,
    id: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.instance.sockets.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
