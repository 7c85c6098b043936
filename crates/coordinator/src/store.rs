//! Where the network is kept: one SQLite file, written by one thread. A change is tried on a copy, its rows are stored in one
//! transaction (several changes share one when they come together), and only then it is what everybody sees.

mod database;
mod writer;

pub(crate) use database::Database;
pub use database::{FORMAT, restore};
pub(crate) use writer::{Draft, Store};

use crate::keys::KeysError;
use std::path::PathBuf;

/// Why something is not stored, or not read.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// SQLite says so.
    #[error("the database at {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        #[source]
        source: rusqlite::Error,
    },
    /// A file or folder.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The folder, or its lock.
    #[error(transparent)]
    Folder(#[from] allod_store::StoreError),
    /// It was written by a newer program.
    #[error("{path} has format {found}, this program reads up to {FORMAT}: use the newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It is no database of a coordinator, or damaged.
    #[error("{path} is no database of a coordinator, or damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Something is there already that would be overwritten.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// The stored keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The change could not be stored, and did not happen.
    #[error("it could not be stored: {0}")]
    NotStored(String),
    /// The coordinator ends.
    #[error("the coordinator ends")]
    Ended,
}

#[cfg(test)]
mod tests;
