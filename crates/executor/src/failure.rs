//! Failures of the machine as they may travel: what could not be done and what the system said, with the code that
//! tells a full disk from a defect.

use allod_proto::{Fault, FaultCode};
use allod_store::StoreError;
use rustix::io::Errno;
use std::{error::Error, io};

/// A failed durable file. `doing` is what was being done: `save the secrets of shop/production`.
pub(crate) fn of_store(doing: &str, error: &StoreError) -> Fault {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    named(error.is_disk_full(), format!("can't {doing}: {error}{cause}"))
}

fn named(full: bool, message: String) -> Fault {
    if full {
        let hint = "free some space: `allod servers prune`, or remove an app";
        return Fault::new(FaultCode::DiskFull, message).hint(hint);
    }
    Fault::new(FaultCode::Internal, message)
}

/// Whether the machine lacks something, so that what was asked for may be quite in order: descriptors, memory, a disk
/// that can be read.
pub(crate) fn is_the_machines_own(error: &StoreError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let errno = cause.and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO))
}

/// A failed call of the system.
pub(crate) fn of_io(doing: &str, error: &io::Error) -> Fault {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    named(full, format!("can't {doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_code_of_its_own() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let fault = of_io("write", &full);
        assert_eq!(fault.code, FaultCode::DiskFull);
        assert!(fault.hint.is_some_and(|hint| hint.contains("prune")), "it says what to do");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(of_io("write", &denied).code, FaultCode::Internal);
    }
}
