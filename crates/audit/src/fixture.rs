//! What the tests of this crate share: a signer, a clock that ticks, entries, and a record on a disk in memory.

use crate::{
    Door, Ending, Entry, Intent, Opened, Outcome, Record, RecordError, Settings, Who, disk::faulty::Faulty,
};
use allod_proto::{Role, Timestamp, record::Head};
use allod_signing::{KeySigner, Signer};
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) fn signer() -> Arc<dyn Signer> {
    Arc::new(KeySigner::generate([7; 32], "record"))
}

pub(crate) fn other_signer() -> Arc<dyn Signer> {
    Arc::new(KeySigner::generate([8; 32], "another"))
}

/// A second passes with each look at the clock.
pub(crate) fn settings(segment_bytes: u64, retain_segments: usize) -> Settings {
    let ticks = AtomicU64::new(0);
    let clock = Arc::new(move || {
        let tick = ticks.fetch_add(1000, Ordering::Relaxed);
        (Timestamp(1_700_000_000_000 + tick), tick)
    });
    Settings {
        segment_bytes,
        retain_segments,
        retain_changes_bytes: 1 << 20,
        ..Settings::new(PathBuf::from("unused"), clock)
    }
}

pub(crate) fn open_on(disk: &Faulty, settings: &Settings) -> Result<(Record, Opened), RecordError> {
    Record::open_on(Arc::new(disk.clone()), settings, signer())
}

pub(crate) fn who(name: &str) -> Who {
    Who {
        key: None,
        delegate: None,
        name: name.to_owned(),
        role: Role::Owner,
        door: Door::Rpc,
        source: Some("100.64.0.7".to_owned()),
    }
}

pub(crate) fn intent(request: &str) -> Entry {
    Entry::Intent(Box::new(Intent {
        request: request.to_owned(),
        who: who("anna"),
        command: "app.deploy".to_owned(),
        app: Some("blog".parse().unwrap()),
        target: None,
        params: json!({"release": "0123456789ab"}),
        nonce: None,
        signed_at: None,
        signature: None,
        signed: None,
        delegation: None,
    }))
}

pub(crate) fn outcome(intent: Head) -> Entry {
    Entry::Outcome(Box::new(Outcome {
        intent: intent.seq,
        result: Ending::Ok,
        code: None,
        message: None,
        reply: Some(json!({"release": "0123456789ab"})),
        took_ms: 12,
    }))
}

pub(crate) fn note(number: usize) -> Entry {
    Entry::note("test", format!("note {number}"))
}

/// A record of `count` notes with a signed head, closed.
pub(crate) fn closed_record(count: usize, settings: &Settings) -> Faulty {
    let disk = Faulty::default();
    let (record, _) = open_on(&disk, settings).unwrap();
    for number in 0..count {
        record.append(note(number)).unwrap();
    }
    record.close().unwrap();
    disk
}
