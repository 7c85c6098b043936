//! What waits for one client: frames, bounded in number and bytes. When it is full the oldest go.

use allod_meshproto::{
    NodeKey,
    derp::{Frame, put_received},
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Frames that wait, at most.
const FRAMES: usize = 512;
/// Bytes that wait, at most.
const BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    /// Puts a packet at the end.
    pub(super) fn put_packet(&self, from: NodeKey, packet: &[u8]) {
        let mut wire = Vec::with_capacity(packet.len().saturating_add(37));
        if put_received(from, packet, &mut wire).is_ok() {
            self.put(wire);
        }
    }

    /// Puts another frame at the end.
    pub(super) fn say(&self, frame: &Frame) {
        let mut wire = Vec::new();
        if frame.write(&mut wire).is_ok() {
            self.put(wire);
        }
    }

    /// Lets nothing more in; what waits is sent still.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// The next frame; `None` once it is closed and empty. For one reader.
    pub(super) async fn take(&self) -> Option<Vec<u8>> {
        loop {
            let woken = self.wake.notified();
            {
                let mut waiting = self.lock();
                if let Some(frame) = waiting.take() {
                    return Some(frame);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            woken.await;
        }
    }

    /// The next frame, if there is one.
    pub(super) fn take_now(&self) -> Option<Vec<u8>> {
        self.lock().take()
    }

    fn put(&self, frame: Vec<u8>) {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return;
        }
        waiting.bytes = waiting.bytes.saturating_add(frame.len());
        waiting.frames.push_back(frame);
        while waiting.frames.len() > FRAMES || waiting.bytes > BYTES {
            drop(waiting.take());
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_fetched_is_dropped_the_oldest_first() {
        let queue = Queue::default();
        for number in 0..2_000_u16 {
            queue.put_packet(NodeKey::new([1; 32]), &number.to_be_bytes());
        }
        assert_eq!(queue.lock().frames.len(), FRAMES);
        assert!(queue.take_now().unwrap().ends_with(&1488_u16.to_be_bytes()));
    }

    #[test]
    fn large_packets_are_bounded_by_their_bytes() {
        let queue = Queue::default();
        for _ in 0..100 {
            queue.put_packet(NodeKey::new([1; 32]), &[0; 64 * 1024]);
        }
        assert!(queue.lock().bytes <= BYTES && queue.lock().frames.len() == 15);
        while queue.take_now().is_some() {}
        assert_eq!(queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_waits_and_then_ends() {
        let queue = Queue::default();
        queue.say(&Frame::KeepAlive);
        queue.close();
        queue.say(&Frame::KeepAlive);
        assert!(queue.take().await.is_some());
        assert!(queue.take().await.is_none());
    }
}
