//! The SQLite file: its tables, its format number (`PRAGMA user_version`), reading all, writing rows, backup and restore. Rows are
//! JSON beside the columns that must be unique, so that a fault of ours can't store what contradicts itself.

use super::StoreFault;
use crate::{
    keys::Keys,
    policy::Policy,
    state::{Counters, JoinKeyRecord, NodeRecord, Row, State},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, params};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The number of the layout.
pub const FORMAT: i64 = 1;
/// `ALOD`: marks the file as ours (`PRAGMA application_id`).
const APPLICATION: i64 = 0x414c_4f44;
/// The file in the state folder.
const FILE: &str = "coordinator.sqlite";
/// After a restore, so many numbers and addresses are skipped: those that were given after the backup was made.
const SKIPPED: u32 = 1_000;

const TABLES: &str = "
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY, machine TEXT NOT NULL UNIQUE, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    v4 TEXT NOT NULL UNIQUE, v6 TEXT NOT NULL UNIQUE, record TEXT NOT NULL
) STRICT;
CREATE TABLE join_keys (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE singles (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
";

/// The open file.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    /// Let go after the file is closed: whoever takes the folder next finds it free.
    _lock: Option<allod_store::Lock>,
}

impl Database {
    /// Opens the file in `folder`, which is made if it is not there; one that is new is empty.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreFault> {
        let lock = allod_store::Lock::take(folder)?;
        let path = folder.join(FILE);
        create_private(&path)?;
        let database = Self { connection: connect(&path)?, path, _lock: Some(lock) };
        database.prepare()?;
        Ok(database)
    }

    fn prepare(&self) -> Result<(), StoreFault> {
        let fault = |source| self.fault(source);
        let db = &self.connection;
        // One process at a time: a second one is refused instead of serving another truth.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(fault)?;
        let format = format(db, &self.path)?;
        let mode: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(fault)?;
        if mode != "wal" {
            return Err(self.damaged(format!("journal mode {mode}")));
        }
        db.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
        db.pragma_update(None, "foreign_keys", true).map_err(fault)?;
        db.pragma_update(None, "trusted_schema", false).map_err(fault)?;
        db.pragma_update(None, "secure_delete", true).map_err(fault)?;
        if format == 0 {
            db.execute_batch(&format!(
                "BEGIN EXCLUSIVE; {TABLES} PRAGMA application_id={APPLICATION}; PRAGMA user_version={FORMAT}; COMMIT;"
            ))
            .map_err(fault)?;
            sync_folder(&self.path)?;
        }
        Ok(())
    }

    /// Everything that is stored; no keys before the first were.
    pub(crate) fn load(&self) -> Result<(State, Option<Keys>), StoreFault> {
        let nodes: Vec<NodeRecord> = self.records("SELECT record FROM nodes ORDER BY id")?;
        let join_keys: Vec<JoinKeyRecord> = self.records("SELECT record FROM join_keys")?;
        let policy: Policy = self.single("policy")?.unwrap_or_default();
        let counters: Counters = self.single("counters")?.unwrap_or_default();
        let keys = self.text("keys")?.map(|text| Keys::parse(&text)).transpose()?;
        Ok((State::stored(nodes, join_keys, policy, counters), keys))
    }

    /// Stores rows, all or none.
    pub(crate) fn write(&mut self, rows: &[Row], keys: Option<&Keys>) -> Result<(), StoreFault> {
        let path = &self.path;
        let fault = |source| StoreFault::Sqlite { path: path.clone(), source };
        let keys = keys.map(Keys::to_text).transpose()?;
        let transaction = self.connection.transaction().map_err(fault)?;
        for row in rows {
            put(&transaction, row).map_err(fault)?;
        }
        if let Some(keys) = keys {
            put_single(&transaction, "keys", &keys).map_err(fault)?;
        }
        transaction.commit().map_err(fault)
    }

    /// Writes all that is stored, keys and policy too, to one new file at `path`, which only its owner may read.
    pub(crate) fn backup(&self, path: &Path) -> Result<(), StoreFault> {
        let part = part(path);
        let _ = std::fs::remove_file(&part);
        create_private(&part)?;
        let written = self
            .connection
            .execute("VACUUM INTO ?1", params![part.to_string_lossy()])
            .map_err(|source| StoreFault::Sqlite { path: part.clone(), source });
        let done = written.and_then(|_| finish(&part, path));
        if done.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        done
    }

    fn records<T: serde::de::DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, StoreFault> {
        let fault = |source| self.fault(source);
        let mut statement = self.connection.prepare(query).map_err(fault)?;
        let texts = statement.query_map([], |row| row.get::<_, String>(0)).map_err(fault)?;
        texts.map(|text| self.read(&text.map_err(fault)?)).collect()
    }

    fn single<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreFault> {
        self.text(name)?.map(|text| self.read(&text)).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<String>, StoreFault> {
        self.connection
            .query_row("SELECT record FROM singles WHERE name=?1", [name], |row| row.get(0))
            .optional()
            .map_err(|source| self.fault(source))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, StoreFault> {
        serde_json::from_str(text).map_err(|error| self.damaged(error.to_string()))
    }

    fn fault(&self, source: rusqlite::Error) -> StoreFault {
        StoreFault::Sqlite { path: self.path.clone(), source }
    }

    fn damaged(&self, problem: String) -> StoreFault {
        StoreFault::Damaged { path: self.path.clone(), problem }
    }
}

/// Makes the network of a backup that of `folder`, which must not have one. Numbers and addresses that may have been given after
/// the backup was made are skipped.
///
/// # Errors
/// When there is a network already, or the backup is damaged or of a newer program.
pub fn restore(backup: &Path, folder: &Path) -> Result<(), StoreFault> {
    let _lock = allod_store::Lock::take(folder)?;
    let path = folder.join(FILE);
    if path.exists() {
        return Err(StoreFault::Exists(path));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(backup, flags)
        .map_err(|source| StoreFault::Sqlite { path: backup.to_owned(), source })?;
    let from = Database { connection: from, path: backup.to_owned(), _lock: None };
    if format(&from.connection, backup)? == 0 {
        return Err(from.damaged("it is empty".to_owned()));
    }
    let state: String = from
        .connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|source| from.fault(source))?;
    if state != "ok" {
        return Err(from.damaged(state));
    }
    if from.load()?.1.is_none() {
        return Err(from.damaged("it has no keys".to_owned()));
    }
    let part = part(&path);
    let _ = std::fs::remove_file(&part);
    from.backup(&part)?;
    let to = Database { connection: connect(&part)?, path: part.clone(), _lock: None };
    let counters: Counters = to.single("counters")?.unwrap_or_default();
    let skipped = Counters {
        next_node: counters.next_node.saturating_add(SKIPPED.into()),
        next_address: counters.next_address.saturating_add(SKIPPED),
    };
    let mut to = to;
    to.write(&[Row::Counters(skipped)], None)?;
    drop(to);
    finish(&part, &path)
}

fn connect(path: &Path) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .map_err(|source| StoreFault::Sqlite { path: path.to_owned(), source })
}

/// The file's format; 0 for an empty one. One of another program, or of a newer one of ours, is refused.
fn format(db: &Connection, path: &Path) -> Result<i64, StoreFault> {
    let read = |pragma: &str| {
        db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
            .map_err(|source| StoreFault::Sqlite { path: path.to_owned(), source })
    };
    let (application, found) = (read("application_id")?, read("user_version")?);
    match (application, found) {
        (0, 0) => Ok(0),
        (APPLICATION, found) if found > FORMAT => Err(StoreFault::Newer { path: path.to_owned(), found }),
        (APPLICATION, found) if found > 0 => Ok(found),
        _ => Err(StoreFault::Damaged { path: path.to_owned(), problem: "another program's file".to_owned() }),
    }
}

fn put(db: &Transaction<'_>, row: &Row) -> rusqlite::Result<usize> {
    match row {
        Row::Node(node) => put_node(db, node),
        Row::NoNode(id) => db.execute("DELETE FROM nodes WHERE id=?1", [id.0]),
        Row::JoinKey(key) => {
            let sql = "INSERT OR REPLACE INTO join_keys (id, record) VALUES (?1, ?2)";
            db.execute(sql, params![key.id, json(key.as_ref())?])
        }
        Row::NoJoinKey(id) => db.execute("DELETE FROM join_keys WHERE id=?1", [id]),
        Row::Counters(counters) => put_single(db, "counters", &json(counters)?),
        Row::Policy(policy) => put_single(db, "policy", &json(policy.as_ref())?),
    }
}

fn put_node(db: &Transaction<'_>, node: &NodeRecord) -> rusqlite::Result<usize> {
    db.execute(
        "INSERT INTO nodes (id, machine, key, name, v4, v6, record) VALUES (?1,?2,?3,?4,?5,?6,?7)
         ON CONFLICT (id) DO UPDATE SET key=excluded.key, name=excluded.name, record=excluded.record",
        params![
            node.id.0,
            node.machine.to_string(),
            node.key.to_string(),
            node.name,
            node.v4.to_string(),
            node.v6.to_string(),
            json(node)?
        ],
    )
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn put_single(db: &Transaction<'_>, name: &str, text: &str) -> rusqlite::Result<usize> {
    db.execute("INSERT OR REPLACE INTO singles (name, record) VALUES (?1, ?2)", params![name, text])
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// A file that only its owner may read, before anything is in it. One that is there is left as it is.
fn create_private(path: &Path) -> Result<(), StoreFault> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map(drop).map_err(|source| StoreFault::Io { path: path.to_owned(), source })
}

fn finish(part: &Path, path: &Path) -> Result<(), StoreFault> {
    let io = |source| StoreFault::Io { path: path.to_owned(), source };
    File::open(part).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(part, path).map_err(io)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), StoreFault> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(allod_store::sync_folder(folder)?)
}
