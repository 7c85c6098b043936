//! A disk in memory that can fail at its n-th operation, and that forgets at a power cut what was not synced.

use super::{Disk, Segment};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

/// How the n-th operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No room: half of a write is there. Once.
    NoSpace,
    /// The device refuses. Once; what a failed sync should have written never gets to the disk.
    Io,
    /// The power goes just before it.
    PowerBefore,
    /// The power goes just after it.
    PowerAfter,
}

/// What the disk did with writes that were not synced when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    /// Half of the first one.
    Torn,
    /// The size and the second half of the last one; zeros before.
    Holed,
}

#[derive(Default, Clone)]
struct MemoryFile {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Operation>,
}

#[derive(Clone)]
enum Operation {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, MemoryFile>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    room: Option<usize>,
}

#[derive(Clone, Default)]
pub(crate) struct Faulty(Arc<Mutex<State>>);

impl Faulty {
    pub(crate) fn failing_at(self, operation: u64, fault: Fault) -> Self {
        self.0.lock().unwrap().fault = Some((operation, fault));
        self
    }

    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().unwrap().operations
    }

    /// From now on all files together have at most this many bytes.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }

    /// The power comes back.
    pub(crate) fn after_power_cut(&self, unsynced: Unsynced) -> Self {
        let state = self.0.lock().unwrap();
        let files = state.files.iter().map(|(name, file)| {
            let content = file.after_power_cut(unsynced);
            (name.clone(), MemoryFile { durable: content.clone(), current: content, unsynced: Vec::new() })
        });
        Self(Arc::new(Mutex::new(State { files: files.collect(), ..State::default() })))
    }

    /// The program is gone and the machine stayed up: files are as they were, and what was not synced still is not.
    pub(crate) fn after_kill(&self) -> Self {
        let files = self.0.lock().unwrap().files.clone();
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    /// The same files on another disk, all synced.
    pub(crate) fn copy(&self) -> Self {
        self.after_power_cut(Unsynced::Kept)
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        self.0.lock().unwrap().files[name].current.clone()
    }

    pub(crate) fn set_file(&self, name: &str, bytes: &[u8]) {
        let file = MemoryFile { durable: bytes.to_vec(), current: bytes.to_vec(), unsynced: Vec::new() };
        self.0.lock().unwrap().files.insert(name.to_owned(), file);
    }
}

impl MemoryFile {
    fn after_power_cut(&self, unsynced: Unsynced) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match unsynced {
            Unsynced::Lost => {}
            Unsynced::Kept => self.unsynced.iter().for_each(|operation| operation.apply(&mut bytes)),
            Unsynced::Torn => {
                if let Some(Operation::Write(offset, content)) = self.unsynced.first() {
                    Operation::Write(*offset, content[..content.len() / 2].to_vec()).apply(&mut bytes);
                }
            }
            Unsynced::Holed => {
                if let Some(Operation::Write(offset, content)) = self.unsynced.last() {
                    let half = content.len() / 2;
                    Operation::Write(offset + half, content[half..].to_vec()).apply(&mut bytes);
                }
            }
        }
        bytes
    }
}

impl Operation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, content) => {
                let end = offset + content.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(content);
            }
            Self::Truncate(length) => bytes.resize(*length, 0),
        }
    }
}

impl State {
    /// Counts an operation. `Err` is how it must fail; `Ok(true)` that it is the last one that works.
    fn step(&mut self) -> Result<bool, Fault> {
        if self.is_off {
            return Err(Fault::PowerBefore);
        }
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, fault)) if at == number => match fault {
                Fault::NoSpace | Fault::Io => Err(fault),
                Fault::PowerBefore => {
                    self.is_off = true;
                    Err(fault)
                }
                Fault::PowerAfter => {
                    self.is_off = true;
                    Ok(true)
                }
            },
            _ => Ok(false),
        }
    }

    fn has_room_for(&self, name: &str, size: usize) -> bool {
        let others =
            self.files.iter().filter(|(other, _)| *other != name).map(|(_, file)| file.current.len());
        self.room.is_none_or(|room| others.sum::<usize>() + size <= room)
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::NoSpace => io::ErrorKind::StorageFull.into(),
        Fault::Io => io::Error::other("device error"),
        Fault::PowerBefore | Fault::PowerAfter => io::Error::other("no power"),
    }
}

/// After `PowerAfter` the operation took effect and nobody is told.
fn answer(is_last: bool) -> io::Result<()> {
    if is_last { Err(error(Fault::PowerAfter)) } else { Ok(()) }
}

impl Disk for Faulty {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let state = self.0.lock().unwrap();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let offset = usize::try_from(offset).unwrap().min(file.current.len());
        let end = offset.saturating_add(length).min(file.current.len());
        Ok(file.current[offset..end].to_vec())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let state = self.0.lock().unwrap();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(u64::try_from(file.current.len()).unwrap())
    }

    fn segment(&self, name: &str) -> io::Result<Box<dyn Segment>> {
        let mut state = self.0.lock().unwrap();
        let is_last = state.step().map_err(error)?;
        state.files.entry(name.to_owned()).or_default();
        answer(is_last)?;
        Ok(Box::new(FaultySegment { disk: self.clone(), name: name.to_owned() }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let is_last = state.step().map_err(error)?;
        if !state.has_room_for(name, bytes.len()) {
            return Err(error(Fault::NoSpace));
        }
        let file = MemoryFile { durable: bytes.to_vec(), current: bytes.to_vec(), unsynced: Vec::new() };
        state.files.insert(name.to_owned(), file);
        answer(is_last)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let is_last = state.step().map_err(error)?;
        state.files.remove(name);
        answer(is_last)
    }
}

struct FaultySegment {
    disk: Faulty,
    name: String,
}

impl FaultySegment {
    fn change(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let stepped = state.step();
        let (operation, result) = match (stepped, operation) {
            (Ok(is_last), Operation::Write(offset, content)) => {
                if state.has_room_for(&self.name, offset + content.len()) {
                    (Operation::Write(offset, content), answer(is_last))
                } else {
                    (half(offset, &content), Err(error(Fault::NoSpace)))
                }
            }
            (Ok(is_last), truncate) => (truncate, answer(is_last)),
            (Err(fault), Operation::Write(offset, content)) if !state.is_off => {
                (half(offset, &content), Err(error(fault)))
            }
            (Err(fault), _) => return Err(error(fault)),
        };
        let file = state.files.entry(self.name.clone()).or_default();
        operation.apply(&mut file.current);
        file.unsynced.push(operation);
        result
    }
}

fn half(offset: usize, content: &[u8]) -> Operation {
    Operation::Write(offset, content[..content.len() / 2].to_vec())
}

impl Segment for FaultySegment {
    fn allocate(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Operation::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.change(Operation::Truncate(usize::try_from(length).unwrap()))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let stepped = state.step();
        let file = state.files.entry(self.name.clone()).or_default();
        match stepped {
            Ok(is_last) => {
                let operations = std::mem::take(&mut file.unsynced);
                operations.iter().for_each(|operation| operation.apply(&mut file.durable));
                answer(is_last)
            }
            Err(fault) => {
                if matches!(fault, Fault::Io | Fault::NoSpace) {
                    file.unsynced.clear();
                }
                Err(error(fault))
            }
        }
    }
}
