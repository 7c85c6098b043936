//! The place on the mesh, as the socket speaks of it: who and where this machine is, who others are, listening and connecting.

use crate::{
    ports::{Held, Ports, taken},
    stream::Stream,
};
use allod_meshnode::{
    Clock, Member, MeshListener, NodeStatus, PeerPath, Random, Route, control::ControlState,
    relay::RelayState as MemberRelay,
};
use allod_meshproto::{
    control::Node,
    netmap::{NetMap, StoredMap},
};
use allod_proto::{
    Fault, FaultCode,
    node::{CoordinatorState, NodePath, NodePeer, NodeState, RelayState},
};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// The first port that is given to whoever wants any.
const FIRST_FREE: u16 = 49_152;
/// Lists of all peers at once.
const LISTS: usize = 8;

/// The machine's place.
pub(crate) struct Place {
    member: Member,
    ports: Arc<Ports>,
    random: Random,
    clock: Clock,
    /// Where the next free port is looked for.
    next: AtomicU16,
    /// Lists of peers that are being told.
    lists: Semaphore,
}

impl Place {
    pub(crate) fn new(member: Member, random: Random, clock: Clock) -> Self {
        Self {
            member,
            ports: Arc::default(),
            random,
            clock,
            next: AtomicU16::new(0),
            lists: Semaphore::new(LISTS),
        }
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn state(&self) -> NodeState {
        let status = self.member.node().watch().borrow().clone();
        let stored = self.member.maps().borrow().clone();
        let relays = self.member.relays();
        let relays = relays.borrow();
        NodeState {
            key_expiry: stored.and_then(|stored| stored.map.me.key_expiry),
            addresses: status.addresses,
            name: status.name,
            port: self.member.node().port(),
            coordinator: coordinator(&self.member.control().borrow()),
            relays: relays.iter().map(|(region, state)| relay(*region, state)).collect(),
        }
    }

    /// What [`Self::state`] says may change from now on.
    pub(crate) fn news(&self) -> News {
        News {
            status: self.member.node().watch(),
            control: self.member.control(),
            relays: self.member.relays(),
            maps: self.member.maps(),
        }
    }

    /// The right to have a list of all peers in memory.
    pub(crate) async fn listing(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.lists.acquire().await.ok()
    }

    fn own(&self) -> Vec<IpAddr> {
        self.member.node().watch().borrow().addresses.clone()
    }

    /// Who has this address as its own.
    pub(crate) fn whois(&self, address: IpAddr) -> Option<NodePeer> {
        let address = address.to_canonical();
        let stored = self.member.maps().borrow().clone()?;
        if self.own().contains(&address) {
            return Some(described(&stored.map, &stored.map.me, NodePath::Own));
        }
        // The node knows whether what the map says holds still.
        let node = self.member.node().whois(address)?;
        let paths = self.member.node().paths();
        Some(described(&stored.map, &node, path(paths.iter().find(|path| path.key == node.key))))
    }

    /// Everybody else.
    pub(crate) fn peers(&self) -> Vec<NodePeer> {
        let Some(stored) = self.member.maps().borrow().clone() else { return Vec::new() };
        let mut paths = self.member.node().paths();
        paths.sort_unstable_by_key(|path| path.key);
        let of = |node: &Node| {
            let at = paths.binary_search_by_key(&node.key, |path| path.key).ok();
            at.and_then(|at| paths.get(at))
        };
        let now = (self.clock)();
        // A map that holds no more has left no paths.
        let live = stored.map.live_peers(now).filter_map(|node| of(node).map(|found| (node, found)));
        live.map(|(node, found)| described(&stored.map, node, path(Some(found)))).collect()
    }

    /// Takes a port of every address; 0 is any that is free.
    pub(crate) fn listen(&self, port: u16, user: u32) -> Result<(Held, MeshListener), Fault> {
        let mut id = [0; 8];
        self.random.fill(&mut id).map_err(|_| Fault::new(FaultCode::Internal, "no random numbers"))?;
        // Numbers in JSON are exact up to here.
        let id = u64::from_be_bytes(id) >> 11;
        if port != 0 {
            return self.listen_on(port, user, id);
        }
        let tries = u16::MAX - FIRST_FREE;
        for _ in 0..tries {
            let offset = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(tries).unwrap_or(0);
            if let Ok(found) = self.listen_on(FIRST_FREE.saturating_add(offset), user, id) {
                return Ok(found);
            }
        }
        Err(Fault::new(FaultCode::TooMany, "there is no free port on the mesh"))
    }

    fn listen_on(&self, port: u16, user: u32, id: u64) -> Result<(Held, MeshListener), Fault> {
        let held = self.ports.take(port, user, id)?;
        let listener = self.member.node().listen(port).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => taken(port),
            _ => Fault::new(FaultCode::Internal, format!("listening on port {port} failed: {error}")),
        })?;
        Ok((held, listener))
    }

    /// Where a port is listened on now.
    pub(crate) fn everywhere(&self, port: u16) -> Vec<SocketAddr> {
        self.own().into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    }

    /// A connection to a port of a peer or of this machine, with its near end.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Result<(Stream, SocketAddr), Fault> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        if self.own().contains(&to.ip()) {
            let offset =
                self.next.fetch_add(1, Ordering::Relaxed).checked_rem(u16::MAX - FIRST_FREE).unwrap_or(0);
            let from = SocketAddr::new(to.ip(), FIRST_FREE.saturating_add(offset));
            let stream = self.ports.connect(to, from);
            return stream.map(|stream| (stream, from)).ok_or_else(|| refused(to));
        }
        let connected = self.member.node().connect(to).await;
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::HostUnreachable => Fault::new(
                FaultCode::NotFound,
                format!("{} is nobody's on the mesh, as far as this machine knows", to.ip()),
            ),
            io::ErrorKind::ConnectionRefused => refused(to),
            io::ErrorKind::TimedOut => Fault::new(FaultCode::Timeout, format!("{to} does not answer")),
            _ => Fault::new(FaultCode::Internal, format!("connecting to {to} failed: {error}")),
        })?;
        let local = stream.local_addr();
        Ok((Stream::Mesh(stream), local))
    }
}

