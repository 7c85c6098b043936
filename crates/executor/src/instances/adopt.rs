//! Taking over what an earlier life of the executor started.

use super::{
    Found, blocking,
    record::{self, InstanceRecord},
    table::Table,
    watcher::{self, Sought},
};
use allod_proto::Fault;
use std::sync::Arc;

pub(super) async fn adopt(table: &Arc<Table>) -> Result<Found, Fault> {
    let layout = table.settings.layout.clone();
    let (records, damaged) = blocking("read the instances", move || record::load_all(&layout)).await?;
    let mut found = Found { damaged, ..Found::default() };
    // All are known before the first is lost: what one leaves behind may be another's.
    for record in &records {
        table.insert(record.clone());
    }
    for record in records {
        match &record.instance.exit {
            Some(_) => watcher::farewell(table, &record).await,
            None => adopt_one(table, record, &mut found).await,
        }
    }
    Ok(found)
}

async fn adopt_one(table: &Arc<Table>, record: InstanceRecord, found: &mut Found) {
    let sought = watcher::ask(table, &record).await;
    let id = record.instance.id;
    match sought {
        Sought::Answered(reached) => {
            table.attach(&id, Some(reached));
            found.adopted.push(id);
        }
        Sought::Slow => {
            table.attach(&id, None);
            found.awaited.push(id);
        }
        Sought::Gone => {
            if let Err(fault) = table.lose(&id).await {
                tracing::warn!(instance = %id, %fault, "a lost instance could not be written down");
            }
            found.lost.push(id);
        }
    }
}
