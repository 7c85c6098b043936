//! Where a secret's value comes from: a person who types it unseen, stdin, or a file. Never the command line, which
//! other users of the machine can read.

use super::send::Value;
use crate::{failure::Failure, keys::HIDDEN_LIMIT, keys::ask_hidden, session::Session};
use allod_proto::{FaultCode, SecretName, limits};
use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::Path,
};
use zeroize::Zeroizing;

/// The largest file that is imported.
pub(super) const IMPORT: usize = 16 * 1024 * 1024;

/// The exact bytes of a value.
pub(super) fn read(
    session: &Session,
    name: &SecretName,
    from_stdin: bool,
    file: Option<&Path>,
) -> Result<Value, Failure> {
    if let Some(path) = file {
        return from_file(path, limits::SECRET);
    }
    if from_stdin {
        return all(&mut io::stdin().lock(), limits::SECRET).map_err(|error| unreadable("stdin", &error));
    }
    if !io::stdin().is_terminal() {
        let value =
            all(&mut io::stdin().lock(), limits::SECRET).map_err(|error| unreadable("stdin", &error))?;
        // A job without a stdin must not empty a secret by accident.
        return not_empty(value, "stdin is empty; nothing was set", "`-` says that it is meant to be");
    }
    if !session.output.can_ask() || session.output.is_json() {
        return Err(Failure::new(FaultCode::Confirmation, format!("the value of {name} is needed"))
            .hint("nobody can be asked here; pipe it in, or give --file FILE"));
    }
    typed(name)
}

fn typed(name: &SecretName) -> Result<Value, Failure> {
    let asked =
        ask_hidden(&format!("Value of {name}: ")).map_err(|error| unreadable("the terminal", &error))?;
    let value = asked.ok_or_else(|| Failure::new(FaultCode::Cancelled, "nothing was set"))?;
    if value.len() >= HIDDEN_LIMIT {
        return Err(Failure::usage("that is too long to be typed; nothing was set")
            .hint("pipe it in, or give --file FILE: what a terminal passes on would be cut"));
    }
    not_empty(value, "nothing was typed; nothing was set", "`--file /dev/null` sets an empty value")
}

fn not_empty(value: Value, message: &str, hint: &str) -> Result<Value, Failure> {
    if value.is_empty() { Err(Failure::usage(message).hint(hint)) } else { Ok(value) }
}

/// A whole file, or stdin for `-`.
pub(super) fn from_file_or_stdin(path: &Path) -> Result<Value, Failure> {
    if path == Path::new("-") {
        return all(&mut io::stdin().lock(), IMPORT).map_err(|error| unreadable("stdin", &error));
    }
    from_file(path, IMPORT)
}

fn from_file(path: &Path, limit: usize) -> Result<Value, Failure> {
    let read = File::open(path).and_then(|mut file| all(&mut file, limit));
    read.map_err(|error| unreadable(&path.display().to_string(), &error))
}

fn unreadable(what: &str, error: &io::Error) -> Failure {
    Failure::new(FaultCode::Invalid, format!("{what}: {error}"))
}

/// Everything there is, in a buffer that never moves, so that no copy stays behind in memory.
fn all(from: &mut impl Read, limit: usize) -> io::Result<Value> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    let mut part = Zeroizing::new([0_u8; 8 * 1024]);
    loop {
        let read = match from.read(&mut *part) {
            Ok(0) => return Ok(bytes),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.len() + read > limit {
            return Err(io::Error::other(format!("more than {limit} bytes are not taken")));
        }
        if bytes.capacity() < bytes.len() + read {
            let mut larger = Zeroizing::new(Vec::with_capacity(bytes.capacity() * 2));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(part.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused_not_cut() {
        assert!(all(&mut &[7_u8; 11][..], 10).is_err());
        assert_eq!(all(&mut &[7_u8; 10][..], 10).unwrap().len(), 10);
    }

    #[test]
    fn the_exact_bytes_are_kept() {
        let long: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(*all(&mut &long[..], IMPORT).unwrap(), long);
        assert_eq!(all(&mut &b"a\"b\n\xff\n"[..], 100).unwrap().as_slice(), b"a\"b\n\xff\n");
    }
}
