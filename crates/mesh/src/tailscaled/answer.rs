//! What tailscaled says, as it writes it and as it is meant. Fields of other versions are passed over; addresses that no
//! mesh has, and words that could fool a terminal, don't get through.

use crate::{Peer, Trouble, guard};
use allod_proto::Timestamp;
use serde::Deserialize;
use std::{collections::BTreeSet, net::IpAddr};

/// The most addresses, tags and warnings that are looked at.
const MANY: usize = 16;

/// How the daemon stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// Whether it has a network interface.
    pub(crate) interface: bool,
    /// The machine's addresses on the mesh, those that may be one.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those that may not.
    pub(crate) foreign: Vec<IpAddr>,
    pub(crate) name: Option<String>,
    pub(crate) key_expiry: Option<Timestamp>,
    pub(crate) expired: bool,
    pub(crate) warnings: Vec<String>,
}

/// `ipn.State`, by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Unset,
    NeedsLogin(Option<String>),
    NeedsMachineAuth,
    Stopped,
    Starting,
    Running,
    Other(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StatusWritten {
    backend_state: String,
    // Before 1.20 it was not told; an interface was the rule.
    #[serde(rename = "TUN", default = "yes")]
    tun: bool,
    #[serde(rename = "AuthURL", default)]
    auth_url: Option<String>,
    #[serde(rename = "TailscaleIPs", default)]
    addresses: Option<Vec<IpAddr>>,
    #[serde(rename = "Self", default)]
    own: Option<OwnWritten>,
    #[serde(default)]
    health: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnWritten {
    #[serde(rename = "DNSName", default)]
    dns_name: Option<String>,
    #[serde(default)]
    host_name: Option<String>,
    #[serde(default)]
    key_expiry: Option<String>,
    #[serde(default)]
    expired: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WhoisWritten {
    node: NodeWritten,
    #[serde(default)]
    user_profile: Option<ProfileWritten>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeWritten {
    #[serde(default)]
    name: String,
    #[serde(default)]
    addresses: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    expired: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProfileWritten {
    #[serde(default)]
    login_name: String,
}

fn yes() -> bool {
    true
}

/// Reads an answer to `status`.
pub(crate) fn parse_status(text: &[u8], mode: &guard::Mode) -> Result<Standing, Trouble> {
    let written: StatusWritten = serde_json::from_slice(text).map_err(|error| unreadable(&error))?;
    let addresses: BTreeSet<IpAddr> =
        written.addresses.unwrap_or_default().into_iter().take(MANY).map(|ip| ip.to_canonical()).collect();
    let (addresses, foreign) = addresses.into_iter().partition(|ip| guard::may_listen(*ip, mode).is_ok());
    let own = written.own.as_ref();
    let health = written.health.unwrap_or_default().into_iter().take(MANY);
    Ok(Standing {
        state: state_of(&written.backend_state, written.auth_url),
        interface: written.tun,
        addresses,
        foreign,
        name: own.and_then(|own| {
            host_name(own.dns_name.as_deref()).or_else(|| host_name(own.host_name.as_deref()))
        }),
        key_expiry: own.and_then(|own| own.key_expiry.as_deref()).and_then(moment),
        expired: own.is_some_and(|own| own.expired),
        warnings: health.map(|says| plain(&says, 200)).filter(|says| !says.is_empty()).collect(),
    })
}

fn state_of(word: &str, page: Option<String>) -> State {
    match word {
        "NoState" | "" => State::Unset,
        "NeedsLogin" => State::NeedsLogin(page.filter(|page| is_page(page))),
        "NeedsMachineAuth" => State::NeedsMachineAuth,
        "Stopped" => State::Stopped,
        "Starting" => State::Starting,
        "Running" => State::Running,
        other => State::Other(plain(other, 40)),
    }
}

/// Reads an answer to `whois` about `asked`. Whoever has another address than the one that was asked about, or a key
/// that has ended, is nobody.
pub(crate) fn parse_whois(text: &[u8], asked: IpAddr) -> Result<Option<Peer>, Trouble> {
    let written: WhoisWritten = serde_json::from_slice(text).map_err(|error| unreadable(&error))?;
    let addresses = written.node.addresses.unwrap_or_default();
    if written.node.expired || !addresses.iter().take(MANY).any(|prefix| is_exactly(prefix, asked)) {
        return Ok(None);
    }
    let tags: Vec<_> =
        written.node.tags.unwrap_or_default().iter().take(MANY).map(|tag| plain(tag, 60)).collect();
    let user = written.user_profile.map(|profile| plain(&profile.login_name, 120));
    Ok(Some(Peer {
        name: host_name(Some(&written.node.name)).unwrap_or_else(|| asked.to_canonical().to_string()),
        user: user.filter(|user| tags.is_empty() && !user.is_empty()),
        tags,
    }))
}

/// Whether `100.64.0.1/32` means this address alone.
fn is_exactly(prefix: &str, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let width = if address.is_ipv4() { "32" } else { "128" };
    prefix.split_once('/').is_some_and(|(ip, bits)| {
        bits == width && ip.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical() == address)
    })
}

/// `web1.lab.internal.` as `web1.lab.internal`, if it is a name.
fn host_name(name: Option<&str>) -> Option<String> {
    let name = name?.trim_end_matches('.');
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(good)).then(|| name.to_owned())
}

fn is_page(page: &str) -> bool {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`');
    (page.starts_with("https://") || page.starts_with("http://"))
        && page.len() <= 300
        && page.chars().all(good)
}

/// RFC 3339; Go's zero time is none.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    u64::try_from(at).ok().map(Timestamp)
}

/// A line of somebody else's words, without what could fool a terminal, and not longer than `most` characters.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let seen = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    let words: String = text.chars().take(most).map(seen).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unreadable(error: &serde_json::Error) -> Trouble {
    Trouble::Unreadable { why: plain(&error.to_string(), 200) }
}

#[cfg(test)]
mod tests;
