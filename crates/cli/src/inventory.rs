//! The servers a person knows: `servers.toml`, one table each, with what is pinned of it. Every change is one atomic
//! write under a lock; a file that can't be read is never taken for an empty one.

use crate::failure::Failure;
use allod_proto::{FaultCode, Fingerprint};
use allod_store::{StoreError, create_folder, sweep_temporaries, write_atomic};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

const FORMAT: u32 = 1;
const FILE: &str = "servers.toml";

/// A server, and what is pinned of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What people call it here.
    pub name: String,
    /// `host:port` on the mesh.
    pub address: String,
    /// Its identity.
    pub identity: Fingerprint,
    /// The key that signs heads of its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_key: Option<Fingerprint>,
    /// The `age` recipient that secrets are sealed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The key file to sign with, where it is not to be found by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Server {
    /// The key that signs heads of its record.
    ///
    /// # Errors
    /// [`Failure`] where none is pinned.
    pub fn pinned_record_key(&self) -> Result<&Fingerprint, Failure> {
        self.record_key.as_ref().ok_or_else(|| {
            Failure::new(FaultCode::Untrusted, format!("the record key of {} is not pinned", self.name))
                .hint(format!("`allod servers trust {}` pins it", self.name))
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    #[serde(default, rename = "server", skip_serializing_if = "Vec::is_empty")]
    servers: Vec<Server>,
}

/// Why the inventory can't be used, or lacks what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// It can't be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not one.
    #[error("{path}: {message}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        message: String,
    },
    /// It was written by a newer program.
    #[error("{path} has format {format}; this program reads {FORMAT}, use a version that reads {format}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// It can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No server has this name.
    #[error("there is no server {name:?}{}", nearest(.known, .name))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A server has this name already.
    #[error("there is a server {0:?} already")]
    Taken(String),
    /// The name is not one.
    #[error(
        "{0:?} is not a server name: 1 to 63 of a-z, 0-9, . and -, beginning and ending with a letter or digit"
    )]
    Name(String),
    /// There are none.
    #[error("no servers are known yet")]
    Empty,
}

impl InventoryError {
    /// Decides the exit code.
    #[must_use]
    pub fn code(&self) -> FaultCode {
        match self {
            Self::Read { .. } | Self::Store(_) => FaultCode::Internal,
            Self::Broken { .. } | Self::Name(_) => FaultCode::Invalid,
            Self::Newer { .. } => FaultCode::Version,
            Self::Unknown { .. } | Self::Empty => FaultCode::NotFound,
            Self::Taken(_) => FaultCode::Conflict,
        }
    }

    /// What can be done.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } | Self::Store(_) | Self::Name(_) => None,
            Self::Broken { .. } => Some("mend the line, or move the file away and add the servers again"),
            Self::Newer { .. } => Some("use the newer program that wrote it"),
            Self::Unknown { .. } => Some("`allod servers list` shows the ones there are"),
            Self::Taken(_) => {
                Some("`--name` gives the new one another name; `allod servers trust` is for reinstalled ones")
            }
            Self::Empty => Some("`allod servers add HOST` adds the first"),
        }
    }
}

fn nearest(known: &[String], name: &str) -> String {
    let close = known.iter().find(|known| known.starts_with(name) || name.starts_with(known.as_str()));
    close.map(|close| format!("; did you mean {close:?}?")).unwrap_or_default()
}

/// The servers a person knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    path: PathBuf,
    servers: Vec<Server>,
}

impl Inventory {
    /// Reads the inventory in the config folder; there is none before the first server.
    ///
    /// # Errors
    /// [`InventoryError`] when it can't be read or is not one.
    pub fn load(config: &Path) -> Result<Self, InventoryError> {
        let path = config.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, servers: Vec::new() });
            }
            Err(error) => return Err(InventoryError::Read { path, error }),
        };
        let servers = parse(&text).map_err(|problem| match problem {
            Problem::Newer(format) => InventoryError::Newer { path: path.clone(), format },
            Problem::Broken(message) => InventoryError::Broken { path: path.clone(), message },
        })?;
        Ok(Self { path, servers })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of them, by name.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of this name.
    ///
    /// # Errors
    /// [`InventoryError::Unknown`] when there is none, with a name that comes close.
    pub fn server(&self, name: &str) -> Result<&Server, InventoryError> {
        self.servers.iter().find(|server| server.name == name).ok_or_else(|| {
            if self.servers.is_empty() {
                return InventoryError::Empty;
            }
            let known = self.servers.iter().map(|server| server.name.clone()).collect();
            InventoryError::Unknown { name: name.chars().take(80).collect(), known }
        })
    }

    /// Changes the inventory: reads it again under a lock, changes it, writes it in one piece. Nothing is written when
    /// the change refuses.
    ///
    /// # Errors
    /// What `change` refuses with, or [`InventoryError`] when it can't be read or written.
    pub fn change<E: From<InventoryError>>(
        config: &Path,
        change: impl FnOnce(&mut Vec<Server>) -> Result<(), E>,
    ) -> Result<(), E> {
        create_folders(config).map_err(InventoryError::from)?;
        let _lock = lock(config)?;
        sweep_temporaries(config).map_err(InventoryError::from)?;
        let mut inventory = Self::load(config)?;
        change(&mut inventory.servers)?;
        inventory.servers.sort_by(|a, b| a.name.cmp(&b.name));
        let text = render(&inventory.path, inventory.servers)?;
        write_atomic(&inventory.path, text.as_bytes(), 0o600).map_err(InventoryError::from)?;
        Ok(())
    }
}

fn render(path: &Path, servers: Vec<Server>) -> Result<String, InventoryError> {
    let written = toml::to_string(&Written { format: FORMAT, servers })
        .map_err(|error| InventoryError::Broken { path: path.to_owned(), message: error.to_string() })?;
    Ok(format!("# Servers and what is pinned of them. Written by `allod servers`.\n{written}"))
}

fn lock(config: &Path) -> Result<File, InventoryError> {
    let path = config.join("servers.lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let locked = open.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| InventoryError::Read { path, error })
}

/// Makes a folder and the ones above it, for this person only.
pub(crate) fn create_folders(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folders(parent)?;
    }
    create_folder(folder, 0o700)
}

enum Problem {
    Newer(u32),
    Broken(String),
}

fn parse(text: &str) -> Result<Vec<Server>, Problem> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let broken = |error: toml::de::Error| Problem::Broken(error.to_string().trim_end().to_owned());
    let Format { format } = toml::from_str(text).map_err(broken)?;
    if format > FORMAT {
        return Err(Problem::Newer(format));
    }
    let written: Written = toml::from_str(text).map_err(broken)?;
    let mut seen = std::collections::BTreeSet::new();
    for server in &written.servers {
        if !is_name(&server.name) {
            return Err(Problem::Broken(InventoryError::Name(server.name.clone()).to_string()));
        }
        if !seen.insert(&server.name) {
            return Err(Problem::Broken(format!("two servers are called {:?}", server.name)));
        }
    }
    Ok(written.servers)
}

/// Whether a server may be called this.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}

/// `host` as `host:port`, with `port` where it has none. IPv6 addresses may come bare.
#[must_use]
pub fn with_port(host: &str, port: u16) -> String {
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        return std::net::SocketAddr::new(address, port).to_string();
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
