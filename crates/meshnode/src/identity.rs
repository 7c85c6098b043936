//! What makes a node the same one after a restart: its keys and its UDP port. It says nothing of the network it is in.
//!
//! Peers open a node's pings with the disco key that they know, and its mappings in routers are those of its port. Whoever
//! changes either at a start is found only when the coordinator has told everybody.

use allod_meshproto::{DiscoPrivate, KeyError, MachinePrivate, NodePrivate};
use allod_store::{Format, StoreError};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::{Zeroize as _, Zeroizing};

/// The mode of the file: its owner alone.
const MODE: u32 = 0o600;

/// A node's private keys and its port.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Proves the machine to the coordinator.
    pub machine: MachinePrivate,
    /// Proves the node to its peers and its relays.
    pub node: NodePrivate,
    /// Seals path discovery.
    pub disco: DiscoPrivate,
    /// The UDP port it had last; 0 for whichever is free.
    pub port: u16,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its file can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no random numbers.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key in the file is not 32 bytes of base64.
    #[error("`{0}` in the stored identity is not a key")]
    Broken(&'static str),
}

/// The file, format 1: keys as 32 bytes in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityRecord {
    machine: String,
    node: String,
    disco: String,
    port: u16,
}

impl Format for IdentityRecord {
    const NAME: &'static str = "mesh-identity";
    const FORMAT: u32 = 1;
}

impl Drop for IdentityRecord {
    fn drop(&mut self) {
        self.machine.zeroize();
        self.node.zeroize();
        self.disco.zeroize();
    }
}

impl Identity {
    /// A fresh one, without a port.
    ///
    /// # Errors
    /// When `random` fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, IdentityError> {
        Ok(Self {
            machine: MachinePrivate::generate(random)?,
            node: NodePrivate::generate(random)?,
            disco: DiscoPrivate::generate(random)?,
            port: 0,
        })
    }

    /// The one in a file; `None` when there is no file. One that can't be read is an error, never a new identity.
    ///
    /// # Errors
    /// When the file can't be read, is of a newer format, or holds no keys.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        allod_store::load::<IdentityRecord>(path)?.map(|record| record.read()).transpose()
    }

    /// Writes it to a file that its owner alone reads, durably and whole.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = |bytes: &[u8; 32]| BASE64_STANDARD.encode(bytes);
        let record = IdentityRecord {
            machine: text(&self.machine.export()),
            node: text(&self.node.export()),
            disco: text(&self.disco.export()),
            port: self.port,
        };
        Ok(allod_store::save(path, &record, MODE)?)
    }
}

impl IdentityRecord {
    fn read(&self) -> Result<Identity, IdentityError> {
        Ok(Identity {
            machine: MachinePrivate::import(&*secret(&self.machine, "machine")?),
            node: NodePrivate::import(&*secret(&self.node, "node")?),
            disco: DiscoPrivate::import(&*secret(&self.disco, "disco")?),
            port: self.port,
        })
    }
}

fn secret(text: &str, field: &'static str) -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).map_err(|_| IdentityError::Broken(field))?);
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| IdentityError::Broken(field))?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_broken_file_is_an_error_and_never_a_new_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        assert!(Identity::load(&path).unwrap().is_none());
        Identity::generate(&SystemRandom::new()).unwrap().save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace("\"format\": 1", "\"format\": 2").replace("\"format\":1", "\"format\":2"),
        )
        .unwrap();
        assert!(matches!(Identity::load(&path), Err(IdentityError::Store(_))));
        std::fs::write(
            &path,
            text.replace("\"node\": \"", "\"node\": \"AA").replace("\"node\":\"", "\"node\":\"AA"),
        )
        .unwrap();
        assert!(matches!(Identity::load(&path), Err(IdentityError::Broken("node"))));
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(Identity::load(&path), Err(IdentityError::Store(_))));
    }

    #[test]
    fn what_was_saved_is_what_is_loaded_and_its_owner_alone_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        let saved = Identity { port: 41_641, ..Identity::generate(&SystemRandom::new()).unwrap() };
        saved.save(&path).unwrap();
        let loaded = Identity::load(&path).unwrap().unwrap();
        assert_eq!(
            (loaded.machine.public(), loaded.node.public(), loaded.disco.public(), loaded.port),
            (saved.machine.public(), saved.node.public(), saved.disco.public(), 41_641)
        );
        assert_eq!(*loaded.node.export(), *saved.node.export());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_format_1_is_read_and_written_as_it_was() {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mesh-identity.format-1.json");
        let identity = Identity::load(&fixture).unwrap().unwrap();
        let expected = [1, 2, 3].map(|byte| *NodePrivate::import(&[byte; 32]).export());
        let read = [*identity.machine.export(), *identity.node.export(), *identity.disco.export()];
        assert_eq!((read, identity.port), (expected, 41_641));
        let folder = tempfile::tempdir().unwrap();
        let again = folder.path().join("identity.json");
        identity.save(&again).unwrap();
        let parsed =
            |path: &Path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(parsed(&again), parsed(&fixture));
    }
}
