//! A file that grows, line by line from where it ends now; begun anew where another file takes its place.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

/// How much is read at once.
const PART: u64 = 256 * 1024;
/// The longest line; of a longer one nothing is kept.
const LINE: usize = 8 * 1024;

/// Where it has come to.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    open: Option<Open>,
    seen: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    at: u64,
    part: Vec<u8>,
    too_long: bool,
}

impl Tail {
    /// Of this file; nothing is read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None, seen: false }
    }

    /// The lines that came since; what is no UTF-8 in them is replaced.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn lines(&mut self) -> std::io::Result<Vec<String>> {
        let facts = std::fs::metadata(&self.path)?;
        let is_another = |open: &Open| open.inode != facts.ino() || facts.len() < open.at;
        let mut lines = Vec::new();
        if self.open.as_ref().is_none_or(is_another) {
            // What was written to the old one since is read before it is left.
            if let Some(old) = &mut self.open {
                lines = old.more()?;
            }
            // The first file has a past; one that takes its place has none that was not written since.
            let at = if self.seen { 0 } else { facts.len() };
            let file = File::open(&self.path)?;
            let inode = file.metadata()?.ino();
            self.open = Some(Open { file, inode, at, part: Vec::new(), too_long: false });
            self.seen = true;
        }
        if let Some(open) = &mut self.open {
            lines.extend(open.more()?);
        }
        Ok(lines)
    }
}

impl Open {
    fn more(&mut self) -> std::io::Result<Vec<String>> {
        let mut fresh = Vec::new();
        self.file.seek(SeekFrom::Start(self.at))?;
        (&mut self.file).take(PART).read_to_end(&mut fresh)?;
        self.at = self.at.saturating_add(u64::try_from(fresh.len()).unwrap_or(0));
        let mut lines = Vec::new();
        for byte in fresh {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.part);
                if !std::mem::take(&mut self.too_long) {
                    lines.push(String::from_utf8_lossy(&line).into_owned());
                }
            } else if self.part.len() < LINE {
                self.part.push(byte);
            } else {
                self.too_long = true;
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn what_was_there_before_is_not_read_and_what_comes_is_in_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "old\nhalf").unwrap();
        let mut tail = Tail::new(path.clone());
        assert!(tail.lines().unwrap().is_empty());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"\none\ntw").unwrap();
        assert_eq!(tail.lines().unwrap(), ["", "one"]);
        file.write_all(b"o\xff\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["two\u{fffd}"]);
    }

    #[test]
    fn a_file_that_takes_its_place_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "a line that is long enough\n").unwrap();
        let mut tail = Tail::new(path.clone());
        tail.lines().unwrap();
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        assert!(tail.lines().is_err(), "there is none for a moment");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["one"]);
        std::fs::write(&path, "x\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["x"], "it was cut to nothing");
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "").unwrap();
        let mut tail = Tail::new(path.clone());
        tail.lines().unwrap();
        std::fs::write(&path, format!("{}\nnext\n", "x".repeat(3 * LINE))).unwrap();
        assert_eq!(tail.lines().unwrap(), ["next"]);
        assert!(tail.open.unwrap().part.len() <= LINE);
    }
}
