//! Why the record could not be written or read. Errors are shared by the callers of one commit, so they can be cloned.

use crate::line::LineError;
use allod_proto::FaultCode;
use allod_store::StoreError;
use std::{io, sync::Arc};

/// What the record could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused; later appends may work.
    #[error("can't {step} {file} of the record")]
    Io {
        /// The file's name in the record's folder.
        file: String,
        /// What was being done.
        step: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The folder can't be used, or a file of it is of a newer format.
    #[error("can't use the record's folder")]
    Store(#[source] Arc<StoreError>),
    /// A sync failed: what is on the disk is not known, so nothing more is written until the record is opened again.
    #[error("the record is closed until it is opened again: {0}")]
    Refusing(String),
    /// [`crate::Record::close`] was called.
    #[error("the record is closed")]
    Closed,
    /// Too many entries wait to be written.
    #[error("too many entries wait for the record")]
    Full,
    /// The entry can't be a line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The head can't be signed.
    #[error("can't sign the record's head: {0}")]
    Sign(String),
    /// There is no sequence number left.
    #[error("the record has no sequence number left")]
    Exhausted,
}

impl RecordError {
    pub(crate) fn io(file: &str, step: &'static str, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), step, source: Arc::new(source) }
    }

    pub(crate) fn store(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }

    /// Whether the disk or the quota is full. Giving up the reserve may help.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Store(error) => error.is_disk_full(),
            Self::Refusing(_)
            | Self::Closed
            | Self::Full
            | Self::Line(_)
            | Self::Sign(_)
            | Self::Exhausted => false,
        }
    }

    /// The code that the caller of the command gets.
    #[must_use]
    pub fn code(&self) -> FaultCode {
        match self {
            _ if self.is_disk_full() => FaultCode::DiskFull,
            Self::Full => FaultCode::Busy,
            Self::Line(LineError::TooLong) => FaultCode::TooLarge,
            Self::Io { .. }
            | Self::Store(_)
            | Self::Refusing(_)
            | Self::Closed
            | Self::Line(LineError::Malformed(_))
            | Self::Sign(_)
            | Self::Exhausted => FaultCode::RecordUnavailable,
        }
    }
}
