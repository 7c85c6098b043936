//! The stack itself, without waiting: sockets, listeners whose backlog grows with what asks, and streams that nobody holds any more.

use super::{device::Queues, recovery::Recovery};
use crate::packet::{Kind, Packet, Step};
use allod_proto::Timestamp;
use smoltcp::{
    iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet},
    socket::tcp::{self, State},
    time::{Duration as Span, Instant},
    wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint},
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Bytes of each direction of a stream. They are zero pages until they are used.
const BUFFER: usize = 256 * 1024;
/// Connections of one listener that are coming about, or wait to be accepted.
pub(super) const BACKLOG: usize = 256;
/// Of these, from one address: others must get in too.
pub(super) const BACKLOG_OF_ONE: usize = 224;
/// Sockets in all.
pub(super) const SOCKETS: usize = 4_096;
/// Connections that one address began.
const FROM_ONE: usize = 1_024;
/// How many of smoltcp's seconds a second has. It sends again what was lost after a second at the soonest (RFC 6298), whatever the round
/// trip; systems wait 200 ms, and a stream that waits for longer each time is slow where datagrams are lost. It has no clock but ours.
const HASTE: u64 = 4;
/// A peer that does not acknowledge for so long is gone.
const SILENCE: Span = seconds(120);
/// One that was not acknowledged yet may take so long.
const HALF_OPEN: Span = seconds(20);
/// How often a silent connection is asked whether it is there.
const KEEP_ALIVE: Span = seconds(30);
/// A stream that was dropped may take so long to send what it has and end.
const LINGER: Duration = Duration::from_secs(60);
/// How often what came in together is answered, if each answer is for as many packets as these two say.
const ANSWERS: usize = 8;
const FEWEST: usize = 2;
const MOST: usize = 16;
/// The first port that connections go out from.
const FIRST_PORT: u16 = 49_152;

struct Listening {
    /// Sockets that listen, or whose connection is coming about.
    waiting: Vec<SocketHandle>,
    /// Connections to be accepted.
    ready: VecDeque<SocketHandle>,
    /// From where requests came since the last poll.
    asked: Vec<IpAddr>,
    notify: Arc<Notify>,
}

impl Listening {
    /// How many connections are coming about, wait, or were asked for.
    fn length(&self) -> usize {
        self.waiting.len().saturating_add(self.ready.len()).saturating_add(self.asked.len())
    }
}

/// Sockets and packets, and whose they are.
pub(crate) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    queues: Queues,
    recovery: Recovery,
    addresses: Vec<IpAddr>,
    listeners: HashMap<u16, Listening>,
    /// Sockets whose stream is gone, and since when.
    orphans: Vec<(SocketHandle, Timestamp)>,
    next_port: u16,
    now: Timestamp,
    has_ended: bool,
}

