//! Packing, on the client: a folder becomes a manifest and content-defined chunks. Chunks are not kept in memory: each is
//! read again from its file when it is to be sent, and checked, so a file that changed in between is noticed.

mod cut;
mod elf;
mod fit;
mod walk;

use allod_proto::{
    Digest,
    manifest::{EntryKind, FORMAT, Manifest, ManifestEntry, ManifestIndex},
    spec::AppSpec,
};
use cut::CutFile;
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// Why a folder can't be packed. Each names the path.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It can't be read.
    #[error("{path} can't be read")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The folder can't be walked, or an ignore line is not one.
    #[error("{0}")]
    Walk(String),
    /// A name that would not survive the journey.
    #[error("{path:?}: names must be UTF-8 without control characters")]
    Name {
        /// What.
        path: PathBuf,
    },
    /// Neither file, folder nor link.
    #[error("{path} is {what}, which can't be uploaded; ignore it in .allodignore")]
    Special {
        /// What.
        path: String,
        /// `a socket`, `a device`.
        what: &'static str,
    },
    /// A link that would mean something else on the server.
    #[error("{path} links to {to}: {why}; links must stay in the folder")]
    Link {
        /// The link.
        path: String,
        /// Where to.
        to: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// The program that is to be started is not in what is uploaded.
    #[error("{path}, which {what} names, is not in what is uploaded; is it built, and not ignored?")]
    Missing {
        /// The program, folder or file.
        path: String,
        /// `units.web.start`.
        what: String,
    },
    /// The program that is to be started can't be.
    #[error("{path}, which {what} names, is not executable; chmod +x it")]
    NotExecutable {
        /// The program.
        path: String,
        /// `units.web.start`.
        what: String,
    },
    /// The program that is to be started is for another system.
    #[error("{path}, which {what} names, is a program for {system}; build it for Linux")]
    Foreign {
        /// The program.
        path: String,
        /// `units.web.start`.
        what: String,
        /// `macOS`, `Windows`.
        system: &'static str,
    },
    /// The file is not what it was when it was packed.
    #[error("{path} changed while it was being deployed; deploy again")]
    Changed {
        /// The file.
        path: String,
    },
    /// No such chunk.
    #[error("chunk {0} is not part of this")]
    Unknown(Digest),
    /// The server would refuse the manifest.
    #[error("{0}")]
    Refused(String),
}

/// A folder, ready to be sent.
#[derive(Debug)]
pub struct Packed {
    /// What is in it.
    pub manifest: Manifest,
    /// The manifest's chunks.
    pub index: ManifestIndex,
    /// What the deploy names, itself a chunk.
    pub index_digest: Digest,
    /// Bytes of all files.
    pub bytes: u64,
    folder: PathBuf,
    order: Vec<Digest>,
    places: HashMap<Digest, Place>,
}

/// Where a chunk's bytes are.
#[derive(Debug, Clone)]
enum Place {
    File { path: String, offset: u64, length: u64 },
    Memory(Vec<u8>),
}

/// Packs `folder`. `ignore` has lines as in `.gitignore`; those of `.gitignore` and `.allodignore` files in the folder
/// count as well. `progress` is told how many bytes were read since it was last told.
///
/// # Errors
/// [`PackError`], which names what can't be packed; nothing is packed in part.
pub fn pack(
    folder: &Path,
    spec: &AppSpec,
    ignore: &[String],
    version: Option<String>,
    progress: &dyn Fn(u64),
) -> Result<Packed, PackError> {
    let found = walk::walk(folder, ignore)?;
    let files = cut::cut_all(folder, &found, progress)?;
    fit::check(spec, &found, &files)?;
    let architecture = elf::architecture(spec, &files);
    let named = fit::named_programs(spec);
    let entries = found.iter().map(|found| entry(found, &files, &named)).collect();
    let manifest = Manifest { format: FORMAT, spec: spec.clone(), architecture, version, entries };
    crate::manifest_check::check(&manifest).map_err(PackError::Refused)?;
    Packed::new(folder, manifest, &files)
}

