//! Bounds that both ends rely on.

use std::time::Duration;

/// The largest body of a command, in bytes.
pub const BODY: usize = 1024 * 1024;
/// The largest chunk, in bytes.
pub const CHUNK: usize = 4 * 1024 * 1024;
/// The largest request head, in bytes.
pub const HEAD: usize = 32 * 1024;
/// The largest line on a local socket between our own programs, in bytes.
pub const LINE: usize = 8 * 1024 * 1024;
/// How far a request's timestamp may lie from the server's clock, either way.
pub const FRESHNESS: Duration = Duration::from_secs(60);
/// How long a delegation lasts if nobody says otherwise.
pub const DELEGATION_USUAL: Duration = Duration::from_secs(15 * 60);
/// How long a delegation may last.
pub const DELEGATION_LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// How many servers one delegation may be for.
pub const DELEGATION_AUDIENCES: usize = 64;
/// How long a changing command's id is remembered.
pub const COMMAND_ID_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// How many hashes one `app.missing` may ask for.
pub const MISSING_HASHES: usize = 10_000;
/// The most instances of one unit on one server.
pub const INSTANCES: u32 = 64;
/// The largest sealed secret, in bytes before encoding.
pub const SECRET: usize = 64 * 1024;
/// The most files, folders and links in one release.
pub const RELEASE_ENTRIES: usize = 200_000;
/// The most bytes in one release.
pub const RELEASE_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// The largest manifest, in bytes; it travels as chunks.
pub const MANIFEST: usize = 64 * 1024 * 1024;
/// The most bytes of chunks of one app that no release is made of: the largest release and its manifest.
pub const UNFINISHED_UPLOADS: u64 = RELEASE_BYTES + 64 * 1024 * 1024;
/// How long a chunk that somebody asked for or sent is counted on, whoever frees space.
pub const UPLOAD_LEASE: Duration = Duration::from_secs(60 * 60);
/// How long chunks of a deploy that never happened stay by themselves.
pub const UPLOAD_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of a log one reply or frame may carry, in bytes.
pub const LOG_PART: usize = 64 * 1024;