impl Stack {
    pub(super) fn new(seed: u64) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let offset = u16::try_from(seed % 16_000).unwrap_or(0);
        Self {
            interface: Interface::new(config, &mut queues, Instant::ZERO),
            sockets: SocketSet::new(Vec::new()),
            queues,
            recovery: Recovery::default(),
            addresses: Vec::new(),
            listeners: HashMap::new(),
            orphans: Vec::new(),
            next_port: FIRST_PORT.saturating_add(offset),
            now: Timestamp(0),
            has_ended: false,
        }
    }

    /// Nobody moves packets any more: streams are reset, listeners end, and no more of either are made.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        for (_, listening) in self.listeners.drain() {
            // Whoever waits now, and whoever is about to.
            listening.notify.notify_waiters();
            listening.notify.notify_one();
        }
        for (_, socket) in self.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket.abort();
        }
    }

    pub(super) fn set_addresses(&mut self, addresses: &[IpAddr]) {
        let unicast = |ip: &&IpAddr| IpAddress::from(**ip).is_unicast();
        self.addresses = addresses.iter().filter(unicast).copied().collect();
        let own = &self.addresses;
        self.interface.update_ip_addrs(|list| {
            list.clear();
            for address in own {
                // Every address is one hop away: which are peers is decided elsewhere. What does not fit is not listened on.
                let _ = list.push(IpCidr::new(IpAddress::from(*address), 0));
            }
        });
    }

    pub(super) fn inject(&mut self, packet: Vec<u8>) {
        if let Some(Packet { source, target, kind: Kind::Tcp { to, step: Step::Open, .. }, .. }) =
            Packet::parse(&packet)
            && !self.makes_room(source, target, to)
        {
            // Not refused but dropped: the peer tries again.
            return;
        }
        self.recovery.heard(self.now, &packet);
        self.queues.push(packet);
    }

    /// Whether a request for a connection can be answered. One to a port that nobody listens on can: it is refused.
    fn makes_room(&mut self, source: IpAddr, target: IpAddr, port: u16) -> bool {
        if !self.addresses.contains(&target) {
            return false;
        }
        let from_one = self.tcp().filter(|socket| is_from(socket, source)).count();
        let total = self.sockets.iter().count();
        let Some(listening) = self.listeners.get_mut(&port) else { return true };
        let sockets = &self.sockets;
        let waiting = listening.waiting.iter().chain(&listening.ready);
        let theirs = waiting.filter(|handle| is_from(sockets.get(**handle), source)).count();
        let asked = listening.asked.iter().filter(|ip| **ip == source).count();
        let fits = from_one < FROM_ONE
            && total.saturating_add(listening.asked.len()) < SOCKETS
            && listening.length() < BACKLOG
            && theirs.saturating_add(asked) < BACKLOG_OF_ONE;
        if fits {
            listening.asked.push(source);
        }
        fits
    }

    fn tcp(&self) -> impl Iterator<Item = &tcp::Socket<'static>> {
        self.sockets.iter().map(|(_, socket)| {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket
        })
    }

    pub(super) fn poll(&mut self, now: Timestamp) -> (Vec<Vec<u8>>, Option<Duration>) {
        self.now = now.max(self.now);
        let at = Instant::from_millis(i64::try_from(self.now.0.saturating_mul(HASTE)).unwrap_or(i64::MAX));
        self.grow_backlogs();
        self.work(at);
        self.settle_backlogs();
        self.bury_orphans();
        self.recovery.probe(self.now);
        let mut packets = self.recovery.take();
        let (recovery, now) = (&mut self.recovery, self.now);
        packets.extend(self.queues.take_outgoing().into_iter().filter(|packet| recovery.sent(now, packet)));
        let delay = self.interface.poll_delay(at, &self.sockets);
        let delay = delay.map(|delay| Duration::from_micros(delay.total_micros() / HASTE));
        (packets, [delay, self.recovery.delay(self.now)].into_iter().flatten().min())
    }

    /// Works through what came in, a few packets at a time: what comes together is acknowledged as if it had come one after the other
    /// (RFC 9293, SHLD-19). One acknowledgement of a whole window would be one to lose, and the sender's window grows by their number.
    fn work(&mut self, at: Instant) {
        let few = (self.queues.waiting() / ANSWERS).clamp(FEWEST, MOST);
        loop {
            let taken = (0..few)
                .take_while(|_| {
                    let step = self.interface.poll_ingress_single(at, &mut self.queues, &mut self.sockets);
                    step != PollIngressSingleResult::None
                })
                .count();
            while self.interface.poll_egress(at, &mut self.queues, &mut self.sockets)
                == PollResult::SocketStateChanged
            {}
            if taken < few {
                return;
            }
        }
    }

    /// A listening socket takes one connection: there must be as many as were asked for.
    fn grow_backlogs(&mut self) {
        for (port, listening) in &mut self.listeners {
            let sockets = &self.sockets;
            let is_idle = |handle: &&SocketHandle| sockets.get::<tcp::Socket<'_>>(**handle).is_listening();
            let idle = listening.waiting.iter().filter(is_idle).count();
            for _ in idle..listening.asked.len() {
                let mut socket = socket();
                socket.set_timeout(Some(HALF_OPEN));
                if socket.listen(*port).is_ok() {
                    listening.waiting.push(self.sockets.add(socket));
                }
            }
            listening.asked.clear();
        }
    }

    fn settle_backlogs(&mut self) {
        for listening in self.listeners.values_mut() {
            for handle in std::mem::take(&mut listening.waiting) {
                match self.sockets.get::<tcp::Socket<'_>>(handle).state() {
                    State::SynReceived => listening.waiting.push(handle),
                    State::Established | State::CloseWait => {
                        self.sockets.get_mut::<tcp::Socket<'_>>(handle).set_timeout(Some(SILENCE));
                        listening.ready.push_back(handle);
                        listening.notify.notify_one();
                    }
                    // Nobody took it, or it broke off.
                    State::Listen => drop(self.sockets.remove(handle)),
                    _ => self.orphans.push((handle, self.now)),
                }
            }
        }
    }

    fn bury_orphans(&mut self) {
        let (sockets, now) = (&mut self.sockets, self.now);
        self.orphans.retain(|(handle, since)| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            if now.since(*since) > LINGER || socket.can_recv() {
                socket.abort();
            }
            // A reset is sent with the next poll; then it has no other end any more.
            let is_over = match socket.state() {
                State::Closed => socket.remote_endpoint().is_none(),
                state => state == State::TimeWait,
            };
            if is_over {
                sockets.remove(*handle);
            }
            !is_over
        });
    }

    pub(super) fn listen(&mut self, port: u16) -> io::Result<()> {
        if self.has_ended {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if port == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let new = Listening {
            waiting: Vec::new(),
            ready: VecDeque::new(),
            asked: Vec::new(),
            notify: Arc::new(Notify::new()),
        };
        self.listeners.insert(port, new);
        Ok(())
    }

    /// Nobody listens on a port any more: what was not accepted is reset.
    pub(super) fn stop_listening(&mut self, port: u16) {
        let Some(listening) = self.listeners.remove(&port) else { return };
        for handle in listening.waiting.into_iter().chain(listening.ready) {
            self.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
            self.orphans.push((handle, self.now));
        }
    }

    /// What tells that a connection may be ready.
    pub(super) fn notify(&self, port: u16) -> Option<Arc<Notify>> {
        self.listeners.get(&port).map(|listening| Arc::clone(&listening.notify))
    }

    /// The next connection to a port: its socket, its own and its other end.
    pub(super) fn accept(&mut self, port: u16) -> Option<(SocketHandle, SocketAddr, SocketAddr)> {
        let listening = self.listeners.get_mut(&port)?;
        while let Some(handle) = listening.ready.pop_front() {
            let socket = self.sockets.get::<tcp::Socket<'_>>(handle);
            match (socket.local_endpoint(), socket.remote_endpoint()) {
                (Some(local), Some(remote)) => return Some((handle, end(local), end(remote))),
                // It broke off while it waited.
                _ => self.orphans.push((handle, self.now)),
            }
        }
        None
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> io::Result<(SocketHandle, SocketAddr)> {
        if self.has_ended {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let own = self.addresses.iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).copied();
        let own = own.ok_or(io::ErrorKind::AddrNotAvailable)?;
        if self.sockets.iter().count() >= SOCKETS {
            return Err(io::Error::other("as many connections as this node may have"));
        }
        let port = self.free_port().ok_or(io::ErrorKind::AddrInUse)?;
        let mut socket = socket();
        let local = SocketAddr::new(own, port);
        let connected =
            socket.connect(self.interface.context(), IpEndpoint::from(to), IpEndpoint::from(local));
        connected.map_err(|_| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        Ok((self.sockets.add(socket), local))
    }

    fn free_port(&mut self) -> Option<u16> {
        let used: std::collections::HashSet<u16> =
            self.tcp().filter_map(tcp::Socket::local_endpoint).map(|at| at.port).collect();
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !used.contains(&port) && !self.listeners.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Its stream is gone. As a kernel does it: what was not read is answered with a reset, else what was written still goes.
    pub(super) fn let_go(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        if socket.can_recv() {
            socket.abort()
        } else {
            socket.close()
        }
        self.orphans.push((handle, self.now));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.sockets.iter().count()
    }
}

const fn seconds(count: u64) -> Span {
    Span::from_secs(count.saturating_mul(HASTE))
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_congestion_control(tcp::CongestionControl::Cubic);
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.set_timeout(Some(SILENCE));
    socket
}

fn is_from(socket: &tcp::Socket<'_>, source: IpAddr) -> bool {
    socket.remote_endpoint().is_some_and(|remote| IpAddr::from(remote.addr) == source)
}

fn end(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}
