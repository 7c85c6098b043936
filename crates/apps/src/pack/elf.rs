//! Which machine and system a program is for, by its first bytes (ELF specification, figure 1-3; Mach-O and PE magic).

use super::{
    cut::CutFile,
    fit::{in_folder, programs},
};
use allod_proto::spec::AppSpec;
use std::collections::{BTreeSet, HashMap};

/// The machine of a Linux program: `x86_64`, `aarch64`. `None` if it is no ELF file of a machine that is known.
pub(crate) fn machine(head: &[u8]) -> Option<&'static str> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let machine = [*head.get(18)?, *head.get(19)?];
    let machine = match head.get(5)? {
        1 => u16::from_le_bytes(machine),
        2 => u16::from_be_bytes(machine),
        _ => return None,
    };
    match machine {
        3 => Some("x86"),
        21 => Some("powerpc64"),
        22 => Some("s390x"),
        40 => Some("arm"),
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        243 => Some("riscv64"),
        258 => Some("loongarch64"),
        _ => None,
    }
}

/// The system of a program that is not for Linux.
pub(crate) fn foreign_system(head: &[u8]) -> Option<&'static str> {
    const MACH_O: [[u8; 4]; 3] =
        [[0xcf, 0xfa, 0xed, 0xfe], [0xce, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe]];
    if MACH_O.iter().any(|magic| head.starts_with(magic)) {
        Some("macOS")
    } else if head.starts_with(b"MZ") {
        Some("Windows")
    } else {
        None
    }
}

/// The machine the folder's programs are for: that of the programs that are started, else of all, where they agree.
pub(crate) fn architecture(spec: &AppSpec, files: &HashMap<String, CutFile>) -> Option<String> {
    let started = programs(spec).filter_map(|(_, program)| files.get(&in_folder(program)?));
    let started: BTreeSet<&str> = started.filter_map(|file| machine(&file.head)).collect();
    let machines = if started.is_empty() {
        files.values().filter_map(|file| machine(&file.head)).collect()
    } else {
        started
    };
    let mut machines = machines.into_iter();
    match (machines.next(), machines.next()) {
        (Some(machine), None) => Some(machine.to_owned()),
        (Some(_), Some(_)) | (None, _) => None,
    }
}
