//! Taking over what an earlier life of the executor started.

use super::{
    Found, blocking, link,
    record::{self, InstanceRecord},
    table::Table,
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
    for record in records.into_iter().filter(|record| record.instance.exit.is_none()) {
        adopt_one(table, record, &mut found).await?;
    }
    Ok(found)
}

async fn adopt_one(table: &Arc<Table>, record: InstanceRecord, found: &mut Found) -> Result<(), Fault> {
    let id = record.instance.id;
    let socket = table.settings.layout.socket(&id);
    let reached = if record.boot == table.boot { link::connect(&socket).await.ok() } else { None };
    match reached {
        Some((link, news, status)) => {
            table.attach(&id, link, news, status);
            found.adopted.push(id);
        }
        None => {
            if let Err(fault) = table.lose(&id).await {
                tracing::warn!(instance = %id, %fault, "a lost instance could not be written down");
            }
            found.lost.push(id);
        }
    }
    Ok(())
}
