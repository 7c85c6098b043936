//! All servers the hub knows. Bounded, also per source, so that no peer can take every place. A change is on the disk
//! before anybody is told of it.

use crate::{judge::judge, record::ServerRecord, report::CheckedReport};
use allod_proto::{
    Fault, FaultCode, Fingerprint, Timestamp,
    witness::{Verdict, WitnessReply, WitnessReport},
};
use allod_store::{StoreError, load, remove_file, save, settle};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many servers one hub watches.
pub const SERVERS: usize = 1000;
/// How many servers may report from one address.
pub const SERVERS_OF_A_SOURCE: usize = 16;

/// Whether a server answered when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// Nobody asked yet.
    NotAsked,
    /// It does.
    Yes {
        /// Since when.
        since: Timestamp,
    },
    /// It does not.
    No {
        /// Since when.
        since: Timestamp,
        /// Why not.
        why: String,
    },
}

/// One server and what is only kept in memory of it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What is on the disk.
    pub record: ServerRecord,
    /// When it last reported, by the hub's clock.
    pub heard_at: Timestamp,
    /// Whether it answers.
    pub answers: Answers,
}

impl Watched {
    /// The same under the identity that reports.
    fn as_successor(&self, report: &CheckedReport) -> Self {
        let record = ServerRecord { identity: report.identity().clone(), ..self.record.clone() };
        Self { record, ..self.clone() }
    }

    /// One server that was known as two: it reported under its new identity before it said whose successor it is. Nothing
    /// that was witnessed of the earlier one is shaken off by that: the trouble, the record key and the higher head stay.
    fn joined_with(self, earlier: Self) -> Self {
        let same_key = self.record.record_key == earlier.record.record_key;
        let is_further = self.record.head.head.seq > earlier.record.head.head.seq;
        let is_ill = self.record.trouble.is_some();
        let reported_at = self.record.reported_at.max(earlier.record.reported_at);
        let counts = earlier.record.trouble.is_none() && (is_ill || (same_key && is_further));
        let watched = if counts { self } else { earlier };
        Self { record: ServerRecord { reported_at, ..watched.record }, ..watched }
    }
}

/// Every server.
#[derive(Debug)]
pub struct Registry {
    folder: PathBuf,
    /// Held while a change is judged and written, so that two reports can't both be judged by the same past.
    changing: Mutex<()>,
    servers: Mutex<BTreeMap<Fingerprint, Watched>>,
}

