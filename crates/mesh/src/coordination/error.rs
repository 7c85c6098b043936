//! Why a coordinator didn't do it. What it says itself is bounded, and never has a secret of ours in it.

use super::EndpointError;
use std::{io, path::PathBuf};

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum CoordinationError {
    /// That is no address to send a secret to.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It can't be reached, or its answer doesn't come.
    #[error("the coordinator at {at} can't be reached: {why}")]
    Unreachable {
        /// Its address.
        at: String,
        /// What happened.
        why: String,
    },
    /// It doesn't accept us.
    #[error("the coordinator does not accept our key or client: {says}")]
    NotAccepted {
        /// In its words.
        says: String,
    },
    /// It has no such thing.
    #[error("the coordinator has no such thing: {says}")]
    NotFound {
        /// In its words.
        says: String,
    },
    /// Somebody else was first, or the thing is in use.
    #[error("the coordinator refuses, because something else is so now: {says}")]
    Conflict {
        /// In its words.
        says: String,
    },
    /// It won't have it so.
    #[error("the coordinator refuses ({status}): {says}")]
    Rejected {
        /// Its status.
        status: u16,
        /// In its words.
        says: String,
    },
    /// It has a fault of its own.
    #[error("the coordinator failed ({status}): {says}")]
    Failing {
        /// Its status.
        status: u16,
        /// In its words.
        says: String,
    },
    /// It answers something else than it should.
    #[error("the coordinator's answer can't be read: {why}")]
    Unreadable {
        /// How.
        why: String,
    },
    /// This kind of coordinator can't do it.
    #[error("{what} can't be done with this coordinator")]
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// A word that is none.
    #[error("{what} can't be `{word}`")]
    Word {
        /// Of what.
        what: &'static str,
        /// The word.
        word: String,
    },
    /// A backup can't be written.
    #[error("{path} can't be written")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