/// Tells that there was a change.
pub(crate) struct News {
    status: watch::Receiver<NodeStatus>,
    control: watch::Receiver<ControlState>,
    relays: watch::Receiver<BTreeMap<u32, MemberRelay>>,
    maps: watch::Receiver<Option<Arc<StoredMap>>>,
}

impl News {
    /// Waits for the next one.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            // When one of them has ended, so does the program.
            _ = self.status.changed() => {}
            _ = self.control.changed() => {}
            _ = self.relays.changed() => {}
            _ = self.maps.changed() => {}
        }
    }
}

fn refused(to: SocketAddr) -> Fault {
    Fault::new(
        FaultCode::Unreachable,
        format!("{to} refuses the connection: nobody listens there, or too many ask"),
    )
}

fn described(map: &NetMap, node: &Node, path: NodePath) -> NodePeer {
    let user = map.profiles.get(&node.user).map(|profile| profile.login_name.clone());
    NodePeer {
        name: node.name.trim_end_matches('.').to_owned(),
        addresses: node.addresses.iter().map(|prefix| prefix.address()).collect(),
        tags: node.tags.clone(),
        user: user.filter(|user| node.tags.is_empty() && !user.is_empty()),
        online: node.online,
        path,
    }
}

fn path(known: Option<&PeerPath>) -> NodePath {
    let Some(known) = known.filter(|known| known.is_active) else { return NodePath::Idle };
    match known.route {
        Route::Direct(to) => NodePath::Direct {
            to,
            trip_microseconds: known.trip.and_then(|trip| u64::try_from(trip.as_micros()).ok()),
        },
        Route::Both(_) | Route::Relay => NodePath::Relay,
    }
}

fn coordinator(state: &ControlState) -> CoordinatorState {
    match state {
        ControlState::Connecting => CoordinatorState::Connecting,
        ControlState::LogIn(page) => CoordinatorState::LogIn { page: page.clone() },
        ControlState::Waiting => CoordinatorState::Waiting,
        ControlState::Connected => CoordinatorState::Connected,
        ControlState::Away(why) => CoordinatorState::Away { why: why.clone() },
        ControlState::Refused(why) => CoordinatorState::Refused { why: why.clone() },
        ControlState::Expired => CoordinatorState::Expired,
    }
}

fn relay(region: u32, state: &MemberRelay) -> RelayState {
    let trouble = match state {
        MemberRelay::Connecting | MemberRelay::Connected => None,
        MemberRelay::Away(why) => Some(why.clone()),
    };
    RelayState { region, trouble }
}
