//! The relay (DERP): passes packets from node key to node key, for nodes of this network only. Each client has one bounded queue;
//! what a slow one does not fetch is dropped, the oldest first, and costs nobody else anything.

mod connection;
mod queue;

pub(crate) use connection::serve;
use queue::Queue;

use allod_meshproto::{
    NodeKey,
    derp::{Frame, GoneReason},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Peers of whom a client is told when they leave.
const CORRESPONDENTS: usize = 1_024;

/// Who is connected.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    next: u64,
    by_key: HashMap<NodeKey, Arc<Client>>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    key: NodeKey,
    number: u64,
    queue: Queue,
    /// Who sent to this one, to be told when it leaves.
    correspondents: Mutex<HashSet<NodeKey>>,
}

impl Relay {
    /// Gives a node's newest connection its place; one before is ended.
    fn enter(&self, key: NodeKey) -> Arc<Client> {
        let mut clients = self.lock();
        let number = clients.next;
        clients.next = number.wrapping_add(1);
        let client =
            Arc::new(Client { key, number, queue: Queue::default(), correspondents: Mutex::default() });
        if let Some(former) = clients.by_key.insert(key, Arc::clone(&client)) {
            former.queue.say(&Frame::Health("another connection with this node's key took over".to_owned()));
            former.queue.close();
        }
        client
    }

    /// Takes a connection out; who sent to it is told, unless a newer one has its place.
    fn leave(&self, client: &Client) {
        let mut clients = self.lock();
        if clients.by_key.get(&client.key).is_none_or(|newest| newest.number != client.number) {
            return;
        }
        clients.by_key.remove(&client.key);
        let told: Vec<_> = {
            let correspondents = lock(&client.correspondents);
            correspondents.iter().filter_map(|key| clients.by_key.get(key).cloned()).collect()
        };
        drop(clients);
        for other in told {
            other.queue.say(&Frame::PeerGone { peer: client.key, reason: GoneReason::Left });
        }
    }

    /// Passes a packet on, or tells the sender that nobody is there.
    fn pass(&self, from: &Client, to: NodeKey, packet: &[u8]) {
        let target = self.lock().by_key.get(&to).cloned();
        let Some(target) = target else {
            from.queue.say(&Frame::PeerGone { peer: to, reason: GoneReason::NotHere });
            return;
        };
        {
            let mut correspondents = lock(&target.correspondents);
            if correspondents.len() < CORRESPONDENTS {
                correspondents.insert(from.key);
            }
        }
        target.queue.put_packet(from.key, packet);
    }

    /// Ends the connections of whoever is no member any more.
    pub(crate) fn keep(&self, is_member: impl Fn(NodeKey) -> bool) {
        let clients = self.lock();
        clients
            .by_key
            .values()
            .filter(|client| !is_member(client.key))
            .for_each(|client| client.queue.close());
    }

    /// Tells everybody that the relay restarts.
    pub(crate) fn restarting(&self) {
        let milliseconds = std::time::Duration::from_millis;
        let frame = Frame::Restarting { reconnect_in: milliseconds(500), try_for: milliseconds(30_000) };
        self.lock().by_key.values().for_each(|client| {
            client.queue.say(&frame);
            client.queue.close();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> NodeKey {
        NodeKey::new([number; 32])
    }

    fn taken(client: &Client) -> Vec<Frame> {
        let mut wire = Vec::new();
        while let Some(frame) = client.queue.take_now() {
            wire.extend(frame);
        }
        let mut reader = allod_meshproto::derp::FrameReader::default();
        let mut bytes = wire.as_slice();
        std::iter::from_fn(|| reader.push(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn a_packet_for_nobody_is_told_to_its_sender() {
        let relay = Relay::default();
        let one = relay.enter(key(1));
        relay.pass(&one, key(2), b"x");
        assert_eq!(taken(&one), [Frame::PeerGone { peer: key(2), reason: GoneReason::NotHere }]);
    }

    #[test]
    fn the_newest_connection_of_a_node_has_its_place_and_the_older_one_ends() {
        let relay = Relay::default();
        let (old, sender) = (relay.enter(key(1)), relay.enter(key(2)));
        let new = relay.enter(key(1));
        relay.pass(&sender, key(1), b"x");
        assert!(old.queue.is_closed() && !new.queue.is_closed());
        assert!(matches!(taken(&old).as_slice(), [Frame::Health(_)]));
        assert_eq!(taken(&new), [Frame::RecvPacket { from: key(2), packet: b"x".to_vec() }]);
        relay.leave(&old);
        relay.pass(&sender, key(1), b"y");
        assert_eq!(taken(&new).len(), 1, "the older one's end does not take the newer one's place");
    }

    #[test]
    fn who_sent_to_one_that_left_is_told_and_nobody_else() {
        let relay = Relay::default();
        let (one, two, three) = (relay.enter(key(1)), relay.enter(key(2)), relay.enter(key(3)));
        relay.pass(&two, key(1), b"x");
        relay.leave(&one);
        assert_eq!(taken(&two), [Frame::PeerGone { peer: key(1), reason: GoneReason::Left }]);
        assert_eq!(taken(&three), []);
    }

    #[test]
    fn who_is_no_member_any_more_is_put_out() {
        let relay = Relay::default();
        let (one, two) = (relay.enter(key(1)), relay.enter(key(2)));
        relay.keep(|member| member == key(1));
        assert!(!one.queue.is_closed() && two.queue.is_closed());
    }
}
