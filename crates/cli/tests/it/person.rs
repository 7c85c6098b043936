//! Somebody with a home folder, a key, and an inventory.

use allod_cli::{
    arguments::Arguments,
    dispatch::dispatch,
    output::{Output, Surroundings},
    session::Session,
    settings::Settings,
};
use allod_signing::{KeySigner, Signer as _};
use clap::Parser as _;
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What came of a command line.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The one JSON document on stdout, and nothing else.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

pub(crate) struct Person {
    home: tempfile::TempDir,
}

impl Person {
    /// With a key file of their own in the clear.
    pub(crate) fn new(seed: u8) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        let person = Self { home };
        let path = person.home.path().join(".ssh/id_ed25519");
        fs::write(&path, key(seed).to_openssh().as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        person
    }

    /// What stands in for ssh: a script.
    pub(crate) fn has_ssh(&self, script: &str) {
        let path = self.home.path().join("ssh");
        let new = path.with_extension("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The inventory's bytes, if there is one.
    pub(crate) fn inventory(&self) -> Option<Vec<u8>> {
        fs::read(self.home.path().join("allod/servers.toml")).ok()
    }

    pub(crate) async fn run(&self, line: &[&str]) -> Ended {
        let home = self.home.path().to_owned();
        let settings = Settings::from_lookup(|name| match name {
            "HOME" => Some(home.clone().into()),
            "ALLOD_HOME" => Some(home.join("allod").into()),
            "ALLOD_SSH" => Some(home.join("ssh").into()),
            _ => None,
        });
        let arguments = std::iter::once("allod").chain(line.iter().copied());
        let parsed = Arguments::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
        let (out, err) = (Buffer::default(), Buffer::default());
        let surroundings = Surroundings::default();
        let output = Arc::new(Output::to(
            parsed.globals.json,
            surroundings,
            Box::new(out.clone()),
            Box::new(err.clone()),
        ));
        let session = Session::new(settings.unwrap(), parsed.globals, Arc::clone(&output));
        let exit = match dispatch(&session, parsed.command).await {
            Ok(()) => 0,
            Err(failure) => {
                output.failure(&failure);
                failure.exit
            }
        };
        Ended { exit, out: out.text(), err: err.text() }
    }
}

pub(crate) fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "ana@laptop")
}

/// The line that makes the key an owner.
pub(crate) fn owner_line(seed: u8) -> String {
    format!("role=owner {} ana@laptop", key(seed).public_key().to_openssh())
}
