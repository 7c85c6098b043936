//! The watcher of one shim: it takes in what the shim says, and says farewell when the exit is on the disk. A shim that
//! can't be reached is looked for as long as it lives: killing what it keeps is for when it is gone, not for when the
//! machine is slow.

use super::{
    link::{self, Link, News, Reached},
    record::InstanceRecord,
    remains,
    table::Table,
};
use crate::shim::order::{Status, ToShim};
use allod_proto::{Fault, FaultCode, InstanceId, Timestamp};
use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::OwnedRwLockReadGuard;

/// The pause before a shim that lives is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often a shim is asked of which nobody knows the process.
const TRIES: u32 = 12;

/// What became of the way to a shim.
pub(super) enum Sought {
    /// It answered.
    Answered(Reached),
    /// It lives, as far as anybody can tell, and did not answer in time.
    Slow,
    /// There is none any more.
    Gone,
}

/// Asks a shim once how its instance stands.
pub(super) async fn ask(table: &Table, record: &InstanceRecord) -> Sought {
    if record.boot != table.boot {
        return Sought::Gone;
    }
    match link::connect(&table.settings.layout.socket(&record.instance.id)).await {
        Ok(reached) => Sought::Answered(reached),
        // Nobody listens any more, or nobody could come to listen.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Sought::Gone
        }
        Err(error) if record.shim.is_none_or(remains::is_same) => {
            tracing::debug!(instance = %record.instance.id, %error, "a shim does not answer yet");
            Sought::Slow
        }
        Err(_) => Sought::Gone,
    }
}

/// Asks until the shim answers or is gone. `None` when nobody wants to know any more.
async fn seek(table: &Weak<Table>, id: &InstanceId) -> Option<Sought> {
    let mut tries = 0_u32;
    loop {
        {
            let table = table.upgrade()?;
            let record = table.get(id)?.record;
            if record.instance.exit.is_some() {
                return None;
            }
            match ask(&table, &record).await {
                Sought::Slow if record.shim.is_none() && tries >= TRIES => return Some(Sought::Gone),
                Sought::Slow => {}
                known => return Some(known),
            }
        }
        tries = tries.saturating_add(1);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Watches a shim until its exit is known or it is gone.
pub(super) async fn watch(
    table: Weak<Table>,
    id: InstanceId,
    mut reached: Option<Reached>,
    _watching: OwnedRwLockReadGuard<()>,
) {
    loop {
        let found = match reached.take() {
            Some(found) => found,
            None => match seek(&table, &id).await {
                Some(Sought::Answered(found)) => found,
                Some(Sought::Gone | Sought::Slow) => break,
                None => return,
            },
        };
        let Some(held) = table.upgrade() else { return };
        held.set_link(&id, &found.link);
        drop(held);
        if follow(&table, &id, &found.link, found.news, found.status).await {
            return;
        }
    }
    let Some(table) = table.upgrade() else { return };
    tracing::warn!(instance = %id, "the shim of an instance is gone; what it kept is killed");
    if let Err(fault) = table.lose(&id).await {
        tracing::warn!(instance = %id, %fault, "a lost instance could not be written down");
    }
}

/// Follows a connection to a shim. Says whether there is nothing more to watch; otherwise the connection broke.
async fn follow(
    table: &Weak<Table>,
    id: &InstanceId,
    link: &Arc<Link>,
    mut news: News,
    mut status: Status,
) -> bool {
    loop {
        let Some(table) = table.upgrade() else { return true };
        match heed(&table, id, &status).await {
            Ok(false) => {}
            Ok(true) => {
                // It is on the disk; the shim has nothing more to keep.
                let _ = link.send(&ToShim::Bye {}).await;
                return true;
            }
            Err(fault) => {
                // The shim keeps the exit until an executor with room on its disk asks.
                tracing::warn!(instance = %id, %fault, "how an instance stands could not be written down");
                if status.exit.is_some() {
                    return true;
                }
            }
        }
        drop(table);
        status = match news.next().await {
            Ok(status) => status,
            Err(_) => return false,
        };
    }
}

/// Takes a status in. Says whether it was the last.
async fn heed(table: &Arc<Table>, id: &InstanceId, status: &Status) -> Result<bool, Fault> {
    if let Some(exit) = &status.exit {
        let at = status.ended_at.map_or_else(|| (table.now)(), Timestamp);
        table.end(id, exit.clone(), at).await?;
        return Ok(true);
    }
    let entry = table.get(id).ok_or_else(|| Fault::new(FaultCode::NotFound, "forgotten"))?;
    if entry.record.running != Some(status.running) || entry.record.instance.ready != status.ready {
        let (running, ready) = (status.running, status.ready);
        let change = table.change(id, move |record| {
            record.running = Some(running);
            record.instance.pid = Some(running.pid);
            record.instance.ready = ready;
        });
        change.await?;
    }
    Ok(false)
}

/// Tells a shim whose exit is on the disk that it may go: an earlier life may have ended before it could.
pub(super) async fn farewell(table: &Table, record: &InstanceRecord) {
    if let Sought::Answered(reached) = ask(table, record).await {
        let _ = reached.link.send(&ToShim::Bye {}).await;
    }
}
