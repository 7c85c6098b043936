//! Numbered JSON files: `{"format":N,"kind":"…",…}`. A program reads its own format and the one before it; anything
//! else is refused by name. A file that can't be read is never taken for an empty one.

use crate::{Step, StoreError, write_atomic};
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{fs::File, io::Read as _, path::Path};

/// The largest file that [`save`] writes and [`load`] reads, in bytes.
pub const LARGEST: usize = 64 * 1024 * 1024;

/// A value that has a file of its own. It must serialise as a JSON object without the fields `format` and `kind`.
pub trait Format: Serialize + DeserializeOwned {
    /// What the file holds, as written in its field `kind`.
    const NAME: &'static str;
    /// The number of the layout, from 1. It grows by one with each change that an older program would misread.
    const FORMAT: u32;

    /// Turns a value of the format before this one into this format. `value` comes without `format` and `kind`.
    ///
    /// # Errors
    /// A sentence that says why it can't be done. The default knows no earlier format.
    fn upgrade(value: Value, from: u32) -> Result<Value, String> {
        drop(value);
        Err(format!("format {from} has no upgrade"))
    }
}

/// Writes `value` to `path`, durably and whole (see [`write_atomic`]).
///
/// # Errors
/// [`StoreError::Unwritable`] when the value is no object or too large, [`StoreError::Io`] otherwise.
pub fn save<T: Format>(path: &Path, value: &T, mode: u32) -> Result<(), StoreError> {
    write_atomic(path, &to_bytes(path, value)?, mode)
}

/// The bytes that [`save`] writes, for a program with a disk of its own; `path` is for the error only.
///
/// # Errors
/// [`StoreError::Unwritable`] when the value is no object or too large.
pub fn to_bytes<T: Format>(path: &Path, value: &T) -> Result<Vec<u8>, StoreError> {
    #[derive(Serialize)]
    struct File<'a> {
        format: u32,
        kind: &'static str,
        #[serde(flatten)]
        fields: &'a Map<String, Value>,
    }
    let unwritable =
        |problem: String| StoreError::Unwritable { path: path.to_owned(), kind: T::NAME, problem };
    let fields = match serde_json::to_value(value).map_err(|error| unwritable(error.to_string()))? {
        Value::Object(fields) => fields,
        _ => return Err(unwritable("it is not a JSON object".to_owned())),
    };
    if fields.contains_key("format") || fields.contains_key("kind") {
        return Err(unwritable("it has a field named format or kind of its own".to_owned()));
    }
    let file = File { format: T::FORMAT, kind: T::NAME, fields: &fields };
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| unwritable(error.to_string()))?;
    bytes.push(b'\n');
    if bytes.len() > LARGEST {
        return Err(unwritable(format!("it is larger than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// Reads the value in `path`; `None` when there is no such file.
///
/// # Errors
/// [`StoreError::Damaged`] when it is torn or something else, [`StoreError::NewerFormat`] and
/// [`StoreError::OlderFormat`] with the format that it has, [`StoreError::Io`] when it can't be read.
pub fn load<T: Format>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = read_bounded(path)? else { return Ok(None) };
    from_bytes(path, &bytes).map(Some)
}

/// The value in the bytes of a file, as [`load`] reads it; `path` is for the error only.
///
/// # Errors
/// As [`load`], without [`StoreError::Io`].
pub fn from_bytes<T: Format>(path: &Path, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |problem: String| StoreError::Damaged { path: path.to_owned(), kind: T::NAME, problem };
    let mut fields: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    match fields.remove("kind") {
        Some(Value::String(kind)) if kind == T::NAME => {}
        Some(Value::String(kind)) => return Err(damaged(format!("it holds {kind:?}"))),
        _ => return Err(damaged("it has no kind".to_owned())),
    }
    let found = fields
        .remove("format")
        .and_then(|format| format.as_u64())
        .and_then(|format| u32::try_from(format).ok())
        .ok_or_else(|| damaged("it has no format number".to_owned()))?;
    let oldest = T::FORMAT.saturating_sub(1).max(1);
    if found > T::FORMAT {
        return Err(StoreError::NewerFormat {
            path: path.to_owned(),
            kind: T::NAME,
            found,
            known: T::FORMAT,
        });
    }
    if found < oldest {
        return Err(StoreError::OlderFormat { path: path.to_owned(), kind: T::NAME, found, oldest });
    }
    let mut value = Value::Object(fields);
    if found < T::FORMAT {
        value = T::upgrade(value, found).map_err(damaged)?;
    }
    serde_json::from_value(value).map_err(|error| damaged(error.to_string()))
}

fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    // Without NONBLOCK a pipe in the file's place would stop the program.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: File = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => file.into(),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(StoreError::io(path, Step::Open, error)),
    };
    read_regular(path, file, LARGEST).map(Some)
}

/// Reads a regular file of at most `limit` bytes to its end.
pub(crate) fn read_regular(path: &Path, file: File, limit: usize) -> Result<Vec<u8>, StoreError> {
    let facts = file.metadata().map_err(|error| StoreError::io(path, Step::Inspect, error))?;
    if !facts.is_file() {
        return Err(StoreError::NotAFile { path: path.to_owned() });
    }
    let size = usize::try_from(facts.len()).unwrap_or(usize::MAX);
    let too_large = || StoreError::TooLarge { path: path.to_owned(), limit };
    if size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(size.saturating_add(1));
    // The file may grow while it is read.
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(|error| StoreError::io(path, Step::Read, error))?;
    if bytes.len() > limit { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
