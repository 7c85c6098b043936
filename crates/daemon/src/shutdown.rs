//! SIGTERM and SIGINT as a value to wait for. The first asks for an orderly end, the second ends the program at once.

use std::time::Duration;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::Instant,
};

/// Signals this close together are one wish: the system tells a child of the death of each thread of its parent, so a
/// supervisor that is killed is several signals at once (prctl(2), PR_SET_PDEATHSIG).
const SAME_WISH: Duration = Duration::from_millis(500);
/// What the program ends with when it is told twice.
const IMPATIENT: i32 = 130;

/// The wish that the program end. Copies see the same wish.
#[derive(Debug, Clone)]
pub struct Shutdown {
    wished: watch::Receiver<bool>,
}

/// Makes the wish without a signal: for tests, and for programs within programs.
#[derive(Debug)]
pub struct ShutdownTrigger {
    wish: watch::Sender<bool>,
}

impl ShutdownTrigger {
    /// Asks for an orderly end.
    pub fn shut_down(&self) {
        self.wish.send_replace(true);
    }
}

impl Shutdown {
    /// Takes over SIGTERM and SIGINT. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the signals can't be taken over.
    pub fn on_signals() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let (trigger, shutdown) = Self::by_hand();
        tokio::spawn(obey(terminate, interrupt, trigger));
        Ok(shutdown)
    }

    /// One that is triggered by hand.
    #[must_use]
    pub fn by_hand() -> (ShutdownTrigger, Self) {
        let (wish, wished) = watch::channel(false);
        (ShutdownTrigger { wish }, Self { wished })
    }

    /// Resolves when the program is to end; at once if that was so before. Never, if the trigger was dropped unused.
    pub async fn requested(&self) {
        let mut wished = self.wished.clone();
        if wished.wait_for(|wished| *wished).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the program is to end.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.wished.borrow()
    }
}

async fn obey(mut terminate: Signal, mut interrupt: Signal, trigger: ShutdownTrigger) {
    wait_for_one(&mut terminate, &mut interrupt).await;
    trigger.shut_down();
    tracing::info!("told to end");
    let first = Instant::now();
    while first.elapsed() < SAME_WISH {
        wait_for_one(&mut terminate, &mut interrupt).await;
    }
    tracing::warn!("told to end again: ending at once");
    #[expect(clippy::exit, reason = "the second signal is the wish not to wait for anything")]
    std::process::exit(IMPATIENT);
}

async fn wait_for_one(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_to_end_before_the_wish() {
        let (trigger, shutdown) = Shutdown::by_hand();
        assert!(tokio::time::timeout(Duration::from_secs(3600), shutdown.requested()).await.is_err());
        assert!(!shutdown.is_requested());
        drop(trigger);
        assert!(tokio::time::timeout(Duration::from_secs(3600), shutdown.requested()).await.is_err());
    }

    #[tokio::test]
    async fn every_copy_sees_the_wish_also_when_it_asks_late() {
        let (trigger, shutdown) = Shutdown::by_hand();
        let copy = shutdown.clone();
        let waiting = tokio::spawn(async move { copy.requested().await });
        trigger.shut_down();
        waiting.await.unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_signal_is_a_wish() {
        let shutdown = Shutdown::on_signals().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
