//! The way in: connections that the mesh accepted, and the bounds of everything that can be asked on them.

use crate::server::{
    Rate, Service, http,
    patience::Patient,
    rates::{Rates, network},
    seats::Seats,
    shares::Shares,
};
use allod_proto::Fingerprint;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// What a process needs descriptors for besides connections: files, sockets of its own, logs, and connections that are
/// being closed.
const OTHER_DESCRIPTORS: usize = 256;
/// Connections beyond the bound that may be open while those who make room for them are being closed.
const CLOSING: usize = 64;

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
    /// How long a peer may leave unread what it was sent.
    pub write: Duration,
    /// Requests of one key that are being answered, streams included.
    pub requests_per_key: usize,
    /// Bodies and replies above 64 KiB that are held in memory at a time, each; and those of one key.
    pub large: usize,
    /// The same for one key.
    pub large_per_key: usize,
    /// Unsigned requests of one source address.
    pub unsigned: Rate,
    /// Refused requests of one source address.
    pub refused: Rate,
    /// Requests of one key.
    pub signed: Rate,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 512,
            head: Duration::from_secs(30),
            body: Duration::from_secs(15),
            chunk: Duration::from_secs(120),
            write: Duration::from_secs(30),
            requests_per_key: 64,
            large: 24,
            large_per_key: 6,
            unsigned: Rate { burst: 200, per_second: 300, patience: Duration::from_secs(3) },
            refused: Rate { burst: 50, per_second: 50, patience: Duration::from_secs(8) },
            signed: Rate { burst: 30_000, per_second: 500, patience: Duration::from_secs(2) },
        }
    }
}

impl ListenerLimits {
    /// The same with no more connections than a process with so many descriptors can hold.
    #[must_use]
    pub fn within(mut self, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let room = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 4).max(1);
        self.connections = self.connections.min(room);
        self.connections_per_peer = self.connections_per_peer.min(room.div_ceil(2));
        self
    }
}

/// What all connections of a listener share.
pub(super) struct Shared<S> {
    pub(super) service: Arc<S>,
    pub(super) limits: ListenerLimits,
    pub(super) requests: Arc<Shares>,
    pub(super) bodies: Arc<Shares>,
    pub(super) replies: Arc<Shares>,
    unsigned: Rates<IpAddr>,
    refused: Rates<IpAddr>,
    signed: Rates<Fingerprint>,
}

impl<S: Service> Shared<S> {
    fn new(service: Arc<S>, limits: ListenerLimits) -> Self {
        Self {
            service,
            requests: Shares::new(limits.connections, limits.requests_per_key),
            bodies: Shares::new(limits.large, limits.large_per_key),
            replies: Shares::new(limits.large, limits.large_per_key),
            unsigned: Rates::new(limits.unsigned),
            refused: Rates::new(limits.refused),
            signed: Rates::new(limits.signed),
            limits,
        }
    }

    /// Waits for this source's turn to ask something unsigned; false where that would take too long.
    pub(super) async fn may_ask_unsigned(&self, source: IpAddr) -> bool {
        waited(self.unsigned.take(network(source), self.service.now())).await
    }

    /// Waits for this key's turn; false where that would take too long.
    pub(super) async fn may_ask(&self, key: &Fingerprint) -> bool {
        waited(self.signed.take(key.clone(), self.service.now())).await
    }

    /// Keeps a refusal back until it is this source's turn to be refused; false where that would take too long.
    pub(super) async fn may_be_refused(&self, source: IpAddr) -> bool {
        waited(self.refused.take(network(source), self.service.now())).await
    }
}

async fn waited(turn: Option<Duration>) -> bool {
    match turn {
        None => false,
        Some(wait) => {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            true
        }
    }
}

/// The way from accepted connections to a service, with a bound on connections in all and per peer.
pub struct Doorway<S> {
    shared: Arc<Shared<S>>,
    seats: Arc<Seats>,
    open: Arc<Semaphore>,
}

/// Room for one open connection, until it is closed.
#[derive(Debug)]
pub struct Room {
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S: Service> Doorway<S> {
    /// A doorway to this service.
    #[must_use]
    pub fn new(service: Arc<S>, limits: ListenerLimits) -> Self {
        let seats = Seats::new(limits.connections, limits.connections_per_peer);
        let open = limits.connections.saturating_add(CLOSING.min(limits.connections / 4 + 1));
        let open = Arc::new(Semaphore::new(open.min(Semaphore::MAX_PERMITS)));
        Self { shared: Arc::new(Shared::new(service, limits)), seats, open }
    }

    /// Waits until another connection may be accepted: a flood must not be accepted faster than it is shown out.
    pub async fn room(&self) -> Room {
        Room { _permit: Arc::clone(&self.open).acquire_owned().await.ok() }
    }

    /// Serves one connection to its end; where there is no place for it, it is closed at once. The mesh must know the
    /// peer.
    pub async fn serve(
        &self,
        room: Room,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: IpAddr,
    ) {
        // Given back last, when the connection is closed.
        let _room = room;
        let peer = peer.to_canonical();
        let Some(seat) = self.seats.enter(network(peer)) else { return };
        let (seat, stream) = (Arc::new(seat), Patient::new(stream, self.shared.limits.write));
        tokio::select! {
            () = seat.is_wanted() => tracing::debug!(%peer, "a connection made room for another"),
            () = http::connection(Arc::clone(&self.shared), stream, peer, Arc::clone(&seat)) => {}
        }
    }

    /// What stands behind it.
    #[must_use]
    pub fn service(&self) -> &Arc<S> {
        &self.shared.service
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_connections_than_descriptors_for_them() {
        for (descriptors, connections, of_one) in [
            (0, 1, 1),
            (64, 16, 8),
            (300, 75, 38),
            (1024, 768, 384),
            (65_536, 1024, 512),
            (u64::MAX, 1024, 512),
        ] {
            let limits = ListenerLimits::default().within(descriptors);
            assert_eq!(
                (limits.connections, limits.connections_per_peer),
                (connections, of_one),
                "{descriptors}"
            );
        }
    }
}
