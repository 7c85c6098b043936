//! The two probes that answer unsigned, and the state of a server.

use crate::{AppRef, Digest, Epoch, Fingerprint, Timestamp, messages::app::AppStatus, record::Head};
use serde::{Deserialize, Serialize};

/// `hello`: which protocol, which server. Answers unsigned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {}

/// Answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The oldest protocol version understood.
    pub oldest: u32,
    /// The newest protocol version understood.
    pub newest: u32,
    /// The program's version.
    pub version: String,
    /// The server's identity.
    pub identity: Fingerprint,
    /// The agent's epoch.
    pub epoch: Epoch,
    /// How the identity came from the ones before, oldest first: at most [`SUCCESSIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succession: Vec<Succession>,
}

/// How many successions a server remembers.
pub const SUCCESSIONS: usize = 16;

/// An identity names the one that comes after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The identity before.
    pub old: Fingerprint,
    /// The identity after.
    pub new: Fingerprint,
    /// When.
    pub at: Timestamp,
    /// SSHSIG in the namespace `allod-succession-v1` by the old identity, standard base64 without armour, over four
    /// lines, each ended by a newline: the namespace, `old`, `new`, `at`.
    pub signature: String,
}

/// `server.rotate_identity`: another identity key, which the old one names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerRotateIdentity {
    /// The identity that is to be replaced.
    pub from: Fingerprint,
}

/// Answer to `server.rotate_identity`, still signed by the old identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRotateIdentityReply {
    /// What the old identity signed.
    pub succession: Succession,
}

/// `server_info`: a little more, for `servers add`. Answers unsigned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerInfo {}

/// Answer to `server_info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfoReply {
    /// The server's own name.
    pub name: String,
    /// The address the management API listens on.
    pub address: String,
    /// The program's version.
    pub version: String,
    /// The server's identity.
    pub identity: Fingerprint,
}

/// `server.status`: everything worth a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerStatus {}

/// Answer to `server.status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatusReply {
    /// The server's own name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// When the agent started.
    pub started_at: Timestamp,
    /// The server's clock.
    pub now: Timestamp,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// The head of the record.
    pub record: Head,
    /// The record key's fingerprint; a client pins it with the identity.
    pub record_key: Fingerprint,
    /// The executor's `age` recipient that secrets are sealed to; a client pins it with the identity.
    pub recipient: String,
    /// What keeps programs and apps apart here, and what does not.
    pub isolation: Vec<IsolationFact>,
    /// Bytes free where releases live.
    pub disk_free: u64,
    /// Bytes in all there.
    pub disk_total: u64,
    /// Load average of the last minute, in hundredths.
    pub load_hundredths: u64,
    /// The proxy; `None` when it does not answer.
    #[serde(default)]
    pub proxy: Option<crate::routes::ProxyStatus>,
    /// The apps the caller may see.
    pub apps: Vec<AppStatus>,
    /// Lines of the enrolled keys that authorise nobody, for those who may see keys.
    #[serde(default)]
    pub key_complaints: Vec<String>,
}

/// One way in which programs or apps are kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationFact {
    /// What: `own uid per app`.
    pub what: String,
    /// Whether it is in force.
    pub on: bool,
    /// Why not, and what it takes.
    #[serde(default)]
    pub why: Option<String>,
}

/// `server.doctor`: what is wrong here, each finding with its fix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerDoctor {}

/// Answer to `server.doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDoctorReply {
    /// The findings, worst first.
    pub findings: Vec<Finding>,
}

/// Something looked at by a doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `disk`, `clock`, `proxy`.
    pub about: String,
    /// How bad it is.
    pub level: FindingLevel,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub fix: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingLevel {
    /// Needs doing.
    Bad,
    /// Worth knowing.
    Warning,
    /// As it should be.
    Good,
}

/// `server.prune`: remove releases and chunks nobody needs. The rollback set stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPrune {
    /// Only this app.
    #[serde(default)]
    pub app: Option<AppRef>,
}

/// Answer to `server.prune`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPruneReply {
    /// Releases removed.
    pub releases: u32,
    /// Bytes freed, as far as is known.
    pub bytes: u64,
}

/// Answer to `PUT /chunks/<app>/<env>/<sha256>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkReply {
    /// The chunk that is now there.
    pub chunk: Digest,
}
