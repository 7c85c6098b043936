//! Relays: packets to and from other nodes where no direct path is. The home relay is always connected, others while they are
//! used. A relay is believed nothing: it may drop, delay and invent packets, and WireGuard sorts that out. Queues are short and
//! drop what does not fit, as a network does.

mod link;
mod tls;

use crate::{engine::Standing, node::RelayPacket};
use allod_meshproto::{
    control::{DerpMap, DerpRegion},
    key::{NodeKey, NodePrivate},
    netmap::StoredMap,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

/// Packets that wait for one relay.
const QUEUE: usize = 512;
/// How many relays are connected at a time.
const MOST_LINKS: usize = 8;
/// How long a relay that is not home is kept without a packet.
const IDLE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(10);

/// How a relay is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayState {
    /// It is being asked.
    Connecting,
    /// Packets pass.
    Connected,
    /// It can't be had, and why; it is tried again.
    Away(String),
}

/// What relays need.
#[derive(Debug)]
pub struct RelaySettings {
    /// Who this node is there.
    pub node: NodePrivate,
    /// Whose certificates are believed, for relays without a pinned one.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// What goes in and out, all of it bounded.
#[derive(Debug)]
pub struct RelayEnds {
    /// Which relays there are.
    pub maps: watch::Receiver<Option<Arc<StoredMap>>>,
    /// Which of them is home.
    pub standing: watch::Receiver<Standing>,
    /// Packets to send. That it is closed ends the relays.
    pub outgoing: mpsc::Receiver<RelayPacket>,
    /// Packets that came; those that don't fit are dropped.
    pub incoming: mpsc::Sender<RelayPacket>,
    /// How each relay is that is connected or tried.
    pub states: watch::Sender<BTreeMap<u32, RelayState>>,
}

/// Passes packets until nobody sends any more.
pub async fn pass(settings: RelaySettings, ends: RelayEnds) {
    let RelayEnds { mut maps, mut standing, mut outgoing, incoming, states } = ends;
    let settings = Arc::new(settings);
    let mut links = Links {
        settings,
        incoming,
        states,
        standing: standing.clone(),
        home: 0,
        open: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stored = maps.borrow_and_update().clone();
        let relays = stored.map(|stored| Arc::clone(&stored.map.derp_map)).unwrap_or_default();
        links.follow(&relays, standing.borrow_and_update().home);
        loop {
            tokio::select! {
                packet = outgoing.recv() => match packet {
                    Some(packet) => links.send(&relays, packet),
                    None => return,
                },
                changed = maps.changed() => if changed.is_err() { return } else { break },
                changed = standing.changed() => if changed.is_err() { return } else { break },
                _ = sweep.tick() => links.sweep(),
            }
        }
    }
}

struct Links {
    settings: Arc<RelaySettings>,
    incoming: mpsc::Sender<RelayPacket>,
    states: watch::Sender<BTreeMap<u32, RelayState>>,
    standing: watch::Receiver<Standing>,
    home: u32,
    open: HashMap<u32, Link>,
    tasks: JoinSet<()>,
}

struct Link {
    region: DerpRegion,
    queue: mpsc::Sender<(NodeKey, Vec<u8>)>,
    task: AbortHandle,
    used: Instant,
}

impl Links {
    /// Lets go of relays that are other ones now, and goes home.
    fn follow(&mut self, relays: &DerpMap, home: u32) {
        let gone: Vec<u32> = self
            .open
            .iter()
            .filter(|(number, link)| region_of(relays, **number).is_none_or(|region| *region != link.region))
            .map(|(number, _)| *number)
            .collect();
        gone.into_iter().for_each(|number| self.close(number));
        self.home = home;
        if home != 0 {
            self.open(relays, home);
        }
    }

    fn send(&mut self, relays: &DerpMap, packet: RelayPacket) {
        self.open(relays, packet.region);
        let Some(link) = self.open.get_mut(&packet.region) else { return };
        link.used = Instant::now();
        if link.queue.try_send((packet.peer, packet.packet)).is_err() {
            tracing::trace!(region = packet.region, "a relay's queue is full");
        }
    }

    fn open(&mut self, relays: &DerpMap, number: u32) {
        if self.open.contains_key(&number) || self.open.len() >= MOST_LINKS {
            return;
        }
        let Some(region) = region_of(relays, number) else { return };
        let (queue, packets) = mpsc::channel(QUEUE);
        let run = link::Running {
            number,
            region: region.clone(),
            settings: Arc::clone(&self.settings),
            packets,
            incoming: self.incoming.clone(),
            standing: self.standing.clone(),
            states: self.states.clone(),
        };
        let task = self.tasks.spawn(run.run());
        self.open.insert(number, Link { region: region.clone(), queue, task, used: Instant::now() });
    }

    fn close(&mut self, number: u32) {
        if let Some(link) = self.open.remove(&number) {
            link.task.abort();
            self.states.send_modify(|states| drop(states.remove(&number)));
        }
    }

    fn sweep(&mut self) {
        let home = self.home;
        let idle = |(number, link): (&u32, &Link)| {
            (*number != home && link.used.elapsed() >= IDLE).then_some(*number)
        };
        let idle: Vec<u32> = self.open.iter().filter_map(idle).collect();
        idle.into_iter().for_each(|number| self.close(number));
        while self.tasks.try_join_next().is_some() {}
    }
}

fn region_of(relays: &DerpMap, number: u32) -> Option<&DerpRegion> {
    relays.regions.get(&number)?.as_ref()
}

impl Drop for Links {
    fn drop(&mut self) {
        self.states.send_replace(BTreeMap::new());
    }
}

#[cfg(test)]
mod tests;
