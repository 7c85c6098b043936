//! What is run: a sealed copy of the program's file, made while it is read and hashed. Whatever happens to the file
//! afterwards, what was digested is what runs.

use super::trusted::{self, Untrusted};
use allod_proto::{Digest, Fault, FaultCode, named::Definition};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fcntl_add_seals, memfd_create};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
};

/// The largest program, in bytes: its copy is in memory while it runs.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A program that can't change any more.
#[derive(Debug)]
pub(super) struct Program {
    /// What is executed: the program, or the interpreter of a script.
    pub(super) executed: OwnedFd,
    /// The script, where it is one.
    pub(super) script: Option<OwnedFd>,
    /// The digest of the program or script.
    pub(super) digest: Digest,
}

/// Takes the program of a definition, and its interpreter.
///
/// # Errors
/// `Invalid` when the files are not what they must be, with what to do about it.
pub(super) fn take(definition: &Definition) -> Result<Program, Fault> {
    let path = definition.exec.first().map_or("", String::as_str);
    let (file, digest, is_script) = seal(Path::new(path))?;
    if definition.digest.is_some_and(|wanted| wanted != digest) {
        let message = format!(
            "{path} is not the file that {} was declared for: its digest is {digest}",
            definition.name
        );
        return Err(Fault::new(FaultCode::Untrusted, message)
            .hint("if you changed it, change the digest in its definition; if not, find out who did"));
    }
    match (definition.interpreter.first(), is_script) {
        (None, false) => Ok(Program { executed: file, script: None, digest }),
        (None, true) => Err(Fault::new(FaultCode::Invalid, format!("{path} is a script, and no interpreter is named"))
            .hint("interpreter = [\"/usr/bin/python3\"] in its definition: the first line of a script is not followed")),
        (Some(interpreter), _) => {
            let (executed, _, is_script) = seal(Path::new(interpreter))?;
            if is_script {
                let message = format!("the interpreter {interpreter} is itself a script");
                return Err(Fault::new(FaultCode::Invalid, message).hint("name the program that reads it"));
            }
            Ok(Program { executed, script: Some(file), digest })
        }
    }
}

/// A sealed copy, its digest, and whether it begins as a script does.
fn seal(path: &Path) -> Result<(OwnedFd, Digest, bool), Fault> {
    let (mut source, facts) = trusted::open(path).map_err(|error| refused(&error))?;
    if !Mode::from_raw_mode(facts.st_mode).intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH) {
        let message = format!("{} is not executable", path.display());
        return Err(Fault::new(FaultCode::Invalid, message).hint("chmod +x it, or name another file"));
    }
    let failed = |error: io::Error| crate::failure::of_io(&format!("copy {}", path.display()), &error);
    let mut copy = memory().map_err(failed)?;
    let (mut hash, mut size, mut head) = (Sha256::new(), 0_u64, Vec::new());
    let mut part = vec![0_u8; 128 * 1024];
    loop {
        let read = match source.read(&mut part) {
            Ok(0) => break,
            Ok(read) => part.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        if head.len() < 2 {
            head.extend_from_slice(read.get(..2).unwrap_or(read));
        }
        size = size.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
        if size > LARGEST {
            return Err(refused(&Untrusted::TooLarge { path: path.to_owned(), most: LARGEST }));
        }
        hash.update(read);
        copy.write_all(read).map_err(failed)?;
    }
    copy.rewind().map_err(failed)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals).map_err(|error| failed(error.into()))?;
    Ok((copy.into(), Digest::from_bytes(hash.finalize().into()), head.starts_with(b"#!")))
}

/// Memory that may be executed. Kernels before 6.3 have no word for that, and need none.
fn memory() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC of memfd_create(2).
    let memory = memfd_create("command", flags | MemfdFlags::from_bits_retain(0x10))
        .or_else(|_| memfd_create("command", flags))?;
    Ok(memory.into())
}

fn refused(error: &Untrusted) -> Fault {
    let (code, hint) = match error {
        Untrusted::Missing { .. } => (FaultCode::NotFound, "install it, or change its definition"),
        Untrusted::Owner { .. } => {
            (FaultCode::Untrusted, "chown it to root: whoever owns it decides what runs")
        }
        Untrusted::Writable { .. } => {
            (FaultCode::Untrusted, "chmod go-w it: whoever may write it decides what runs")
        }
        Untrusted::Kind { .. } | Untrusted::Links { .. } | Untrusted::TooLarge { .. } => {
            (FaultCode::Invalid, "name the program's own file")
        }
        Untrusted::Io { .. } => (FaultCode::Internal, "look at the machine's log"),
    };
    Fault::new(code, format!("the program can't be trusted: {error}")).hint(hint)
}

#[cfg(test)]
mod tests;
