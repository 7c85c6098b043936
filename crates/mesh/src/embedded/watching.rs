//! Following the node, line by line; while it is away, looking for it.

use super::{Core, judge, odd, trouble};
use crate::{MeshError, MeshStatus};
use allod_proto::node::{NodeAnswer, NodeAsk};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// How often it is looked for a node that is away.
const LOOK: Duration = Duration::from_millis(200);
/// What comes closer together than this is one change: a node that talks without end costs no more than this.
const CALM: Duration = Duration::from_millis(20);

/// Follows until dropped.
pub(super) async fn run(core: Arc<Core>, tell: watch::Sender<MeshStatus>) {
    loop {
        match follow(&core, &tell).await {
            Ok(never) => match never {},
            Err(error) => told(&tell, judge::away(trouble(&error))),
        }
        sleep(LOOK).await;
    }
}

async fn follow(core: &Core, tell: &watch::Sender<MeshStatus>) -> Result<Infallible, MeshError> {
    let mut talk = core.asking.open(&NodeAsk::Watch {}).await?;
    loop {
        match core.asking.next(&mut talk).await? {
            NodeAnswer::Status(state) => told(tell, judge::status(state, core.only)),
            other => return Err(odd(other)),
        }
        sleep(CALM).await;
    }
}

fn told(tell: &watch::Sender<MeshStatus>, now: MeshStatus) {
    tell.send_if_modified(|last| {
        let is_new = *last != now;
        if is_new {
            say(last, &now);
            *last = now;
        }
        is_new
    });
}

fn say(before: &MeshStatus, now: &MeshStatus) {
    match now.troubles.iter().find(|trouble| trouble.is_grave()) {
        Some(trouble) if !before.troubles.contains(trouble) => {
            tracing::warn!(%trouble, fix = trouble.fix(), "the mesh");
        }
        None if now.up && !before.up => {
            tracing::info!(addresses = ?now.addresses, name = now.name, "the mesh is up");
        }
        Some(_) | None => {}
    }
}
