//! Following the daemon: its bell says that something changed, then it is asked. Between two rings the interfaces are
//! looked at, and now and then the daemon; when it is gone it is looked for again, less and less often.

use super::Core;
use crate::MeshStatus;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// The longest time between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// The shortest: a bell that rings without end costs no more than this.
const CALM: Duration = Duration::from_millis(200);
/// How long nobody looks for a daemon that is gone, the first time and at most.
const AWAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A bell that rang for so long was a daemon that lived.
const LIVED: Duration = Duration::from_secs(10);

/// Follows until dropped.
pub(super) async fn run(core: Arc<Core>, tell: watch::Sender<MeshStatus>) {
    let mut pause = AWAY.0;
    loop {
        look(&core, &tell).await;
        let begun = Instant::now();
        if let Ok(mut bell) = core.api.bell().await {
            // What changed before the bell was there is seen now.
            loop {
                look(&core, &tell).await;
                sleep(CALM).await;
                if let Ok(false) = timeout(LOOK, bell.rung()).await {
                    break;
                }
            }
        }
        if begun.elapsed() >= LIVED {
            pause = AWAY.0;
        }
        look(&core, &tell).await;
        sleep(pause).await;
        pause = (pause * 2).min(AWAY.1);
    }
}

async fn look(core: &Core, tell: &watch::Sender<MeshStatus>) {
    let before = tell.borrow().clone();
    let now = core.look(&before).await;
    tell.send_if_modified(|last| {
        let changed = *last != now;
        if changed {
            say(last, &now);
            *last = now;
        }
        changed
    });
}

fn say(before: &MeshStatus, now: &MeshStatus) {
    let grave = now.troubles.iter().find(|trouble| trouble.is_grave());
    match grave {
        Some(trouble) if !before.troubles.contains(trouble) => {
            tracing::warn!(%trouble, fix = trouble.fix(), "the mesh");
        }
        None if now.up && !before.up => {
            tracing::info!(addresses = ?now.addresses, name = now.name, "the mesh is up");
        }
        Some(_) | None => {}
    }
}
