//! Keys to sign with: where they are looked for, in which order they are tried, and what it takes to use them. An
//! agent's key never prompts; a passphrase is asked for only when its key's turn comes, and never stands in a command
//! line.

mod agent;
mod candidates;
mod files;
mod logins;
mod passphrases;
mod ssh_config;

pub use agent::{Agent, AgentError, AgentKey, AgentSigner};
pub use candidates::{Candidates, Wanted};
pub use files::{FileKey, default_files};
pub use logins::{Login, Logins};
pub use passphrases::Passphrases;
pub(crate) use passphrases::{LIMIT as HIDDEN_LIMIT, ask as ask_hidden};
pub use ssh_config::{HostConfig, host_config};

use allod_proto::FaultCode;
use std::{io, path::PathBuf};

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It can't be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not a key that can sign here.
    #[error("{path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Others may read it.
    #[error("{path} may be read by others than its owner (mode {mode:04o})")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is only a public key, and no agent has the other half.
    #[error("{0} is a public key, and no running ssh-agent holds its private half")]
    NotInAgent(PathBuf),
    /// Its passphrase is needed and nobody can be asked.
    #[error("{0} is behind a passphrase, and nobody can be asked for it here")]
    PassphraseNeeded(PathBuf),
    /// The passphrase was wrong, or not given.
    #[error("{0} stays locked: the passphrase was wrong, or not given")]
    Locked(PathBuf),
    /// The descriptor of `--passphrase-fd` can't be read.
    #[error("--passphrase-fd {fd}: {error}")]
    Descriptor {
        /// The number.
        fd: u32,
        /// Why.
        error: io::Error,
    },
}

impl KeysError {
    /// Decides the exit code.
    #[must_use]
    pub fn code(&self) -> FaultCode {
        match self {
            Self::Read { .. } | Self::Unusable { .. } | Self::Exposed { .. } | Self::Descriptor { .. } => {
                FaultCode::Invalid
            }
            Self::NotInAgent(_) | Self::Locked(_) => FaultCode::Refused,
            Self::PassphraseNeeded(_) => FaultCode::Confirmation,
        }
    }

    /// What can be done.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } | Self::Unusable { .. } => "`--key FILE` names another key".to_owned(),
            Self::Exposed { path, .. } => format!("chmod 600 {}", path.display()),
            Self::NotInAgent(_) => "`ssh-add` puts it there; or name the private key file".to_owned(),
            Self::PassphraseNeeded(_) => "`ssh-add` puts it into an agent; or give --passphrase-fd N, as in \
                 `allod --passphrase-fd 3 … 3<passphrase-file`"
                .to_owned(),
            Self::Locked(_) => "`ssh-add` asks once for many commands".to_owned(),
            Self::Descriptor { .. } => "open it for reading, as in `3<passphrase-file`".to_owned(),
        }
    }
}

/// The host of `host:port`.
#[must_use]
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