fn entry(found: &walk::Found, files: &HashMap<String, CutFile>, named: &HashSet<String>) -> ManifestEntry {
    let what = match &found.what {
        walk::What::Folder => EntryKind::Folder {},
        walk::What::Link { to } => EntryKind::Link { to: to.clone() },
        walk::What::File { executable } => {
            let chunks = files.get(&found.path).map_or(&[][..], |file| &file.chunks);
            EntryKind::File {
                // Where files have no such bit, what is started gets it.
                executable: *executable || (cfg!(not(unix)) && named.contains(&found.path)),
                size: chunks.iter().map(|chunk| chunk.length).sum(),
                chunks: chunks.iter().map(|chunk| chunk.digest).collect(),
            }
        }
    };
    ManifestEntry { path: found.path.clone(), what }
}

impl Packed {
    fn new(folder: &Path, manifest: Manifest, files: &HashMap<String, CutFile>) -> Result<Self, PackError> {
        let json = serde_json::to_vec(&manifest).map_err(|error| PackError::Refused(error.to_string()))?;
        if json.len() > allod_proto::limits::MANIFEST {
            return Err(PackError::Refused("too many files: the manifest is too large".to_owned()));
        }
        let mut packed = Self {
            index: ManifestIndex { format: FORMAT, size: json.len() as u64, chunks: Vec::new() },
            index_digest: Digest::ZERO,
            bytes: 0,
            folder: folder.to_owned(),
            order: Vec::new(),
            places: HashMap::new(),
            manifest,
        };
        packed.place_files(files);
        for piece in cut::pieces(&json) {
            let digest = packed.place_bytes(piece);
            packed.index.chunks.push(digest);
        }
        let index =
            serde_json::to_vec(&packed.index).map_err(|error| PackError::Refused(error.to_string()))?;
        packed.index_digest = packed.place_bytes(&index);
        Ok(packed)
    }

    fn place_files(&mut self, files: &HashMap<String, CutFile>) {
        for entry in &self.manifest.entries {
            let mut offset = 0;
            for chunk in files.get(&entry.path).map_or(&[][..], |file| &file.chunks) {
                let place = Place::File { path: entry.path.clone(), offset, length: chunk.length };
                if self.places.insert(chunk.digest, place).is_none() {
                    self.order.push(chunk.digest);
                }
                offset += chunk.length;
            }
            self.bytes += offset;
        }
    }

    fn place_bytes(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        if self.places.insert(digest, Place::Memory(bytes.to_owned())).is_none() {
            self.order.push(digest);
        }
        digest
    }

    /// Every chunk once: the files' in the order of their paths, the manifest's, last the index.
    pub fn chunks(&self) -> impl Iterator<Item = Digest> + '_ {
        self.order.iter().copied()
    }

    /// How many bytes a chunk has; `None` if it is not part of this.
    #[must_use]
    pub fn chunk_size(&self, digest: &Digest) -> Option<u64> {
        self.places.get(digest).map(|place| match place {
            Place::File { length, .. } => *length,
            Place::Memory(bytes) => bytes.len() as u64,
        })
    }

    /// A chunk's bytes, read from its file again and checked.
    ///
    /// # Errors
    /// [`PackError::Changed`] if the file has other bytes there by now, [`PackError::Unknown`] for a chunk of another
    /// folder.
    pub fn read_chunk(&self, digest: &Digest) -> Result<Vec<u8>, PackError> {
        match self.places.get(digest) {
            None => Err(PackError::Unknown(*digest)),
            Some(Place::Memory(bytes)) => Ok(bytes.clone()),
            Some(Place::File { path, offset, length }) => {
                let bytes = read_part(&self.folder.join(path), *offset, *length);
                match bytes {
                    Ok(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
                    Ok(_) | Err(_) => Err(PackError::Changed { path: path.clone() }),
                }
            }
        }
    }
}

fn read_part(path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
