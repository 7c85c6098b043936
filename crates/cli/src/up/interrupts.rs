//! Ctrl-C and SIGTERM, counted: the first asks for an orderly end, the second kills what is left.

use std::io;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How often somebody wished for the end.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    count: watch::Receiver<u32>,
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub(super) fn take_over() -> io::Result<Self> {
        let (raise, interrupts) = Self::by_hand();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind)?;
            let raise = raise.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    raise.send_modify(|count| *count = count.saturating_add(1));
                }
            });
        }
        Ok(interrupts)
    }

    /// Ones that are raised by hand.
    pub(super) fn by_hand() -> (watch::Sender<u32>, Self) {
        let (raise, count) = watch::channel(0);
        (raise, Self { count })
    }

    /// Resolves at the `wanted`th interrupt, or at once if it came before.
    pub(super) async fn at_least(&self, wanted: u32) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
