//! Header names and namespaces of the signed door.

/// `SHA256:…` of the signing public key (of a certificate: of its key).
pub const KEY_FINGERPRINT: &str = "x-allod-key-fingerprint";
/// Unix time in milliseconds.
pub const TIMESTAMP: &str = "x-allod-timestamp";
/// See [`crate::Nonce`].
pub const NONCE: &str = "x-allod-nonce";
/// See [`crate::Epoch`]. In requests and in every reply.
pub const EPOCH: &str = "x-allod-epoch";
/// SHA-256 of the body, lower-case hexadecimal.
pub const CONTENT_SHA256: &str = "x-allod-content-sha256";
/// An SSHSIG in the namespace [`MANAGEMENT_NAMESPACE`], in standard base64 without armour.
pub const SIGNATURE: &str = "x-allod-signature";
/// What a key that signs in another's name signs under: its terms and the SSHSIG over them, each in standard base64, with
/// a full stop between. Since protocol version [`crate::DELEGATION_VERSION`].
pub const DELEGATION: &str = "x-allod-delegation";
/// An SSHSIG in the namespace [`REPLY_NAMESPACE`], in standard base64 without armour.
pub const REPLY_SIGNATURE: &str = "x-allod-reply-signature";
/// The head of the server's record at the time of the reply, as [`crate::record::SignedHead`] in JSON.
pub const RECORD: &str = "x-allod-record";

/// The SSHSIG namespace of requests, and the first line of what is signed.
pub const MANAGEMENT_NAMESPACE: &str = "allod-management-v1";
/// The SSHSIG namespace of replies, and the first line of what is signed.
pub const REPLY_NAMESPACE: &str = "allod-reply-v1";
/// The SSHSIG namespace of the frames of a stream, and the first line of what is signed.
pub const FRAME_NAMESPACE: &str = "allod-frame-v1";
/// The SSHSIG namespace of delegations, and the first line of what is signed.
pub const DELEGATION_NAMESPACE: &str = "allod-delegation-v1";
/// The SSHSIG namespace of successions of identities, and the first line of what is signed.
pub const SUCCESSION_NAMESPACE: &str = "allod-succession-v1";
/// The SSHSIG namespace of heads of the record, and the first line of what is signed.
pub const HEAD_NAMESPACE: &str = "allod-record-head-v1";

/// Where commands go.
pub const RPC_PATH: &str = "/rpc";
/// Where chunks go, followed by `<app>/<env>/<sha256>`.
pub const CHUNKS_PATH: &str = "/chunks/";
/// The management port on a mesh address.
pub const MANAGEMENT_PORT: u16 = 9844;
