//! Chunks as the agent keeps them, read without trusting the agent: a name below its folder, no links, a bounded size,
//! and content that hashes to the name.

use crate::{failure, layout::Layout};
use allod_proto::{AppRef, Digest, Fault, FaultCode, limits};
use std::path::PathBuf;

/// The chunks of one app.
pub(super) struct Chunks {
    agent: PathBuf,
    below: PathBuf,
}

impl Chunks {
    pub(super) fn of(layout: &Layout, app: &AppRef) -> Self {
        Self { agent: layout.agent(), below: Layout::chunks_below_agent(app) }
    }

    /// The chunk of this name, checked.
    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>, Fault> {
        let relative = self.below.join(digest.to_string());
        let bytes = allod_store::read_beneath(&self.agent, &relative, limits::CHUNK).map_err(|error| {
            if error.is_not_found() {
                return Fault::new(FaultCode::NotFound, format!("chunk {digest} is not on the server"))
                    .hint("deploy again: what is missing is sent");
            }
            let fault = failure::of_store("read a chunk", &error);
            if failure::is_the_machines_own(&error) {
                return fault;
            }
            Fault::new(FaultCode::Invalid, format!("chunk {digest} is refused: {}", fault.message))
        })?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(Fault::new(
                FaultCode::Invalid,
                format!("chunk {digest} does not have the content of its name"),
            ))
        }
    }
}
