//! What a line of the record says. Parameters arrive here already redacted: what is written stays.

use allod_proto::{AppRef, Epoch, FaultCode, Fingerprint, Nonce, Role, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The text of [`Note::what`] on the line that carries on after a cut: lines that were signed are gone.
pub const CUT: &str = "cut";
/// The text of [`Note::what`] when an unfinished write at the end was set aside; nothing acknowledged was in it.
pub const TORN: &str = "torn";
/// The text of [`Note::what`] when the record on disk contradicts itself or its signed head.
pub const DAMAGED: &str = "damaged";

/// The text of [`Note::what`] on the line that names the file with the changes of the segment before: the number of its
/// first line, how many lines it has, and its SHA-256.
pub const KEPT: &str = "kept";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A program began to write here.
    Start(Start),
    /// A change is about to happen.
    Intent(Box<Intent>),
    /// How a change ended.
    Outcome(Box<Outcome>),
    /// Something was read; request and outcome in one.
    Read(Box<Read>),
    /// Somebody known asked for a change that they may not make. The executor saw their signature; nothing was done.
    Denied(Box<Read>),
    /// What one asker did more often than is written down one by one.
    Counted(Counted),
    /// Strangers were refused; counted, so that they can't fill the disk.
    Refusals(Refusals),
    /// Something worth knowing that nobody asked for.
    Note(Note),
}

/// Which program writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its name, such as `executor`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// This life of the server's agent, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// By which door a caller came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// The signed RPC on the mesh.
    Rpc,
    /// The local socket.
    Socket,
    /// sshd's forced command.
    Gate,
    /// The recovery user on the machine itself, or root.
    Recovery,
    /// The server itself, repeating what somebody asked for before.
    System,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The key that signed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Fingerprint>,
    /// The fresh key that signed in that key's name, under its delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Fingerprint>,
    /// What the server calls the caller: the key's comment, a user name, a named caller.
    pub name: String,
    /// The ceiling the caller had.
    pub role: Role,
    /// By which door.
    pub door: Door,
    /// From where: an address, a uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A change that is about to happen. Durable before anything is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The client-made id of the request.
    pub request: String,
    /// Who asked.
    pub who: Who,
    /// The command, as on the wire.
    pub command: String,
    /// The app it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppRef>,
    /// What else it is about: a key, a release, a named command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The parameters, secrets already replaced by keyed hashes.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
    /// The request's nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
    /// When the caller signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// The caller's SSHSIG in standard base64, so that the record itself proves who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The canonical bytes that the signature covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// The delegation that the request was signed under, as in its header: the key's own signature is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<String>,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was done.
    Ok,
    /// It was not done, or not wholly; code and message say why.
    Failed,
    /// The program ended before it could tell.
    Unknown,
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The sequence number of the intent.
    pub intent: u64,
    /// How it ended.
    pub result: Ending,
    /// The fault's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FaultCode>,
    /// The fault's sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The reply, if it is small, so that a retry gets the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Value>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Something that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The client-made id of the request.
    pub request: String,
    /// Who asked.
    pub who: Who,
    /// The command, as on the wire.
    pub command: String,
    /// The app it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppRef>,
    /// What was asked for, where that is more than the command; escaped, and cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The fault's sentence, of what was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The counter of the registry that denied it, of a named command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<u64>,
    /// How it ended.
    pub result: Ending,
    /// The fault's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FaultCode>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How much more one asker did within one minute than is written down one by one: reads, and changes that were denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// When the minute began.
    pub from_minute: Timestamp,
    /// Their key, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Fingerprint>,
    /// What the server calls them; `many` where they are too many to tell apart.
    pub name: String,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How often beyond what was written down.
    pub count: u64,
}

/// How often strangers from one source were refused for one reason within one minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// When the minute began.
    pub from_minute: Timestamp,
    /// From where: an address.
    pub source: String,
    /// Why, in a word.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Something worth knowing that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What kind, in a word.
    pub what: String,
    /// A sentence.
    pub detail: String,
}

impl Entry {
    /// A note.
    pub fn note(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Note(Note { what: what.into(), detail: detail.into() })
    }
}
