//! What a node is told, as meant.

use allod_meshnode::Interfaces;
use allod_meshproto::token::JoinToken;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};
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

/// A port of the mesh that is passed to a TCP address of this machine: `22=127.0.0.1:22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The port on the mesh.
    pub port: u16,
    /// Where it leads.
    pub to: SocketAddr,
}

/// What is no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not PORT=ADDRESS:PORT, such as 22=127.0.0.1:22; names other than localhost are not looked up"
)]
pub struct ForwardError(String);

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let bad = || ForwardError(text.to_owned());
        let (port, to) = text.split_once('=').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let to: SocketAddr = match to.strip_prefix("localhost:") {
            Some(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse().map_err(|_| bad())?),
            None => to.parse().map_err(|_| bad())?,
        };
        let is_one = !to.ip().is_unspecified()
            && !to.ip().is_multicast()
            && to.ip() != IpAddr::V4(Ipv4Addr::BROADCAST);
        if port == 0 || to.port() == 0 || !is_one {
            return Err(bad());
        }
        Ok(Self { port, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_that_leads_nowhere_is_refused() {
        for bad in [
            "",
            "22",
            "22=",
            "=127.0.0.1:22",
            "0=127.0.0.1:22",
            "22=127.0.0.1:0",
            "22=0.0.0.0:22",
            "22=255.255.255.255:22",
            "22=web1:22",
            "22=127.0.0.1",
            "65536=127.0.0.1:22",
            "22=[::]:22",
            "22=224.0.0.1:22",
        ] {
            assert!(bad.parse::<Forward>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_forward_is_a_port_and_an_address() {
        let ssh = Forward { port: 22, to: "127.0.0.1:2222".parse().unwrap() };
        assert_eq!("22=127.0.0.1:2222".parse(), Ok(ssh));
        assert_eq!("22=localhost:2222".parse(), Ok(ssh));
        assert_eq!("22=[::1]:22".parse::<Forward>().unwrap().to, "[::1]:22".parse().unwrap());
    }
}
