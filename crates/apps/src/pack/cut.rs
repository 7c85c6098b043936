//! Cuts files into content-defined chunks (FastCDC, 2020): a change in a file changes the chunks it touches and no
//! others. These sizes are part of what makes a second upload small, and changing them uploads everything once.

use super::{
    PackError,
    walk::{Found, What},
};
use allod_proto::Digest;
use fastcdc::v2020::{FastCDC, StreamCDC};
use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
};

const SMALLEST: usize = 64 * 1024;
const AVERAGE: usize = 256 * 1024;
const LARGEST: usize = 1024 * 1024;
const THREADS: usize = 2;
/// Enough of a file to tell what kind of program it is.
pub(crate) const HEAD: usize = 20;

/// A file's chunks, and how it begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CutFile {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) head: Vec<u8>,
}

/// A chunk of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
}

enum Told {
    Read(u64),
    Cut(String, CutFile),
    Failed(PackError),
}

/// Cuts and hashes every file that was found, by path.
pub(crate) fn cut_all(
    folder: &Path,
    found: &[Found],
    progress: &dyn Fn(u64),
) -> Result<HashMap<String, CutFile>, PackError> {
    let files: Vec<&str> = found
        .iter()
        .filter(|found| matches!(found.what, What::File { .. }))
        .map(|found| found.path.as_str())
        .collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(files.len()) {
            let tell = tell.clone();
            scope.spawn(|| work(folder, &files, &next, &failed, tell));
        }
        drop(tell);
        let mut cut = HashMap::with_capacity(files.len());
        let mut failure = None;
        for told in told {
            match told {
                Told::Read(bytes) => progress(bytes),
                Told::Cut(path, file) => drop(cut.insert(path, file)),
                Told::Failed(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(cut), Err)
    })
}

fn work(folder: &Path, files: &[&str], next: &AtomicUsize, failed: &AtomicBool, tell: Sender<Told>) {
    while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
        if failed.load(Ordering::Relaxed) {
            return;
        }
        let whole = folder.join(path);
        let told = match cut_file(&whole, &tell) {
            Ok(file) => Told::Cut((*path).to_owned(), file),
            Err(source) => {
                failed.store(true, Ordering::Relaxed);
                Told::Failed(PackError::Read { path: whole, source })
            }
        };
        // The receiver outlives the workers.
        let _ = tell.send(told);
    }
}

fn cut_file(path: &Path, tell: &Sender<Told>) -> std::io::Result<CutFile> {
    let mut file = File::open(path)?;
    let mut first = Vec::new();
    file.by_ref().take(SMALLEST as u64 + 1).read_to_end(&mut first)?;
    let mut cut = CutFile { chunks: Vec::new(), head: first.iter().take(HEAD).copied().collect() };
    let mut keep = |bytes: &[u8]| {
        let length = bytes.len() as u64;
        cut.chunks.push(Chunk { digest: Digest::of(bytes), length });
        let _ = tell.send(Told::Read(length));
    };
    if first.len() <= SMALLEST {
        if !first.is_empty() {
            keep(&first);
        }
        return Ok(cut);
    }
    for chunk in StreamCDC::new(first.chain(file), SMALLEST, AVERAGE, LARGEST) {
        keep(&chunk.map_err(std::io::Error::from)?.data);
    }
    Ok(cut)
}

/// The manifest's pieces. They are smaller than those of files: a manifest changes a little with each deploy, and its
/// pieces would otherwise be most of a small upload.
pub(crate) fn pieces(manifest: &[u8]) -> impl Iterator<Item = &[u8]> {
    FastCDC::new(manifest, SMALLEST / 8, AVERAGE / 8, LARGEST / 8)
        .filter_map(|chunk| manifest.get(chunk.offset..chunk.offset.checked_add(chunk.length)?))
}
