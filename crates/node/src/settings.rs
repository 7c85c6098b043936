//! What a node is told, as meant.

use allod_meshnode::Interfaces;
use allod_meshproto::token::JoinToken;
use allod_proto::node::Forward;
use std::{fmt, path::PathBuf, time::Duration};
use zeroize::Zeroizing;

/// What a node is told.
#[derive(Debug)]
pub struct Settings {
    /// The folder that it alone uses.
    pub folder: PathBuf,
    /// Where its socket is.
    pub run: PathBuf,
    /// How it gets onto the mesh.
    pub way: Way,
    /// A file of certificate authorities that are believed instead of the system's when the coordinator is asked by https; kept.
    pub authorities: Option<PathBuf>,
    /// The name that it would like to have there; without one, as before, else the machine's.
    pub hostname: Option<String>,
    /// Whether the coordinator may forget it as soon as it is away.
    pub ephemeral: bool,
    /// Where its datagrams come from.
    pub interfaces: Interfaces,
    /// The users besides root and its own that may use the socket.
    pub clients: Vec<u32>,
    /// Without a connection for so long, it ends.
    pub idle_end: Option<Duration>,
    /// Ports of the mesh that are passed on.
    pub forwards: Vec<Forward>,
}

/// How a node gets onto a mesh.
pub enum Way {
    /// Back to where its folder was.
    Back,
    /// As [`Way::Back`]: what it was to join with is not there (any more), for this reason.
    Missing(String),
    /// With a join token.
    Token(JoinToken),
    /// To the coordinator at this URL, with the key that it gave, or without one: then a person lets it in.
    Coordinator {
        /// Where.
        url: String,
        /// What lets it in.
        key: Option<Zeroizing<String>>,
    },
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Back => f.write_str("Back"),
            Self::Missing(why) => write!(f, "Missing({why})"),
            Self::Token(token) => token.fmt(f),
            Self::Coordinator { url, .. } => write!(f, "Coordinator({url})"),
        }
    }
}
