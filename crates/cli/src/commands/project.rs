//! The folder of an app on this machine: its `allod.toml`, read and resolved. All complaints come at once.

use crate::{failure::Failure, session::Session};
use allod_appspec::{Complaints, FILE, Resolved, Written};
use allod_proto::{EnvName, FaultCode};
use serde_json::{Value, json};
use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The largest file that is read as an `allod.toml`.
const LARGEST: u64 = 1024 * 1024;

/// An app's folder with what its file says for one environment.
#[derive(Debug)]
pub struct Project {
    /// Where `allod.toml` is.
    pub folder: PathBuf,
    /// What it means.
    pub resolved: Resolved,
}

impl Project {
    /// Reads the `allod.toml` of a folder; `None` where there is none.
    ///
    /// # Errors
    /// [`Failure`] with every complaint, after they were said on stderr.
    pub fn find(session: &Session, folder: &Path, env: &EnvName) -> Result<Option<Self>, Failure> {
        let path = folder.join(FILE);
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(FaultCode::Invalid, format!("{}: {error}", path.display())));
            }
        };
        let resolved = allod_appspec::parse(&text).and_then(|written: Written| written.resolve(env));
        match resolved {
            Ok(resolved) => Ok(Some(Self { folder: folder.to_owned(), resolved })),
            Err(complaints) => Err(complain(session, &complaints)),
        }
    }

    /// The same where there must be one.
    ///
    /// # Errors
    /// As [`Project::find`], and when there is no file.
    pub fn load(session: &Session, folder: &Path, env: &EnvName) -> Result<Self, Failure> {
        Self::find(session, folder, env)?.ok_or_else(|| {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            Failure::new(FaultCode::NotFound, format!("there is no {FILE} in {}", folder.display()))
                .hint("`allod init` looks at the folder and writes one")
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other("it is too large to be one"));
    }
    Ok(text)
}

fn complain(session: &Session, complaints: &Complaints) -> Failure {
    let all: Vec<Value> = complaints
        .iter()
        .map(|complaint| {
            json!({"line": complaint.line, "column": complaint.column, "path": complaint.path,
                "message": complaint.message, "hint": complaint.hint})
        })
        .collect();
    let mut each = complaints.iter();
    let failure = match (each.next(), each.next()) {
        (Some(only), None) => Failure::usage(only.to_string()),
        _ => {
            complaints.iter().for_each(|complaint| session.output.note(&complaint.to_string()));
            Failure::usage(format!("{FILE}: {} things are wrong; nothing was done", all.len()))
        }
    };
    failure.with("complaints", all)
}
