//! Sending the chunks that a server lacks, over a few connections side by side. What was sent stays there, so an
//! interrupted upload goes on where it ended.

use super::packing::refused;
use crate::{commands::servers::bytes, failure::Failure, inventory::Server, session::Session};
use allod_apps::Packed;
use allod_proto::{Digest, FaultCode};
use allod_rpc::client::Client;
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// How many connections carry chunks at the same time.
const CONNECTIONS: usize = 4;

/// What is to be sent where.
pub(super) struct Upload<'u> {
    pub(super) session: &'u Session,
    pub(super) server: &'u Server,
    pub(super) packed: &'u Arc<Packed>,
    pub(super) missing: &'u [Digest],
    pub(super) missing_bytes: u64,
    /// Whether the bar has the terminal for itself.
    pub(super) alone: bool,
    /// Counts up as chunks arrive.
    pub(super) sent: &'u AtomicU64,
}

impl Upload<'_> {
    /// Sends everything.
    pub(super) async fn run(&self, client: &mut Client) -> Result<(), Failure> {
        if self.missing.is_empty() {
            self.session.output.note(&format!("{}: everything is on the server already", self.server.name));
            return Ok(());
        }
        let bar = self.bar();
        let sending = self.send(client, &bar);
        let outcome = tokio::select! {
            outcome = sending => outcome,
            () = self.session.interrupted() => Err(Failure::interrupted("interrupted during the upload; nothing was deployed")),
        };
        bar.finish_and_clear();
        let sent = bytes(self.sent.load(Ordering::Relaxed));
        let (lacked, total) = (bytes(self.missing_bytes), bytes(self.packed.bytes));
        outcome.map_err(|failure| {
            let hint =
                format!("{sent} of {lacked} was sent and stays there; the next deploy goes on from there");
            if failure.fault.hint.is_none() { failure.hint(hint) } else { failure }
        })?;
        self.session.output.note(&format!("{}: sent {sent} of {total}", self.server.name));
        Ok(())
    }

    async fn send(&self, client: &mut Client, bar: &ProgressBar) -> Result<(), Failure> {
        let more = CONNECTIONS.min(self.missing.len()).saturating_sub(1);
        let opening = (0..more).map(|_| self.session.connect(self.server));
        let mut others = try_join_all(opening).await?;
        let next = AtomicUsize::new(0);
        let workers =
            std::iter::once(client).chain(others.iter_mut()).map(|client| self.work(client, &next, bar));
        try_join_all(workers).await.map(|_| ())
    }

    async fn work(&self, client: &mut Client, next: &AtomicUsize, bar: &ProgressBar) -> Result<(), Failure> {
        while let Some(digest) = self.missing.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let packed = Arc::clone(self.packed);
            let reading = tokio::task::spawn_blocking(move || packed.read_chunk(&digest)).await;
            let chunk = reading.map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))?;
            let chunk = chunk.map_err(|error| refused(&error))?;
            let size = chunk.len() as u64;
            client.put_chunk(&self.packed.manifest.spec.app, &digest, chunk.into()).await?;
            self.sent.fetch_add(size, Ordering::Relaxed);
            bar.inc(size);
        }
        Ok(())
    }

    fn bar(&self) -> ProgressBar {
        if !self.session.output.is_live() || !self.alone {
            let (lacked, total) = (bytes(self.missing_bytes), bytes(self.packed.bytes));
            self.session.output.note(&format!("{}: sending {lacked} of {total}", self.server.name));
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(self.missing_bytes);
        let template = "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(self.server.name.clone());
        bar
    }
}
