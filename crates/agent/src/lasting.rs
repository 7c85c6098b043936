//! What the agent keeps, and a power cut before every operation on its disk.

use crate::{chunks::Chunks, operations::Operations, route_table::RouteTables};
use allod_proto::{
    AppRef, Digest, OperationId, Timestamp,
    executor::{Goal, OpenOperation},
    operation::{Happening, OperationState},
};
use allod_store::power_cut::{Story, survives, survives_kills};
use std::{collections::BTreeSet, path::Path};

const NOW: Timestamp = Timestamp(1_780_000_000_000);

fn app() -> AppRef {
    "blog".parse().unwrap()
}

fn bytes(number: u8) -> Vec<u8> {
    vec![number; 50 + usize::from(number)]
}

/// Which chunks are there by the agent's word, in another life of the machine. Each must be what its name says.
fn chunks(root: &Path, life: &str) -> Result<BTreeSet<u8>, String> {
    allod_store::settle(root).map_err(|error| error.to_string())?;
    let chunks = Chunks::open(root, life).map_err(|error| error.to_string())?;
    let mut there = BTreeSet::new();
    for number in 0..10 {
        let digest = Digest::of(bytes(number));
        if chunks.missing(&app(), &[digest], NOW).map_err(|fault| fault.message)?.is_empty() {
            let path = root.join("chunks/blog/production").join(digest.to_string());
            let content = std::fs::read(path).map_err(|error| error.to_string())?;
            if content != bytes(number) {
                return Err(format!("chunk {number} is torn"));
            }
            there.insert(number);
        }
    }
    Ok(there)
}

#[test]
fn chunks_are_whole_or_asked_for_again_after_a_power_cut_anywhere() {
    let send = |root: &Path, life: &str, numbers: &[u8], sync: bool| {
        let chunks = Chunks::open(root, life).map_err(|error| error.to_string())?;
        for number in numbers {
            let bytes = bytes(*number);
            chunks.keep(&app(), &Digest::of(&bytes), &bytes, NOW).map_err(|fault| fault.message)?;
        }
        if sync {
            chunks.sync().map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    };
    // What is acknowledged as durable is what was synced; of the rest any part may be there, whole.
    let synced: BTreeSet<u8> = BTreeSet::from([1, 2, 3]);
    let tell = |story: &mut Story<BTreeSet<u8>>| {
        story.step(|root| send(root, "one", &[1, 2, 3], true).map(|()| synced.clone()));
        story.step(|root| send(root, "one", &[4, 5], false).map(|()| synced.clone()));
        story.step(|root| send(root, "one", &[6], true).map(|()| synced.clone()));
    };
    let only_synced = |root: &Path| {
        let there = chunks(root, "another")?;
        // Before the first sync any of them may be there; that is nothing acknowledged.
        Ok(if there.is_superset(&synced) { synced.clone() } else { BTreeSet::new() })
    };
    survives(200, |_| {}, tell, only_synced).unwrap();
}

fn open(name: &str) -> OpenOperation {
    OpenOperation {
        id: OperationId::of(&Digest::of(name)),
        app: app(),
        command: "app.stop".to_owned(),
        by: "owner".to_owned(),
        at: Timestamp(1_000),
        goal: Goal::Stop {},
        promoted: false,
    }
}

type Ended = Vec<(String, OperationState)>;

fn ended(root: &Path) -> Result<Ended, String> {
    allod_store::settle(root).map_err(|error| error.to_string())?;
    let operations = Operations::load(root, &[])?;
    let there = std::fs::read_dir(root.join("operations")).map_err(|error| error.to_string())?.count();
    let listed = operations.list();
    if there != listed.len() {
        return Err(format!("{there} files, {} operations", listed.len()));
    }
    let mut ended: Ended = listed.into_iter().map(|it| (it.id.to_string(), it.state)).collect();
    ended.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(ended)
}

#[test]
fn how_operations_ended_survives_a_power_cut_anywhere() {
    let end = |root: &Path, name: &str, state: OperationState| {
        let operations = Operations::load(root, &[])?;
        let running = operations.begin(&open(name), None).ok_or_else(|| "it is at work".to_owned())?;
        let finished = Happening::Finished { state, fault: None, serving: None };
        operations.write_ahead(&running, NOW, finished.clone());
        running.happened(NOW, finished);
        operations.end(&running);
        ended(root)
    };
    let tell = |story: &mut Story<Ended>| {
        story.step(|root| end(root, "one", OperationState::Done));
        story.step(|root| end(root, "two", OperationState::Failed));
    };
    survives(200, |_| {}, tell, ended).unwrap();
    survives_kills(60, |_| {}, tell, ended).unwrap();
}

#[test]
fn the_table_of_routes_is_whole_after_a_power_cut_anywhere() {
    // Without a proxy the table is written, not acknowledged, and put back: two generations.
    let show = |root: &Path| {
        let file = root.join("routes.json");
        RouteTables::load(&file, &root.join("no-proxy"))?;
        Ok(std::fs::read_to_string(file).ok().map(|text| text.contains("\"generation\": 7")))
    };
    let tell = |story: &mut Story<Option<bool>>| {
        for generation in [6, 7, 8] {
            story.step(|root| {
                let tables = RouteTables::load(&root.join("routes.json"), &root.join("no-proxy"))?;
                let table = allod_proto::routes::RouteTable {
                    generation,
                    ..allod_proto::routes::RouteTable::empty()
                };
                tables.write(&table).map_err(|fault| fault.message)?;
                Ok::<_, String>(Some(generation == 7))
            });
        }
    };
    survives(150, |_| {}, tell, show).unwrap();
    survives_kills(60, |_| {}, tell, show).unwrap();
}
