//! Where a coordinator is. A secret goes there by TLS; in the clear only within a machine or a private network, and only
//! where a person allowed it.

use crate::is_mesh_address;
use hyper::Uri;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// An address that secrets may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What its paths begin with; no slash at its end.
    pub(crate) prefix: String,
    /// Whom to believe in about its name, instead of whom this system believes in: a file of PEM certificates.
    pub(crate) authorities: Option<PathBuf>,
}

/// Why that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It can't be read.
    #[error("`{0}` is no address of a coordinator, such as https://mesh.example")]
    Unreadable(String),
    /// A secret would go there in the clear.
    #[error("{0} is plain http: a key sent there could be read on the way; use https")]
    Plain(String),
    /// The same, where a setting may allow it.
    #[error(
        "{0} is plain http: on this machine or an encrypted private network that may be allowed, by --plain-http"
    )]
    NotAllowed(String),
}

impl Endpoint {
    /// Reads an address. `plain_allowed`: a person said that plain http is right there.
    ///
    /// # Errors
    /// [`EndpointError`], and why.
    pub fn parse(url: &str, plain_allowed: bool) -> Result<Self, EndpointError> {
        let shown = crate::tailscaled::plain(url, 200);
        let unreadable = || EndpointError::Unreadable(shown.clone());
        let uri: Uri = url.parse().map_err(|_| unreadable())?;
        let authority = uri.authority().ok_or_else(unreadable)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(unreadable()),
        };
        if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
            return Err(unreadable());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(unreadable());
        }
        if !tls {
            // A name could be pointed elsewhere later; an address can't.
            let near = host == "localhost" || host.parse().is_ok_and(is_private);
            match (near, plain_allowed) {
                (false, _) => return Err(EndpointError::Plain(shown)),
                (true, false) => return Err(EndpointError::NotAllowed(shown)),
                (true, true) => {}
            }
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { tls, host, port, prefix, authorities: None })
    }

    /// The same, believing the certificates of this file alone about its name.
    #[must_use]
    pub fn with_authorities(mut self, file: PathBuf) -> Self {
        self.authorities = Some(file);
        self
    }

    /// Whether it may be connected to at this address, which its name was looked up to.
    pub(crate) fn may_be_at(&self, address: SocketAddr) -> bool {
        self.tls || is_private(address.ip())
    }

    /// `host:port`, as the header names it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || is_mesh_address(v4.into()),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_go_in_the_clear() {
        for public in
            ["http://mesh.example", "http://203.0.113.9:8080", "http://[2001:db8::1]", "http://mesh"]
        {
            let refused = [false, true].map(|allowed| Endpoint::parse(public, allowed));
            assert!(
                refused.iter().all(|refused| matches!(refused, Err(EndpointError::Plain(_)))),
                "{public}"
            );
        }
        for near in [
            "http://localhost:8080",
            "http://127.0.0.1",
            "http://10.0.0.1",
            "http://100.64.0.1",
            "http://[::1]",
        ] {
            assert!(matches!(Endpoint::parse(near, false), Err(EndpointError::NotAllowed(_))), "{near}");
            assert!(Endpoint::parse(near, true).is_ok(), "{near}");
        }
        let here = Endpoint::parse("http://localhost", true).unwrap();
        assert!(!here.may_be_at("203.0.113.9:80".parse().unwrap()), "localhost was pointed elsewhere");
        assert!(here.may_be_at("127.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "mesh.example",
            "ftp://mesh.example",
            "https://",
            "https://key@mesh.example",
            "https://mesh.example/?key=1",
            "https://mesh.example/#x",
            "https://me sh.example",
        ] {
            assert!(matches!(Endpoint::parse(bad, true), Err(EndpointError::Unreadable(_))), "{bad}");
        }
    }

    #[test]
    fn https_goes_anywhere_and_keeps_its_path() {
        let endpoint = Endpoint::parse("https://mesh.example/coordinator/", false).unwrap();
        assert_eq!(endpoint.to_string(), "https://mesh.example:443/coordinator");
        let endpoint = Endpoint::parse("https://[2001:db8::1]:8443", false).unwrap();
        assert_eq!(endpoint.authority(), "[2001:db8::1]:8443");
    }
}