impl Registry {
    /// Reads what is in `folder`.
    ///
    /// # Errors
    /// [`StoreError`] that names the file: a damaged one is never taken for a server that was not there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        settle(folder)?;
        let mut servers = BTreeMap::new();
        let inspect =
            |source| StoreError::Io { path: folder.to_owned(), step: allod_store::Step::Inspect, source };
        for entry in std::fs::read_dir(folder).map_err(inspect)? {
            let path = entry.map_err(inspect)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            if let Some(record) = load::<ServerRecord>(&path)? {
                let heard_at = record.witnessed_at;
                servers.insert(
                    record.identity.clone(),
                    Watched { record, heard_at, answers: Answers::NotAsked },
                );
            }
        }
        Ok(Self { folder: folder.to_owned(), changing: Mutex::new(()), servers: Mutex::new(servers) })
    }

    /// Checks, judges and keeps a report. Blocks until it is on the disk.
    ///
    /// # Errors
    /// [`Fault`] for the sender: what [`CheckedReport::check`] finds, `Conflict` for old news, `TooMany` when there is
    /// no place, `DiskFull` or `Internal` when it could not be kept.
    pub fn witness(
        &self,
        report: WitnessReport,
        source: IpAddr,
        now: Timestamp,
    ) -> Result<WitnessReply, Fault> {
        let report = CheckedReport::check(report, now)?;
        let _changing = hold(&self.changing);
        let before = self.predecessor(&report);
        let known = hold(&self.servers).get(report.identity()).cloned();
        let known = match (known, before.as_ref().map(|before| before.as_successor(&report))) {
            (Some(known), Some(earlier)) => Some(known.joined_with(earlier)),
            (known, earlier) => known.or(earlier),
        };
        let (verdict, next, must_save) = match &known {
            Some(known) => {
                let judged = judge(&known.record, &report, source, now)
                    .map_err(|old| Fault::new(FaultCode::Conflict, old.to_string()))?;
                (judged.verdict, judged.next, judged.must_save)
            }
            None => {
                self.find_room(source)?;
                (Verdict::Witnessed, ServerRecord::first(&report, source, now), true)
            }
        };
        if verdict.is_trouble() && known.as_ref().is_some_and(|known| known.record.trouble.is_none()) {
            tracing::error!(server = %next.identity, name = %next.name, verdict = verdict.in_words(),
                kept = next.head.head.seq, reported = report.head().head.seq, "a record is not what it was");
        }
        if must_save || before.is_some() {
            self.keep(&next)?;
        }
        let highest = next.head.head;
        let answers = known.map_or(Answers::NotAsked, |known| known.answers);
        hold(&self.servers).insert(next.identity.clone(), Watched { record: next, heard_at: now, answers });
        if let Some(before) = before {
            self.replaced(&before.record.identity);
        }
        Ok(WitnessReply { verdict, highest })
    }

    /// The server as it was known under the identity before, if that one named this one.
    fn predecessor(&self, report: &CheckedReport) -> Option<Watched> {
        let servers = hold(&self.servers);
        let mut known = report.claims_to_succeed().filter_map(|earlier| servers.get(earlier));
        known.find(|known| report.succeeds(&known.record.identity)).cloned()
    }

    /// An identity that has a successor is kept no more. If its file stays, the next report finds it again.
    fn replaced(&self, identity: &Fingerprint) {
        match remove_file(&self.folder.join(ServerRecord::file_name(identity))) {
            Ok(_) => drop(hold(&self.servers).remove(identity)),
            Err(error) => tracing::error!(%error, "the file of a replaced identity can't be removed"),
        }
        tracing::warn!(server = %identity, "the server has another identity now, which this one named");
    }

    fn find_room(&self, source: IpAddr) -> Result<(), Fault> {
        let servers = hold(&self.servers);
        let of_source = servers.values().filter(|server| server.record.source == source).count();
        if servers.len() >= SERVERS || of_source >= SERVERS_OF_A_SOURCE {
            return Err(Fault::new(
                FaultCode::TooMany,
                "this hub watches as many servers as it can, or as many from this address",
            )
            .hint("on the hub: `allod hub forget IDENTITY` for servers that are gone"));
        }
        Ok(())
    }

    /// A person has looked at what is wrong with a server. Says what it was.
    ///
    /// # Errors
    /// `NotFound` when the server is not known, `Conflict` when nothing is wrong with it, or as writing fails.
    pub fn acknowledge(&self, identity: &Fingerprint, now: Timestamp) -> Result<Verdict, Fault> {
        let _changing = hold(&self.changing);
        let known = hold(&self.servers).get(identity).cloned().ok_or_else(not_known)?;
        let was = known.record.trouble.as_ref().map(|trouble| trouble.verdict);
        let (Some(was), Some(next)) = (was, known.record.acknowledged(now)) else {
            return Err(Fault::new(FaultCode::Conflict, "nothing is wrong with the record of this server"));
        };
        self.keep(&next)?;
        tracing::warn!(server = %identity, was = was.in_words(), "acknowledged");
        hold(&self.servers).insert(identity.clone(), Watched { record: next, ..known });
        Ok(was)
    }

    /// Forgets a server and what was witnessed of it.
    ///
    /// # Errors
    /// `NotFound` when it is not known, `Internal` when its file can't be removed.
    pub fn forget(&self, identity: &Fingerprint) -> Result<(), Fault> {
        let _changing = hold(&self.changing);
        if !hold(&self.servers).contains_key(identity) {
            return Err(not_known());
        }
        remove_file(&self.folder.join(ServerRecord::file_name(identity)))
            .map_err(|error| could_not(&error))?;
        tracing::warn!(server = %identity, "forgotten");
        hold(&self.servers).remove(identity);
        Ok(())
    }

    fn keep(&self, record: &ServerRecord) -> Result<(), Fault> {
        save(&self.folder.join(ServerRecord::file_name(&record.identity)), record, 0o600)
            .map_err(|error| could_not(&error))
    }

    /// Everything known now, by identity.
    #[must_use]
    pub fn all(&self) -> Vec<Watched> {
        hold(&self.servers).values().cloned().collect()
    }

    /// Whether a server answered. The time of the first such answer in a row is kept.
    pub fn set_answer(&self, identity: &Fingerprint, answer: Result<(), String>, now: Timestamp) {
        if let Some(server) = hold(&self.servers).get_mut(identity) {
            server.answers = match (answer, &server.answers) {
                (Ok(()), Answers::Yes { since }) => Answers::Yes { since: *since },
                (Ok(()), Answers::NotAsked | Answers::No { .. }) => Answers::Yes { since: now },
                (Err(why), Answers::No { since, .. }) => Answers::No { since: *since, why },
                (Err(why), Answers::NotAsked | Answers::Yes { .. }) => Answers::No { since: now, why },
            };
        }
    }
}

fn not_known() -> Fault {
    Fault::new(FaultCode::NotFound, "no server of this identity has reported here")
}

fn could_not(error: &StoreError) -> Fault {
    tracing::error!(%error, source = std::error::Error::source(error), "a server's file could not be changed");
    if error.is_disk_full() {
        return Fault::new(FaultCode::DiskFull, "the hub's disk is full; nothing was kept");
    }
    Fault::new(FaultCode::Internal, "the hub could not keep it; its log has the cause")
}

// What a panicking thread left is whole: every change under these locks is one insertion.
fn hold<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
