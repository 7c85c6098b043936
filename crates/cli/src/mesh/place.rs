//! Where this person's place on a mesh of their own is: written by `allod join` and by `allod up`, read by every command.

use crate::{failure::Failure, settings::Settings};
use allod_proto::FaultCode;
use allod_store::{Format, StoreError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FILE: &str = "mesh.json";

/// `mesh.json`, format 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshPlace {
    /// The socket of the node that owns the place.
    pub socket: PathBuf,
    /// What the node is started with when it doesn't run. Without it somebody else starts it.
    pub start: Option<NodeFolders>,
}

/// The folders of a node that is started on demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFolders {
    /// Its keys and its map are below.
    pub state: PathBuf,
    /// Its socket.
    pub run: PathBuf,
}

impl Format for MeshPlace {
    const NAME: &'static str = "place on the mesh";
    const FORMAT: u32 = 1;
}

impl MeshPlace {
    /// The one of these settings, if there is one.
    ///
    /// # Errors
    /// [`Failure`] when it can't be read.
    pub fn load(settings: &Settings) -> Result<Option<Self>, Failure> {
        allod_store::load(&settings.state.join(FILE)).map_err(|error| damaged(&error))
    }

    /// Keeps it in the state folder of a person.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, state: &Path) -> Result<(), StoreError> {
        crate::inventory::create_folders(state)?;
        allod_store::save(&state.join(FILE), self, 0o600)
    }

    /// Gives it up.
    ///
    /// # Errors
    /// [`Failure`] when the file can't be removed.
    pub fn remove(settings: &Settings) -> Result<(), Failure> {
        Self::forget(&settings.state).map_err(|error| damaged(&error))
    }

    /// There is none in the state folder of a person from now on.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn forget(state: &Path) -> Result<(), StoreError> {
        allod_store::remove_file(&state.join(FILE)).map(drop)
    }
}

fn damaged(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::NewerFormat { .. } => FaultCode::Version,
        _ => FaultCode::Internal,
    };
    Failure::new(code, error.to_string())
}
