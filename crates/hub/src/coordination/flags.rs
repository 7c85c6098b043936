//! What a person says of the coordinator on the hub's command line.

use super::CoordinationError;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The port of STUN (RFC 8489).
const STUN: u16 = 3478;

/// The coordinator's flags; flatten them into the hub's own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "A mesh of your own")]
pub struct CoordinatorFlags {
    /// Run the coordinator of a mesh here: nodes join it, find each other and are relayed on this address and port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub coordinator: Option<SocketAddr>,
    /// Where nodes reach it, best first; may be given up to four times
    ///
    /// http://ADDRESS:PORT of --coordinator if not given, https:// with a certificate.
    #[arg(long, value_name = "URL", requires = "coordinator")]
    pub url: Vec<String>,
    /// Where it tells nodes what address they come from (UDP); `off` for nowhere. The same address, port 3478, if not given
    #[arg(long, value_name = "ADDRESS:PORT|off", requires = "coordinator")]
    pub stun: Option<Stun>,
    /// A chain of certificates: HTTPS on its port, which stock clients need for its relay
    #[arg(long, value_name = "PEM", requires = "coordinator", requires = "certificate_key")]
    pub certificate: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "PEM", requires = "certificate")]
    pub certificate_key: Option<PathBuf>,
    /// The domain of the nodes' names
    #[arg(long, value_name = "NAME", default_value = "mesh.internal")]
    pub domain: String,
}

/// Where STUN is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stun {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for Stun {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| "neither ADDRESS:PORT nor `off`".to_owned())
    }
}

/// A URL that nodes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) text: String,
    host: String,
    port: u16,
}

impl Url {
    fn parse(text: &str, is_secure: bool) -> Result<Self, String> {
        let bad = || format!("`{text}` is not http://HOST[:PORT] or https://HOST[:PORT]");
        let uri: hyper::Uri = text.parse().map_err(|_| bad())?;
        let (scheme, host) = (uri.scheme_str().ok_or_else(bad)?, uri.host().ok_or_else(bad)?);
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(bad()),
        };
        if (scheme == "https") != is_secure {
            let why = if is_secure {
                "with --certificate, URLs are https://"
            } else {
                "https:// takes --certificate"
            };
            return Err(format!("`{text}`: {why}"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { text: text.to_owned(), host, port: uri.port_u16().unwrap_or(usual) })
    }

    pub(super) fn parts(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }
}

impl CoordinatorFlags {
    /// Certificate and key, where there are both.
    pub(super) fn certificate(&self) -> Result<Option<(&Path, &Path)>, CoordinationError> {
        match (&self.certificate, &self.certificate_key) {
            (Some(pem), Some(key)) => Ok(Some((pem, key))),
            (None, None) => Ok(None),
            _ => {
                Err(CoordinationError::Settings("--certificate and --certificate-key go together".to_owned()))
            }
        }
    }

    /// Where nodes reach what listens on `bound`.
    pub(super) fn urls(&self, bound: SocketAddr, is_secure: bool) -> Result<Vec<Url>, CoordinationError> {
        let own = if self.url.is_empty() { vec![own_url(bound, is_secure)?] } else { self.url.clone() };
        let urls: Result<_, _> = own.iter().map(|url| Url::parse(url, is_secure)).collect();
        urls.map_err(CoordinationError::Settings)
    }

    pub(super) fn stun(&self, bound: SocketAddr) -> Stun {
        self.stun.unwrap_or_else(|| Stun::At(SocketAddr::new(bound.ip(), STUN)))
    }
}

fn own_url(bound: SocketAddr, is_secure: bool) -> Result<String, CoordinationError> {
    if bound.ip().is_unspecified() {
        let message = "--url is needed where --coordinator listens on all addresses: say how nodes reach it";
        return Err(CoordinationError::Settings(message.to_owned()));
    }
    let scheme = if is_secure { "https" } else { "http" };
    Ok(match bound.ip() {
        IpAddr::V4(_) => format!("{scheme}://{bound}"),
        IpAddr::V6(ip) => format!("{scheme}://[{ip}]:{}", bound.port()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        flags: CoordinatorFlags,
    }

    fn flags(words: &[&str]) -> Option<CoordinatorFlags> {
        let words = std::iter::once("x").chain(words.iter().copied());
        Program::try_parse_from(words).ok().map(|program| program.flags)
    }

    fn urls(words: &[&str], bound: &str, is_secure: bool) -> Result<Vec<String>, String> {
        let flags = flags(&[&["--coordinator", "127.0.0.1:1"], words].concat()).unwrap();
        let urls = flags.urls(bound.parse().unwrap(), is_secure).map_err(|error| error.to_string())?;
        Ok(urls.into_iter().map(|url| format!("{} {} {}", url.text, url.host, url.port)).collect())
    }

    #[test]
    fn flags_that_miss_their_other_half_are_refused() {
        for bad in [
            &["--url", "http://a"][..],
            &["--stun", "off"],
            &["--coordinator", "127.0.0.1:1", "--certificate", "a.pem"],
            &["--coordinator", "127.0.0.1:1", "--certificate-key", "a.key"],
            &["--coordinator", "hub.example:80"],
            &["--coordinator", "127.0.0.1:1", "--stun", "on"],
        ] {
            assert!(flags(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_url_that_nodes_could_not_use_is_refused() {
        for (url, is_secure) in [
            ("ftp://a", false),
            ("a:80", false),
            ("", false),
            ("https://a", false),
            ("http://a", true),
            ("/", false),
        ] {
            assert!(urls(&["--url", url], "127.0.0.1:8080", is_secure).is_err(), "{url}");
        }
        let all = urls(&[], "0.0.0.0:8080", false).unwrap_err();
        assert!(all.contains("--url is needed"), "{all}");
        assert!(urls(&[], "[::]:8080", false).is_err());
    }

    #[test]
    fn host_and_port_of_the_relay_are_those_of_the_url() {
        assert_eq!(urls(&[], "127.0.0.1:8080", false).unwrap(), ["http://127.0.0.1:8080 127.0.0.1 8080"]);
        assert_eq!(urls(&[], "[::1]:8080", true).unwrap(), ["https://[::1]:8080 ::1 8080"]);
        let named = ["--url", "https://mesh.example.org", "--url", "https://192.0.2.1:8443"];
        assert_eq!(
            urls(&named, "0.0.0.0:443", true).unwrap(),
            ["https://mesh.example.org mesh.example.org 443", "https://192.0.2.1:8443 192.0.2.1 8443"]
        );
    }

    #[test]
    fn stun_is_beside_it_elsewhere_or_nowhere() {
        let bound = "192.0.2.1:443".parse().unwrap();
        let stun = |words: &[&str]| {
            flags(&[&["--coordinator", "192.0.2.1:443"], words].concat()).unwrap().stun(bound)
        };
        assert_eq!(stun(&[]), Stun::At("192.0.2.1:3478".parse().unwrap()));
        assert_eq!(stun(&["--stun", "off"]), Stun::Off);
        assert_eq!(stun(&["--stun", "192.0.2.2:1"]), Stun::At("192.0.2.2:1".parse().unwrap()));
    }
}
