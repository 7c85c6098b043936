//! Many files of one folder, each written as [`super::write_atomic`] writes it, and all of them waited for together: a disk takes
//! far longer to be told a thousand times than once.

use super::{at_folder_step, create_temporary, sync_file_system, sync_folder, write};
use crate::{Step, StoreError, disk};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// A file that is whole and has not its name yet.
struct Unnamed {
    temporary: PathBuf,
    path: PathBuf,
}

impl Unnamed {
    fn make(path: PathBuf, bytes: &[u8], mode: u32) -> Result<Self, StoreError> {
        let (temporary, file) = create_temporary(&path)?;
        let this = Self { temporary, path };
        match write(&this.path, &file, bytes, mode) {
            Ok(()) => Ok(this),
            Err(error) => {
                this.give_up();
                Err(error)
            }
        }
    }

    fn name(self) -> Result<(), StoreError> {
        disk::rename(&self.temporary, &self.path).map_err(|error| {
            self.give_up();
            StoreError::io(&self.path, Step::Rename, error)
        })
    }

    fn give_up(&self) {
        // The first error is the one to tell; what is left behind is swept at the next start.
        let _ = disk::remove(&self.temporary);
    }
}

/// Writes each of these, name and content, in `folder` so that after a power cut either its old or its new content is there, whole:
/// as [`super::write_atomic`], but with one sync of the file system for all. What came of each is in the order of the files; one that
/// fails leaves the others.
///
/// # Errors
/// [`StoreError::Io`] when the disk can't be waited for: of each file either content may be there after a power cut.
pub fn write_together(
    folder: &Path,
    files: &[(OsString, Vec<u8>)],
    mode: u32,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let unnamed: Vec<_> =
        files.iter().map(|(name, bytes)| Unnamed::make(folder.join(name), bytes, mode)).collect();
    if let Err(error) = sync_file_system(folder) {
        unnamed.iter().flatten().for_each(Unnamed::give_up);
        return Err(error);
    }
    let outcomes = unnamed.into_iter().map(|made| made.and_then(Unnamed::name)).collect();
    sync_folder(folder).map_err(|error| at_folder_step(folder, error))?;
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_cut::{Story, survives};

    fn files(all: &[(&str, &str)]) -> Vec<(OsString, Vec<u8>)> {
        all.iter().map(|(name, text)| (OsString::from(name), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn one_that_cannot_be_written_is_named_and_leaves_nothing_and_the_others_are_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("occupied")).unwrap();
        let all = files(&[("one", "1"), ("occupied", "2"), ("missing/three", "3"), ("four", "4")]);
        let outcomes = write_together(folder.path(), &all, 0o600).unwrap();
        let steps: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(()) => None,
                Err(StoreError::Io { step, .. }) => Some(*step),
                Err(other) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(steps, [None, Some(Step::Rename), Some(Step::Create), None]);
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["four", "occupied", "one"]);
        assert_eq!(std::fs::read(folder.path().join("four")).unwrap(), b"4");
    }

    #[test]
    fn without_the_folder_nothing_is_said_to_be_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_together(&folder.path().join("gone"), &files(&[("one", "1")]), 0o600).is_err());
    }

    #[test]
    fn what_was_written_together_survives_a_power_cut_anywhere_each_file_whole() {
        let names = ["a", "b", "c"];
        let all = |root: &Path| -> Result<Vec<Option<String>>, String> {
            let read = |name: &&str| match std::fs::read_to_string(root.join(name)) {
                Ok(text)
                    if text.len() == 3_000 && text.bytes().all(|byte| text.starts_with(char::from(byte))) =>
                {
                    Ok(text.get(..1).map(str::to_owned))
                }
                Ok(torn) => Err(format!("{name} is torn: {} bytes", torn.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.to_string()),
            };
            names.iter().map(read).collect()
        };
        // Each file by itself is the old or the new one; all of them are the new ones once it has returned.
        for at in 0..names.len() {
            let one = |root: &Path| all(root).map(|all| all[at].clone());
            let put = |root: &Path, text: &str| {
                let files: Vec<_> = names
                    .iter()
                    .map(|name| (OsString::from(name), text.repeat(3_000).into_bytes()))
                    .collect();
                let outcomes = write_together(root, &files, 0o600).map_err(|error| error.to_string())?;
                assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
                one(root)
            };
            let tell = |story: &mut Story<Option<String>>| {
                story.step(|root| put(root, "1"));
                story.step(|root| put(root, "2"));
            };
            survives(100, |_| {}, tell, one).unwrap();
        }
    }
}
