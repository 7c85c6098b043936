//! What a client keeps, and a power cut before every operation on its disk.

#![cfg(target_os = "linux")]

use crate::{
    inventory::{Inventory, InventoryError, Server},
    keys::Logins,
    known::KnownServers,
};
use allod_proto::{
    Digest, Fingerprint, Role, Timestamp,
    record::{Head, SignedHead},
};
use allod_signing::{KeySigner, Signer as _, Terms};
use allod_store::power_cut::{Journal, Story, survives};
use std::{path::Path, time::Duration};

const NOW: Timestamp = Timestamp(1_780_000_000_000);

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "a test")
}

#[test]
fn pinned_servers_survive_a_power_cut_anywhere() {
    let names = |root: &Path| {
        let inventory = Inventory::load(&root.join("config")).map_err(|error| error.to_string())?;
        Ok(inventory.servers().iter().map(|server| server.name.clone()).collect::<Vec<_>>())
    };
    let change = |root: &Path, change: &dyn Fn(&mut Vec<Server>)| {
        Inventory::change(&root.join("config"), |servers| {
            change(servers);
            Ok::<(), InventoryError>(())
        })
        .map_err(|error| error.to_string())?;
        names(root)
    };
    let add = |name: &'static str| {
        move |servers: &mut Vec<Server>| {
            let identity = key(1).fingerprint();
            let (name, address) = (name.to_owned(), "100.64.0.1:9844".to_owned());
            servers.push(Server { name, address, identity, record_key: None, recipient: None, key: None });
        }
    };
    let tell = |story: &mut Story<Vec<String>>| {
        story.step(|root| change(root, &add("web1")));
        story.step(|root| change(root, &add("web2")));
        story.step(|root| change(root, &|servers| servers.retain(|server| server.name != "web1")));
    };
    survives(200, |_| {}, tell, names).unwrap();
}

fn keep(root: &Path, seed: u8, server: u8) -> Result<(), String> {
    let span = (NOW, NOW.plus(Duration::from_secs(600)));
    let terms = Terms::new(key(seed).public_key().clone(), [key(server).fingerprint()], Role::Viewer, span)
        .map_err(|error| error.to_string())?;
    let delegation = terms.sign(&key(1)).map_err(|error| error.to_string())?;
    let logins = Logins::new(root);
    logins.keep(&key(seed), &key(1).fingerprint(), &delegation, NOW).map_err(|error| error.to_string())
}

/// Which logins hold, and that nothing else has to be looked at by a person.
fn held(root: &Path) -> Result<Vec<Fingerprint>, String> {
    let (held, broken) = Logins::new(root).load(NOW).map_err(|error| error.to_string())?;
    if let Some(broken) = broken.first() {
        return Err(broken.to_string());
    }
    let mut keys = Vec::new();
    for login in held {
        keys.push(login.signer().map_err(|error| error.to_string())?.fingerprint());
    }
    keys.sort();
    Ok(keys)
}

#[test]
fn logins_survive_a_power_cut_anywhere_and_ended_ones_stay_ended() {
    let tell = |story: &mut Story<Vec<Fingerprint>>| {
        story.step(|root| keep(root, 8, 100).and_then(|()| held(root)));
        story.step(|root| keep(root, 9, 101).and_then(|()| held(root)));
        story.step(|root| {
            Logins::new(root).end(&key(8).fingerprint()).map_err(|error| error.to_string())?;
            held(root)
        });
        story.step(|root| {
            Logins::new(root).end_all().map_err(|error| error.to_string())?;
            held(root)
        });
    };
    survives(300, |_| {}, tell, held).unwrap();
}

#[test]
fn what_is_known_of_a_server_is_after_a_power_cut_a_head_that_was_seen_and_never_nothing() {
    let root = tempfile::tempdir().unwrap();
    let journal = Journal::begin(root.path()).unwrap();
    let root = root.path().canonicalize().unwrap();
    let identity = key(1).fingerprint();
    let head = |seq: u64| SignedHead {
        head: Head { seq, hash: Digest::of(seq.to_string()) },
        at: NOW.plus(Duration::from_secs(seq * 600)),
        signature: String::new(),
    };
    // One head each ten minutes: a synced copy each hour.
    let mut written = Vec::new();
    for seq in 1..=14 {
        let changed = KnownServers::new(&root).change(&identity, |known| {
            (known.head, known.head_at) = (Some(head(seq).head), Some(head(seq).at));
        });
        assert_eq!(changed.unwrap().head.map(|head| head.seq), Some(seq));
        written.push((journal.len(), seq));
    }
    journal.is_complete().unwrap();
    let mut fell_back = 0;
    for at in 0..=journal.len() {
        for choices in [&[0_u8][..], &[255], &[255, 100], &[150, 255], &[255, 255, 255, 70, 128]] {
            let left = tempfile::tempdir().unwrap();
            journal.power_cut(at, choices, left.path()).unwrap();
            let seen = written.iter().rev().find(|(done, _)| *done <= at).map_or(0, |(_, seq)| *seq);
            let known = KnownServers::new(left.path()).load(&identity);
            let known = known.unwrap_or_else(|error| panic!("{at} {choices:?}: {error}"));
            let shown = known.head.map_or(0, |head| head.seq);
            assert!(
                shown <= seen + 1 && shown + 7 > seen,
                "{at} {choices:?}: {shown} is known, {seen} was seen"
            );
            assert!(known.head.is_none_or(|it| it == head(it.seq).head));
            fell_back += u32::from(shown < seen);
            // And a client goes on from there.
            KnownServers::new(left.path())
                .change(&identity, |known| known.head = Some(head(20).head))
                .unwrap();
        }
    }
    assert!(fell_back > 0, "some cut tore the newest one");
}

#[test]
fn heads_of_many_servers_that_were_settled_together_are_there_after_any_power_cut() {
    let root = tempfile::tempdir().unwrap();
    let journal = Journal::begin(root.path()).unwrap();
    let root = root.path().canonicalize().unwrap();
    let all: Vec<_> = (1..=9).map(|seed| key(seed).fingerprint()).collect();
    let servers = KnownServers::new(&root);
    let mut settled = Vec::new();
    // The first time, and when an hour has passed.
    for seq in [1, 2] {
        servers.put_off();
        for identity in &all {
            let changed = servers.change(identity, |known| {
                let at = NOW.plus(Duration::from_secs(seq * 7200));
                (known.head, known.head_at) = (Some(Head { seq, hash: Digest::of("x") }), Some(at));
            });
            changed.unwrap();
        }
        servers.settle().unwrap();
        settled.push((journal.len(), seq));
    }
    journal.is_complete().unwrap();
    for at in 0..=journal.len() {
        for choices in [&[0_u8][..], &[150, 255], &[255, 255, 255, 70, 128]] {
            let left = tempfile::tempdir().unwrap();
            journal.power_cut(at, choices, left.path()).unwrap();
            let told = settled.iter().rev().find(|(done, _)| *done <= at).map_or(0, |(_, seq)| *seq);
            for identity in &all {
                let known = KnownServers::new(left.path()).load(identity);
                let known = known.unwrap_or_else(|error| panic!("{at} {choices:?}: {error}"));
                let seq = known.head.map_or(0, |head| head.seq);
                assert!(seq >= told, "{at} {choices:?}: {seq} is known, {told} was told to be");
            }
        }
    }
}
