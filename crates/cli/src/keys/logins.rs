//! Logins: fresh keys with the delegations that they sign under, one file each, for this person's eyes only. What has
//! ended is wiped whenever the folder is looked at.

use super::KeysError;
use crate::inventory::create_folders;
use allod_proto::{Fingerprint, Timestamp};
use allod_signing::{DelegatedSigner, Delegation, KeySigner, Signer};
use allod_store::{StoreError, disk, is_temporary, remove_file, write_atomic};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::{Zeroize as _, Zeroizing};

const FORMAT: u32 = 1;
/// Larger files are no logins, in bytes.
const LIMIT: u64 = 128 * 1024;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    /// The key that delegated.
    parent: Fingerprint,
    /// The header's value.
    delegation: String,
    /// The fresh private key, in OpenSSH's form.
    key: String,
}

#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

/// A login that holds.
pub struct Login {
    path: PathBuf,
    /// The key that delegated.
    pub parent: Fingerprint,
    /// What it delegated.
    pub delegation: Delegation,
    key: Zeroizing<String>,
}

impl Login {
    /// What signs under it.
    ///
    /// # Errors
    /// [`KeysError`] when the file's key is not the one that was delegated to.
    pub fn signer(&self) -> Result<impl Signer + use<>, KeysError> {
        let unusable = |why: String| KeysError::Unusable { path: self.path.clone(), why };
        let key = KeySigner::from_openssh(&self.key, None).map_err(|why| unusable(why.to_string()))?;
        DelegatedSigner::new(key, self.delegation.clone())
            .ok_or_else(|| unusable("its delegation is to another key".to_owned()))
    }
}

/// The folder of logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logins {
    folder: PathBuf,
}

impl Logins {
    /// Those in the state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("logins") }
    }

    /// Those that hold, the newest first; the others are wiped. A file that can't be used is named, not taken for none.
    ///
    /// # Errors
    /// [`KeysError`] when the folder can't be read.
    pub fn load(&self, now: Timestamp) -> Result<(Vec<Login>, Vec<KeysError>), KeysError> {
        let (mut logins, mut broken) = (Vec::new(), Vec::new());
        for path in self.files()? {
            if is_unfinished(&path) {
                self.sweep(&path);
                continue;
            }
            match read(&path) {
                Ok(Some(login)) if login.delegation.terms().expires_at() > now => logins.push(login),
                Ok(Some(login)) => wipe(&login.path)?,
                Ok(None) => {}
                Err(error) => broken.push(error),
            }
        }
        logins.sort_by_key(|login| std::cmp::Reverse(login.delegation.terms().issued_at()));
        Ok((logins, broken))
    }

    /// Keeps a login. Those for none but its servers make room for it.
    ///
    /// # Errors
    /// [`KeysError`] when it can't be written.
    pub fn keep(
        &self,
        key: &KeySigner,
        parent: &Fingerprint,
        delegation: &Delegation,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        create_folders(&self.folder)
            .map_err(|error| KeysError::Unusable { path: self.folder.clone(), why: error.to_string() })?;
        let within = |server: &Fingerprint| delegation.terms().is_for(server);
        let (before, _) = self.load(now)?;
        let _lock = self.lock().map_err(|error| KeysError::Read { path: self.folder.clone(), error })?;
        let written = Written {
            format: FORMAT,
            parent: parent.clone(),
            delegation: delegation.to_header(),
            key: key.to_openssh().to_string(),
        };
        write(&self.path(&key.fingerprint()), written)?;
        let mut replaced =
            before.iter().filter(|login| login.delegation.terms().audiences().iter().all(within));
        replaced.try_for_each(|login| wipe(&login.path))
    }

    /// Ends the login of one fresh key.
    ///
    /// # Errors
    /// [`KeysError`] when its file can't be removed.
    pub fn end(&self, key: &Fingerprint) -> Result<(), KeysError> {
        wipe(&self.path(key))
    }

    /// Ends all of them, those that can't be read too, and says how many there were.
    ///
    /// # Errors
    /// [`KeysError`] when one can't be removed.
    pub fn end_all(&self) -> Result<usize, KeysError> {
        let files = self.files()?;
        files.iter().try_for_each(|path| wipe(path))?;
        Ok(files.len())
    }

    /// Held while a login is being written.
    fn lock(&self) -> io::Result<File> {
        let path = self.folder.with_extension("lock");
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.lock().map(|()| file)
    }

    /// Wipes what a program was writing when it ended, unless one is writing now. What can't be wiped is tried again.
    fn sweep(&self, path: &Path) {
        let lock = File::options().write(true).open(self.folder.with_extension("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = wipe(path);
        }
    }

    fn path(&self, key: &Fingerprint) -> PathBuf {
        // A fingerprint's + and / have no business in a file name.
        let name = key.as_str().trim_start_matches("SHA256:").replace('+', "-").replace('/', "_");
        self.folder.join(format!("{name}.json"))
    }

    /// Every file there: also one that was being written when the machine stopped holds a key.
    fn files(&self) -> Result<Vec<PathBuf>, KeysError> {
        let failed = |error| KeysError::Read { path: self.folder.clone(), error };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(is_temporary) || path.extension().is_some_and(|extension| extension == "new")
}

fn read(path: &Path) -> Result<Option<Login>, KeysError> {
    let failed = |error| KeysError::Read { path: path.to_owned(), error };
    let unusable = |why: String| KeysError::Unusable { path: path.to_owned(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        // Another program has just wiped it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    if text.starts_with('\0') {
        // Its end was cut off between the two steps of `wipe`.
        return wipe(path).map(|()| None);
    }
    // The number first: a newer one need not be readable.
    let Numbered { format } = serde_json::from_str(&text).map_err(|why| unusable(why.to_string()))?;
    if format > FORMAT {
        let why =
            format!("it has format {format}; this program reads {FORMAT}, use a version that reads {format}");
        return Err(unusable(why));
    }
    let written: Written = serde_json::from_str(&text).map_err(|why| unusable(why.to_string()))?;
    let delegation = Delegation::parse(&written.delegation).map_err(|why| unusable(why.to_string()))?;
    Ok(Some(Login {
        path: path.to_owned(),
        parent: written.parent,
        delegation,
        key: Zeroizing::new(written.key),
    }))
}

fn write(path: &Path, mut written: Written) -> Result<(), KeysError> {
    let failed = |error| KeysError::Read { path: path.to_owned(), error };
    let text = serde_json::to_string(&written).map(Zeroizing::new);
    written.key.zeroize();
    let text = text.map_err(|error| failed(error.into()))?;
    write_atomic(path, text.as_bytes(), 0o600).map_err(|error| of_store(path, &error))
}

/// Writes over a file before it is removed, as far as the disk lets it. Both are on the disk when this returns.
fn wipe(path: &Path) -> Result<(), KeysError> {
    let overwrite = || {
        let file = File::options().write(true).open(path)?;
        let length = usize::try_from(file.metadata()?.len().min(LIMIT)).unwrap_or_default();
        disk::write_all(&file, &vec![0; length])?;
        disk::sync(&file)
    };
    // What can't be written over is removed all the same.
    let _ = overwrite();
    remove_file(path).map(drop).map_err(|error| of_store(path, &error))
}

fn of_store(path: &Path, error: &StoreError) -> KeysError {
    KeysError::Unusable { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests;
