//! What the proxy is told at its start. The program that starts it reads files and flags; here are only values.

use allod_daemon::clock::Clock;
use std::{net::IpAddr, net::TcpListener, path::PathBuf, str::FromStr, time::Duration};

/// What the proxy needs to run.
#[derive(Debug)]
pub struct Settings {
    /// The file that the agent writes, `routes.json`.
    pub routes: PathBuf,
    /// Where the control socket is bound, mode 0600.
    pub control: PathBuf,
    /// The listeners, bound already by whoever may bind low ports. They are made non-blocking here.
    pub listeners: Vec<TcpListener>,
    /// Listeners whose clients speak TLS, with the same conditions.
    pub tls_listeners: Vec<TcpListener>,
    /// The folder of certificates, `NAME.pem` and `NAME.key`; needed where there are TLS listeners.
    pub certificates: Option<PathBuf>,
    /// Requests without TLS are sent to https at this port.
    pub https_redirect: Option<u16>,
    /// Where the access log goes; `None` writes none.
    pub access_log: Option<PathBuf>,
    /// Peers whose forwarded headers and PROXY headers are believed.
    pub trusted_hops: Vec<Cidr>,
    /// Whether every connection begins with a PROXY protocol header (version 1 or 2). Only trusted hops may connect then.
    pub proxy_protocol: bool,
    /// Bounds on connections, heads and waits.
    pub limits: Limits,
    /// The clock for the access log.
    pub clock: Clock,
}

/// Bounds that hold for the whole proxy; those of one route are in `routes.json`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections from clients at one time; more wait in the listener's backlog.
    pub connections: usize,
    /// Bytes of a request's head: 431.
    pub head_bytes: usize,
    /// How long a client may take to send a request's head.
    pub head_timeout: Duration,
    /// How long a kept-alive connection may be idle.
    pub keep_alive: Duration,
    /// How long a connection to an instance may take: 502.
    pub connect_timeout: Duration,
    /// How long an idle connection to an instance is kept for the next request.
    pub upstream_keep_alive: Duration,
    /// Idle connections kept for each instance and worker.
    pub upstream_idle: usize,
    /// How long a client may take nothing of what is sent to it.
    pub send_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// TLS handshakes that are computed at one time; more wait, within their time.
    pub handshakes: usize,
    /// Requests of one paused app that may wait: more are answered 503.
    pub queue: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
    /// The access log is set aside as `<name>.1` when it grows over this.
    pub access_log_bytes: u64,
    /// How long requests may go on when the proxy is told to stop.
    pub shutdown: Duration,
    /// How long connections may go on when another proxy has taken over the listeners.
    pub retire: Duration,
    /// How long a kept connection must have been quiet before it is closed when another proxy has taken over: a client
    /// may be sending a request just then, and would see it fail.
    pub retire_quiet: Duration,
    /// Threads that serve; 0 takes one for each processor.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            connect_timeout: Duration::from_secs(5),
            upstream_keep_alive: Duration::from_secs(60),
            upstream_idle: 128,
            send_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            handshakes: 512,
            queue: 1_000,
            h2_streams: 250,
            access_log_bytes: 64 * 1024 * 1024,
            shutdown: Duration::from_secs(30),
            retire: Duration::from_secs(600),
            retire_quiet: Duration::from_secs(20),
            workers: 0,
        }
    }
}

/// A range of addresses, written `10.0.0.0/8` or as one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a range such as 10.0.0.0/8")]
pub struct CidrError(String);

impl Cidr {
    /// Whether the range holds this address. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_prefix(network.to_bits().into(), address.to_bits().into(), self.prefix, 32)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_prefix(network.to_bits(), address.to_bits(), self.prefix, 128)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, prefix: u8, width: u8) -> bool {
    let shift = u32::from(width.saturating_sub(prefix));
    a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.chars().take(80).collect());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let network: IpAddr = address.parse().map_err(|_| error())?;
        let widest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| error())?,
            None => widest,
        };
        if prefix > widest {
            return Err(error());
        }
        Ok(Self { network, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_range_is_refused() {
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "a/8", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        let ten: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(ten.contains("10.1.255.3".parse().unwrap()));
        assert!(ten.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!ten.contains("10.2.0.0".parse().unwrap()));
        assert!(!ten.contains("::1".parse().unwrap()));
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.contains("fd7a:115c:a1e0::1".parse().unwrap()));
        assert!("127.0.0.1".parse::<Cidr>().unwrap().contains("127.0.0.1".parse().unwrap()));
    }
}
