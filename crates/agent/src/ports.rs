//! Ports for instances, below the range that the kernel hands out by itself.

use allod_proto::{Fault, FaultCode, executor::Instance};
use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;

/// Ports that were handed out and may not be listened on yet.
#[derive(Debug)]
pub(crate) struct Ports {
    next: Mutex<(u16, HashSet<u16>)>,
}

impl Ports {
    /// Ports from somewhere in the range on: another agent on this machine, or this one's life before, began elsewhere,
    /// so that a port that was just let go is not at once another app's.
    pub(crate) fn starting_at(place: u32) -> Self {
        let offset = u16::try_from(place % u32::from(LAST - FIRST)).unwrap_or_default();
        Self { next: Mutex::new((FIRST + offset, HashSet::new())) }
    }

    /// A free port on loopback that no instance has.
    pub(crate) fn reserve(&self, instances: &[Instance]) -> Result<SocketAddr, Fault> {
        let taken: HashSet<u16> =
            instances.iter().filter_map(|instance| instance.address.map(|address| address.port())).collect();
        let mut held = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in FIRST..=LAST {
            let port = held.0.clamp(FIRST, LAST);
            held.0 = if port == LAST { FIRST } else { port + 1 };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if !taken.contains(&port) && !held.1.contains(&port) && TcpListener::bind(address).is_ok() {
                held.1.insert(port);
                return Ok(address);
            }
        }
        Err(Fault::new(FaultCode::Busy, format!("no port from {FIRST} to {LAST} is free on the server")))
    }

    /// The instance that was to have it has it, or never will.
    pub(crate) fn release(&self, address: SocketAddr) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&address.port());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_last_port_comes_the_first() {
        let ports = Ports::starting_at(u32::from(LAST - FIRST) - 1);
        let seen: Vec<u16> = (0..3).map(|_| ports.reserve(&[]).unwrap().port()).collect();
        assert!(seen.iter().all(|port| (FIRST..=LAST).contains(port)), "{seen:?}");
        assert!(seen.iter().any(|port| *port < LAST - 1), "{seen:?}");
    }

    #[test]
    fn a_port_is_not_handed_out_twice_until_it_is_released() {
        let ports = Ports::starting_at(u32::MAX);
        let first = ports.reserve(&[]).unwrap();
        let second = ports.reserve(&[]).unwrap();
        assert_ne!(first, second);
        let held = TcpListener::bind(second);
        assert!(held.is_ok(), "the port is free for the instance");
    }
}
