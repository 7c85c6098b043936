//! Failures of the machine as they may travel: what could not be done and what the system said, with the code that
//! tells a full disk from a defect.

use allod_proto::{Fault, FaultCode};
use allod_store::StoreError;
use rustix::io::Errno;
use std::{error::Error, io};

/// A failed durable file. `doing` is what was being done: `save the secrets of shop/production`.
pub(crate) fn of_store(doing: &str, error: &StoreError) -> Fault {
    let code = if error.is_disk_full() { FaultCode::DiskFull } else { FaultCode::Internal };
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Fault::new(code, format!("can't {doing}: {error}{cause}"))
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
    let code = if full { FaultCode::DiskFull } else { FaultCode::Internal };
    Fault::new(code, format!("can't {doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_code_of_its_own() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(of_io("write", &full).code, FaultCode::DiskFull);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(of_io("write", &denied).code, FaultCode::Internal);
    }
}
