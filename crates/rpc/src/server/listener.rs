//! The way in: connections that the mesh accepted, with a cap in all and per peer.

use crate::server::{Service, http, strangers::Strangers};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one peer address.
    pub connections_per_peer: usize,
    /// How long a head may take to arrive, and a connection to be idle.
    pub head: Duration,
    /// How long a command's body may take to arrive.
    pub body: Duration,
    /// How long a chunk may take to arrive.
    pub chunk: Duration,
    /// Chunks held in memory at a time.
    pub chunks: usize,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 128,
            head: Duration::from_secs(30),
            body: Duration::from_secs(15),
            chunk: Duration::from_secs(120),
            chunks: 16,
        }
    }
}

/// What all connections of a listener share.
pub(super) struct Shared<S> {
    pub(super) service: Arc<S>,
    pub(super) limits: ListenerLimits,
    pub(super) strangers: Strangers,
    pub(super) chunks: Semaphore,
}

#[derive(Default)]
struct PerPeer(Mutex<HashMap<IpAddr, usize>>);

impl PerPeer {
    fn enter(self: &Arc<Self>, peer: IpAddr, limit: usize) -> Option<Seat> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Seat { peers: Arc::clone(self), peer })
    }
}

/// One connection of a peer; leaving gives the place back.
struct Seat {
    peers: Arc<PerPeer>,
    peer: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// The way from accepted connections to a service, with a cap in all and per peer.
pub struct Doorway<S> {
    shared: Arc<Shared<S>>,
    seats: Semaphore,
    peers: Arc<PerPeer>,
}

impl<S: Service> Doorway<S> {
    /// A doorway to this service.
    #[must_use]
    pub fn new(service: Arc<S>, limits: ListenerLimits) -> Self {
        let shared = Arc::new(Shared {
            service,
            limits,
            strangers: Strangers::default(),
            chunks: Semaphore::new(limits.chunks),
        });
        Self { shared, seats: Semaphore::new(limits.connections), peers: Arc::default() }
    }

    /// Serves one connection to its end; over a cap it is closed at once. The mesh must know the peer.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: IpAddr) {
        let peer = peer.to_canonical();
        let Ok(_place) = self.seats.try_acquire() else { return };
        let Some(_seat) = self.peers.enter(peer, self.shared.limits.connections_per_peer) else { return };
        http::connection(Arc::clone(&self.shared), stream, peer).await;
    }

    /// What stands behind it.
    #[must_use]
    pub fn service(&self) -> &Arc<S> {
        &self.shared.service
    }
}
