//! A stream's frames: batched, chained, each signed; ended within a second when the key is revoked.

use crate::server::{Service, reply::ReplyBytes};
use allod_proto::{
    Fault, FaultCode, Nonce,
    command::{Frame, StreamItem},
};
use allod_signing::{FrameSigner, Trust, Verified, sshsig, still_holds};
use bytes::Bytes;
use http_body_util::{BodyExt, channel::Channel};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

const IDLE: Duration = Duration::from_secs(15);
pub(super) const TICK: Duration = Duration::from_millis(500);

/// The body of a stream's reply; a task of its own fills it.
pub(super) fn frames<S: Service>(
    service: Arc<S>,
    nonce: Nonce,
    caller: Arc<Verified>,
    items: mpsc::Receiver<StreamItem>,
) -> ReplyBytes {
    let (sender, body) = Channel::<Bytes, Infallible>::new(4);
    let (listens, gone) = oneshot::channel::<Infallible>();
    tokio::spawn(async move {
        let mut pump = Pump { service, caller, signer: FrameSigner::new(nonce), sender };
        tokio::select! {
            () = pump.run(items) => {}
            // What fills the stream hears of it at once, not with the next frame.
            _ = gone => {}
        }
    });
    // Dropped with the body, when the client's connection ends.
    body.map_frame(move |frame| {
        let _listens = &listens;
        frame
    })
    .boxed()
}

/// Whether the key that was believed before still is: bodies take their time, streams their hours.
///
/// # Errors
/// `Refused`.
pub(super) fn still_enrolled<S: Service>(service: &S, verified: &Verified) -> Result<(), Fault> {
    let keys = service.keys();
    let trust = Trust { audience: &keys.audience, enrolled: &keys.enrolled, revoked: &keys.revoked };
    still_holds(verified, trust, service.now())
        .map_err(|_| Fault::new(FaultCode::Refused, "the key was revoked, or what it may do has changed"))
}

struct Pump<S> {
    service: Arc<S>,
    caller: Arc<Verified>,
    signer: FrameSigner,
    sender: http_body_util::channel::Sender<Bytes>,
}

impl<S: Service> Pump<S> {
    async fn run(&mut self, mut items: mpsc::Receiver<StreamItem>) {
        let mut last_sent = Instant::now();
        loop {
            let next = tokio::time::timeout(TICK, items.recv()).await;
            if let Err(fault) = still_enrolled(&*self.service, &self.caller) {
                self.send(&StreamItem::Fault(fault), true).await;
                return;
            }
            let item = match next {
                Ok(Some(item)) => item,
                Ok(None) => StreamItem::End {},
                Err(_) if last_sent.elapsed() >= IDLE => StreamItem::Idle {},
                Err(_) => continue,
            };
            let last = matches!(item, StreamItem::End {} | StreamItem::Fault(_));
            if !self.send(&item, last).await || last {
                return;
            }
            last_sent = Instant::now();
        }
    }

    /// Whether the client still listens.
    async fn send(&mut self, item: &StreamItem, last: bool) -> bool {
        let payload = serde_json::to_string(item).unwrap_or_default();
        let signed = match self.signer.sign(self.service.identity(), payload.as_bytes(), last) {
            Ok(signed) => signed,
            Err(error) => {
                tracing::error!(%error, "a frame could not be signed");
                return false;
            }
        };
        let frame = Frame {
            seq: signed.sequence,
            before: signed.before,
            payload,
            last,
            signature: sshsig::to_base64(&signed.signature),
        };
        let mut line = serde_json::to_vec(&frame).unwrap_or_default();
        line.push(b'\n');
        self.deliver(line.into()).await
    }

    /// Waits for a client that reads slowly, but not with a key that was revoked meanwhile: it hears no more.
    async fn deliver(&mut self, line: Bytes) -> bool {
        let Self { service, caller, sender, .. } = self;
        let mut sending = std::pin::pin!(sender.send_data(line));
        loop {
            match tokio::time::timeout(TICK, &mut sending).await {
                Ok(sent) => return sent.is_ok(),
                Err(_) if still_enrolled(&**service, caller).is_err() => return false,
                Err(_) => {}
            }
        }
    }
}
