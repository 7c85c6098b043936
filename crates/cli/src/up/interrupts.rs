//! Ctrl-C and SIGTERM, counted: the first asks for an orderly end, the second kills what is left. SIGHUP is the wish to
//! replace the proxy, but when it says that the terminal is gone it asks for the end.

use std::io::{self, IsTerminal as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

/// How often somebody wished for the end.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    count: watch::Receiver<u32>,
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM and SIGHUP; what comes out beside it are wishes to replace the proxy.
    pub(super) fn take_over() -> io::Result<(Self, mpsc::UnboundedReceiver<()>)> {
        let (raise, interrupts) = Self::by_hand();
        let (wish, wishes) = mpsc::unbounded_channel();
        let had_terminal = io::stdin().is_terminal();
        let (mut hangups, end) = (signal(SignalKind::hangup())?, raise.clone());
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                // Of a terminal that is gone nothing can be asked.
                if had_terminal && rustix::termios::tcgetattr(io::stdin()).is_err() {
                    end.send_modify(|count| *count = count.saturating_add(1));
                } else if wish.send(()).is_err() {
                    return;
                }
            }
        });
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind)?;
            let raise = raise.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    raise.send_modify(|count| *count = count.saturating_add(1));
                }
            });
        }
        Ok((interrupts, wishes))
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
