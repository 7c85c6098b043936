//! Map sessions: one stream of maps for each node. A newer one takes the place of an older one, which then sends nothing more. A
//! frame is made only when the reader has room for it, from what it was told last and what is now: nothing queues up.

use super::Mapper;
use crate::view::View;
use allod_meshproto::{
    control::{MapResponse, NodeId},
    map_frame::{self, Compression},
};
use allod_proto::Timestamp;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame};
use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

/// A sign of life goes out after this long without anything else.
const KEEP_ALIVE: Duration = Duration::from_secs(45);
/// A reader that takes nothing for this long has its stream ended.
const SLOW: Duration = Duration::from_secs(90);
/// Frames are this far apart at least: what changes meanwhile goes out together.
const APART: Duration = Duration::from_millis(50);
/// How long a node whose stream ended counts as online: it may only have changed networks.
pub(crate) const OFFLINE_GRACE: Duration = Duration::from_secs(10);

/// Which nodes have a stream.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    by_node: HashMap<NodeId, (u64, Option<oneshot::Sender<()>>)>,
}

/// A node's place in [`Sessions`].
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
    replaced: oneshot::Receiver<()>,
}

impl Sessions {
    /// Gives a node's stream its place and takes it from the one before.
    pub(crate) fn begin(&self, node: NodeId) -> Place {
        let (sender, replaced) = oneshot::channel();
        let mut live = self.lock();
        let number = live.next;
        live.next = number.wrapping_add(1);
        live.by_node.insert(node, (number, Some(sender)));
        Place { node, number, replaced }
    }

    /// Whether this stream is the node's newest, whether it runs still or not.
    pub(crate) fn is_newest(&self, node: NodeId, number: u64) -> bool {
        self.lock().by_node.get(&node).is_some_and(|(newest, _)| *newest == number)
    }

    /// Forgets a node whose newest stream was this one; says whether it was.
    pub(crate) fn forget(&self, node: NodeId, number: u64) -> bool {
        let mut live = self.lock();
        let is_newest = live.by_node.get(&node).is_some_and(|(newest, _)| *newest == number);
        if is_newest {
            live.by_node.remove(&node);
        }
        is_newest
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stream is made from.
pub(crate) struct Stream {
    pub(crate) mapper: Arc<Mapper>,
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) compression: Compression,
    pub(crate) now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Stream {
    /// Sends the map and what changes in it, until the reader is gone or too slow, the node is deleted, or a newer stream has
    /// its place.
    pub(crate) async fn run(mut self, place: &mut Place, frames: mpsc::Sender<Bytes>) {
        let mut told: Option<Arc<View>> = None;
        let mut sent = Instant::now();
        loop {
            let room = tokio::select! {
                biased;
                _ = &mut place.replaced => return,
                room = timeout(SLOW, frames.reserve()) => room,
            };
            let Ok(Ok(room)) = room else { return };
            let view = Arc::clone(&self.views.borrow_and_update());
            if !view.state.nodes().contains_key(&place.node) {
                return;
            }
            let response = match &told {
                None => self.mapper.full(&view, place.node, (self.now)()),
                Some(told) => self.mapper.delta(told, &view, place.node),
            };
            told = Some(view);
            let response = response.or_else(|| (sent.elapsed() >= KEEP_ALIVE).then(MapResponse::alive));
            if let Some(response) = response {
                let frame = match map_frame::write(&response, self.compression) {
                    Ok(frame) => frame,
                    Err(error) => {
                        tracing::error!(node = place.node.0, %error, "a map could not be written");
                        return;
                    }
                };
                room.send(frame.into());
                sent = Instant::now();
            } else {
                drop(room);
            }
            if !self.wait(place, &frames, sent).await {
                return;
            }
        }
    }

    /// Waits for something to say; `false` when there is nobody to say it to.
    async fn wait(&mut self, place: &mut Place, frames: &mpsc::Sender<Bytes>, sent: Instant) -> bool {
        let alive = sent.checked_add(KEEP_ALIVE).unwrap_or(sent);
        tokio::select! {
            biased;
            _ = &mut place.replaced => return false,
            () = frames.closed() => return false,
            changed = self.views.changed() => if changed.is_err() { return false },
            () = sleep_until(alive) => return true,
        }
        let apart = sent.checked_add(APART).unwrap_or(sent);
        tokio::select! {
            biased;
            _ = &mut place.replaced => false,
            () = frames.closed() => false,
            () = sleep_until(apart) => true,
        }
    }
}

/// A body of frames as they come.
struct Frames(mpsc::Receiver<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A body and the way to fill it: one frame waits at most.
pub(crate) fn body() -> (mpsc::Sender<Bytes>, UnsyncBoxBody<Bytes, Infallible>) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, UnsyncBoxBody::new(Frames(receiver)))
}

#[cfg(test)]
mod tests;
