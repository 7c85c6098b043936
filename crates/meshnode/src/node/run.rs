//! The loop: whatever happens is given to engine and stack, and what they want done is done, without waiting.

use super::{
    Clock, Interfaces, NodeStatus, RelayPacket, Sockets, Wires, awake::Awake, lock, places, sockets::Batch,
};
use crate::{
    engine::{Engine, Output, TICK},
    netstack::Netstack,
};
use allod_meshproto::netmap::StoredMap;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// How often the interfaces are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the stack may be left alone.
const IDLE: Duration = Duration::from_secs(1);
/// Rounds between engine and stack before the sockets are looked at again.
const ROUNDS: usize = 32;
/// Relayed packets that are taken at once.
const BATCH: usize = 64;

pub(super) struct Running {
    pub(super) engine: Arc<Mutex<Engine>>,
    pub(super) net: Arc<Netstack>,
    pub(super) sockets: Sockets,
    pub(super) interfaces: Interfaces,
    pub(super) clock: Clock,
    pub(super) status: watch::Sender<NodeStatus>,
}

impl Running {
    pub(super) async fn run(self, mut wires: Wires) {
        let (found_servers, mut servers) = mpsc::channel(1);
        let (mut buffer, mut batch) = (Vec::new(), Batch::default());
        let mut awake = Awake::since((self.clock)());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        wires.maps.mark_changed();
        // When a client is gone, the data plane goes on with what it has.
        let (mut has_maps, mut has_relay) = (true, true);
        loop {
            let again = self.pump(&mut awake, &wires, &mut batch);
            tokio::select! {
                biased;
                _ = ticks.tick() => lock(&self.engine).tick((self.clock)()),
                _ = looks.tick() => self.look(),
                changed = wires.maps.changed(), if has_maps => match changed {
                    Ok(()) => self.take_map(&mut wires.maps, &found_servers),
                    Err(_) => has_maps = false,
                },
                Some(found) = servers.recv() => self.take_servers(&found),
                relayed = wires.from_relay.recv(), if has_relay => match relayed {
                    Some(packet) => self.take_relayed(packet, &mut wires.from_relay),
                    None => has_relay = false,
                },
                Ok(()) = self.sockets.readable() => {
                    let (now, mut engine) = ((self.clock)(), lock(&self.engine));
                    self.sockets.read(&mut buffer, |from, datagram| engine.on_udp(now, from, datagram));
                }
                () = self.net.kicked() => {}
                () = sleep_until(Instant::now() + again) => {}
            }
        }
    }

    /// Moves packets between engine, stack, sockets and relays until there are none. When to come back.
    fn pump(&self, awake: &mut Awake, wires: &Wires, batch: &mut Batch) -> Duration {
        let mut again = IDLE;
        for _ in 0..ROUNDS {
            let now = (self.clock)();
            let mut engine = lock(&self.engine);
            if let Some(slept) = awake.look(now) {
                tracing::debug!(?slept, "awake again");
                engine.on_wake(now, slept);
            }
            self.drain(&mut engine, wires, batch);
            let (packets, delay) = self.net.poll(awake.lived());
            let is_quiet = packets.is_empty();
            for packet in packets {
                engine.on_ip(now, &packet);
                // What it becomes goes before the next is worked on, rather than a window of each being held at once.
                drop(packet);
                self.drain(&mut engine, wires, batch);
            }
            drop(engine);
            self.sockets.flush(batch);
            again = delay.unwrap_or(IDLE).min(IDLE);
            if is_quiet {
                return again.max(Duration::from_millis(1));
            }
        }
        again.min(Duration::from_millis(1))
    }

    /// Does what the engine wants done.
    fn drain(&self, engine: &mut Engine, wires: &Wires, batch: &mut Batch) {
        while let Some(output) = engine.next_output() {
            self.put_out(output, wires, batch);
        }
    }

    fn put_out(&self, output: Output, wires: &Wires, batch: &mut Batch) {
        match output {
            Output::Udp { to, datagram } => self.sockets.send(batch, to, &datagram),
            Output::Relay { region, to, packet } => {
                // Full or gone: what it carries is sent again by whoever misses it.
                let _ = wires.to_relay.try_send(RelayPacket { region, peer: to, packet });
            }
            Output::Packet(packet) => self.net.inject(packet),
            Output::Standing(standing) => drop(wires.standing.send_replace(standing)),
        }
    }

    fn take_map(
        &self,
        maps: &mut watch::Receiver<Option<Arc<StoredMap>>>,
        found: &mpsc::Sender<Vec<(u32, SocketAddr)>>,
    ) {
        let Some(stored) = maps.borrow_and_update().clone() else { return };
        let (addresses, name) = {
            let mut engine = lock(&self.engine);
            engine.on_map((self.clock)(), &stored.map, stored.heard_at);
            (engine.addresses().collect::<Vec<_>>(), stored.map.me.name.trim_end_matches('.').to_owned())
        };
        self.net.set_addresses(&addresses);
        let status = NodeStatus { addresses, name: Some(name).filter(|name| !name.is_empty()) };
        self.status.send_if_modified(|told| {
            let is_new = *told != status;
            *told = status;
            is_new
        });
        self.look();
        let (found, relays) = (found.clone(), Arc::clone(&stored.map.derp_map));
        // Names resolve when they do; nothing waits for it.
        tokio::spawn(async move { found.send(places::stun_servers(&relays).await).await });
    }

    fn take_servers(&self, servers: &[(u32, SocketAddr)]) {
        lock(&self.engine).on_stun_servers((self.clock)(), servers);
    }

    fn take_relayed(&self, first: RelayPacket, more: &mut mpsc::Receiver<RelayPacket>) {
        let (now, mut engine) = ((self.clock)(), lock(&self.engine));
        engine.on_relay(now, first.region, first.peer, &first.packet);
        for _ in 0..BATCH {
            let Ok(next) = more.try_recv() else { return };
            engine.on_relay(now, next.region, next.peer, &next.packet);
        }
    }

    /// Which addresses the machine has, and whether the node still has its own: a map expires by itself.
    fn look(&self) {
        let mut engine = lock(&self.engine);
        let own: Vec<_> = engine.addresses().collect();
        engine.on_interfaces((self.clock)(), &places::addresses(&self.interfaces, &own), self.sockets.port());
        drop(engine);
        let had = self.status.borrow().addresses.clone();
        if had != own {
            self.net.set_addresses(&own);
            self.status.send_modify(|status| status.addresses = own);
        }
    }
}
