//! What the proxy serves: `routes.json`, written by the agent by sync and rename, and the words on the proxy's
//! control socket. The proxy loads the file by itself at start and acknowledges each generation.

use crate::{AppRef, ReleaseId, UnitName};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};

/// The format number of `routes.json`.
pub const FORMAT: u32 = 1;

/// The whole of `routes.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// [`FORMAT`].
    pub format: u32,
    /// Counts up by one with each write; the proxy acknowledges it.
    pub generation: u64,
    /// The routes, in no particular order: the most specific match wins.
    pub routes: Vec<Route>,
}

impl RouteTable {
    /// A table without routes, as a fresh server has it.
    #[must_use]
    pub fn empty() -> Self {
        Self { format: FORMAT, generation: 0, routes: Vec::new() }
    }
}

/// Where requests for one host and path go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The app that owns the route.
    pub app: AppRef,
    /// The unit that answers.
    pub unit: UnitName,
    /// The release that answers.
    pub release: ReleaseId,
    /// What it matches.
    #[serde(rename = "match")]
    pub pattern: RoutePattern,
    /// Whether the path prefix is taken off before the request is passed on.
    #[serde(default)]
    pub strip_prefix: bool,
    /// Who answers.
    pub target: RouteTarget,
    /// Bounds on requests and waits.
    pub limits: RouteLimits,
}

/// Host and path of a route. Written `host`, `host/path`, `*.host/path` or `/path` (any host).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePattern {
    /// Lower-case host without port; `*.example.com` matches one label; `None` matches any host.
    pub host: Option<String>,
    /// Path prefix that begins with `/` and does not end with one, except `/` itself. Matches whole segments.
    pub path: String,
}

/// Who answers a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RouteTarget {
    /// Running instances. An empty list answers 503.
    Instances(Vec<Upstream>),
    /// A folder of files.
    Static {
        /// The absolute folder.
        root: PathBuf,
        /// The file that answers, with status 200, a path that is not there (single-page apps); below `root`.
        #[serde(default)]
        fallback: Option<PathBuf>,
    },
    /// The app is stopped: 503 with this sentence on the page.
    Stopped {
        /// What the page says.
        message: String,
    },
}

/// One instance's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    /// The uid that must own the listening socket; `None` where uids can't tell programs apart.
    pub uid: Option<u32>,
}

/// Bounds of a route. Milliseconds and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteLimits {
    /// The largest request body, enforced while it streams: 413.
    pub body_bytes: u64,
    /// How long until the upstream's response head: 504.
    pub response_timeout_ms: u64,
    /// How long either side may be silent in the middle of a body.
    pub idle_timeout_ms: u64,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self { body_bytes: 128 * 1024 * 1024, response_timeout_ms: 60_000, idle_timeout_ms: 300_000 }
    }
}

impl RoutePattern {
    /// Reads `host`, `host/path`, `*.host`, `*.host/path` or `/path`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, path) = match text.find('/') {
            Some(0) => (None, text),
            Some(at) => {
                let (host, path) = text.split_at(at);
                (Some(host), path)
            }
            None => (Some(text), "/"),
        };
        let host = host.map(|host| parse_host(host, text)).transpose()?;
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        if path.is_empty() || path.contains("//") || path.split('/').any(|part| part == "." || part == "..") {
            return Err(format!(
                "route {text:?}: the path must begin with / and have no empty, . or .. segments"
            ));
        }
        if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '*')) {
            return Err(format!("route {text:?}: {bad:?} can't be part of a path prefix"));
        }
        Ok(Self { host, path: path.to_owned() })
    }
}

fn parse_host(host: &str, whole: &str) -> Result<String, String> {
    if host.contains(':') {
        return Err(format!("route {whole:?}: leave the port out, the proxy decides where it listens"));
    }
    let lower = host.to_ascii_lowercase();
    let labels = lower.strip_prefix("*.").unwrap_or(&lower);
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if lower.len() > 253 || !labels.split('.').all(good) {
        return Err(format!("route {whole:?}: {host:?} is not a host name (or *. and a host name)"));
    }
    Ok(lower)
}

impl std::fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.host.as_deref().unwrap_or("");
        let path = if self.path == "/" && self.host.is_some() { "" } else { &self.path };
        f.pad(&format!("{host}{path}"))
    }
}

/// A line to the proxy's control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProxyAsk {
    /// Read `routes.json` again. The answer comes when new requests follow the new table.
    Load,
    /// Wait until no request is in flight to this address. WebSockets and open event streams count; what is left
    /// at the end of the wait is cut.
    Drain {
        /// The instance that goes.
        upstream: SocketAddr,
        /// How long to wait.
        timeout_ms: u64,
    },
    /// Hold new requests of an app in a queue instead of answering them.
    Pause {
        /// The app.
        app: AppRef,
        /// How long a request waits at most before it is answered 504.
        timeout_ms: u64,
    },
    /// Let a paused app's requests go on.
    Resume {
        /// The app.
        app: AppRef,
    },
    /// Read the certificates again.
    Certificates,
    /// What is going on.
    Status,
}

/// The proxy's answer to one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ProxyAnswer {
    /// The table of this generation is served.
    Loaded {
        /// Its generation.
        generation: u64,
    },
    /// The wait is over.
    Drained {
        /// Requests and connections that were cut.
        cut: u64,
    },
    /// Done.
    Done,
    /// The certificates were read; what is complained about is served as it was before, or not at all.
    Certificates {
        /// The names that can be served.
        names: Vec<String>,
        /// One sentence for each file or name that is not in use.
        complaints: Vec<String>,
    },
    /// What is going on.
    Status(ProxyStatus),
    /// It could not be done; what was served before is served on.
    Failed {
        /// Why.
        message: String,
    },
}

/// What the proxy is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// The generation served.
    pub generation: u64,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Requests answered since start.
    pub requests: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Answers the proxy made itself with a 5xx status (no instance, no answer, timeout) since start.
    pub own_errors: u64,
    /// The process that answers.
    #[serde(default)]
    pub pid: u32,
    /// The apps whose requests wait.
    #[serde(default)]
    pub paused: Vec<PausedApp>,
}

/// An app whose requests wait in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedApp {
    /// The app.
    pub app: AppRef,
    /// How long a request waits at most, in milliseconds.
    pub timeout_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_could_match_by_accident_is_refused() {
        for bad in [
            "",
            "example.com:80",
            "exa mple.com",
            "*",
            "*.*.com",
            "a.*.com",
            "example.com//x",
            "example.com/a/../b",
            "x/?q",
            "-a.com",
            "x/*",
        ] {
            assert!(RoutePattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn routes_read_back_as_written() {
        for good in
            ["example.com", "example.com/api", "*.example.com", "*.example.com/a/b", "/api", "/", "localhost"]
        {
            assert_eq!(RoutePattern::parse(good).unwrap().to_string(), good);
        }
        assert_eq!(RoutePattern::parse("Example.COM/api/").unwrap().to_string(), "example.com/api");
    }
}
