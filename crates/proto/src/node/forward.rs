//! A port of the mesh that leads to one of the machine's own.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

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

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.port, self.to)
    }
}

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
        assert_eq!("22=[::1]:22".parse::<Forward>().unwrap().to_string(), "22=[::1]:22");
    }
}
