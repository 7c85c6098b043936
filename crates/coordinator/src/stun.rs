//! STUN: tells a node where its datagrams come from. Each source has a small allowance a second, so that a forged source gets no
//! flood; an answer is hardly longer than what asked for it.

use crate::door::source;
use allod_daemon::shutdown::Shutdown;
use allod_meshproto::{limits, stun};
use std::{collections::hash_map::RandomState, hash::BuildHasher as _, net::IpAddr, time::Duration};
use tokio::{net::UdpSocket, time::Instant};

/// Answers to one source in one second. Sources share a counter now and then: it is a bound, not a promise.
const A_SECOND: u16 = 32;
const COUNTERS: usize = 8192;
const SECOND: Duration = Duration::from_secs(1);

/// Answers until it is told to end.
pub(crate) async fn serve(socket: UdpSocket, shutdown: Shutdown) {
    let mut allowance = Allowance::new(Instant::now());
    let mut datagram = [0; limits::STUN_MESSAGE];
    loop {
        let received = tokio::select! {
            () = shutdown.requested() => return,
            received = socket.recv_from(&mut datagram) => received,
        };
        // An error here is about one datagram before (ICMP), not about the socket.
        let Ok((length, from)) = received else {
            tokio::task::yield_now().await;
            continue;
        };
        let bytes = datagram.get(..length).unwrap_or_default();
        let Ok(transaction) = stun::read_request(bytes) else { continue };
        if allowance.take(from.ip(), Instant::now()) {
            let _ = socket.send_to(&stun::answer(transaction, from), from).await;
        }
    }
}

struct Allowance {
    counters: Vec<u16>,
    hasher: RandomState,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { counters: vec![0; COUNTERS], hasher: RandomState::new(), since: now }
    }

    fn take(&mut self, from: IpAddr, now: Instant) -> bool {
        if now.duration_since(self.since) >= SECOND {
            self.counters.fill(0);
            self.since = now;
        }
        let count = u64::try_from(COUNTERS).unwrap_or(1);
        let at = usize::try_from(self.hasher.hash_one(source(from)) % count).unwrap_or(0);
        let Some(counter) = self.counters.get_mut(at).filter(|counter| **counter < A_SECOND) else {
            return false;
        };
        *counter = counter.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_allowance_and_no_more_each_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        let taken = (0..100).filter(|_| allowance.take(from, start)).count();
        assert_eq!(taken, usize::from(A_SECOND));
        assert!(allowance.take(from, start + SECOND));
    }

    #[test]
    fn many_sources_need_no_more_memory_than_one() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        for number in 0..100_000_u32 {
            allowance.take(IpAddr::V4(number.into()), start);
        }
        assert_eq!(allowance.counters.len(), COUNTERS);
    }

    #[tokio::test]
    async fn both_forms_of_a_request_are_answered_and_nothing_else_is() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::by_hand();
        let task = tokio::spawn(serve(server, shutdown));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stock = stun::request([7; 12]);
        let mut plain = stock.get(..20).unwrap().to_vec();
        plain[3] = 0;
        let mut broken = stock.clone();
        broken[39] ^= 1;
        for (request, is_answered) in [(broken, false), (vec![0; 3], false), (stock, true), (plain, true)] {
            client.send_to(&request, address).await.unwrap();
            if is_answered {
                let mut bytes = [0; 1500];
                let length = client.recv(&mut bytes).await.unwrap();
                let answer = stun::read_answer(&bytes[..length]).unwrap();
                assert_eq!((answer.transaction, answer.source), ([7; 12], client.local_addr().unwrap()));
            }
        }
        trigger.shut_down();
        task.await.unwrap();
    }
}
