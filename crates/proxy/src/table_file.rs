//! Reads `routes.json`. A file that is there and can't be understood is an error that names it, never "no routes".

use allod_proto::routes::{FORMAT, RouteTable};
use serde::Deserialize;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the table of routes can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file is there and can't be read.
    #[error("the routes file {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is torn or is no table.
    #[error("the routes file {} is torn or is not a table of routes", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The file was written by a newer version.
    #[error("the routes file {} has format {format}, this program reads format {FORMAT}: it needs a newer version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The routes contradict each other.
    #[error("the routes file {} makes no sense: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Loads the file. A missing one is an empty table: a fresh server has none.
pub(crate) fn load(path: &Path) -> Result<RouteTable, TableError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RouteTable::empty()),
        Err(source) => return Err(TableError::Read { path: path.to_owned(), source }),
    };
    // A newer format may have fields unknown here, so its number is read first.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let torn = |source| TableError::Parse { path: path.to_owned(), source };
    let Format { format } = serde_json::from_slice(&bytes).map_err(torn)?;
    if format != FORMAT {
        return Err(TableError::Newer { path: path.to_owned(), format });
    }
    serde_json::from_slice(&bytes).map_err(torn)
}
