//! The names of a mesh (tailcfg.DNSConfig).

use super::go;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DnsConfig {
    /// For every name that no route takes, the most wanted first.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub resolvers: Vec<Resolver>,
    /// Who resolves the names under a suffix; nobody but the mesh itself when the list is empty.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub routes: BTreeMap<String, Vec<Resolver>>,
    /// Used where the system can't split by suffix.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub fallback_resolvers: Vec<Resolver>,
    /// Domains to search, the mesh's own first.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub domains: Vec<String>,
    /// Whether the nodes' own names resolve (MagicDNS).
    #[serde(skip_serializing_if = "go::is_empty")]
    pub proxied: bool,
    /// Names for which a certificate may be asked.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cert_domains: Vec<String>,
    /// Further records.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub extra_records: Vec<DnsRecord>,
}

/// One resolver (dnstype.Resolver).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Resolver {
    /// An address, one with a port, or the URL of DNS over HTTPS.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub addr: String,
    /// Addresses of the host in the URL.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub bootstrap_resolution: Vec<IpAddr>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DnsRecord {
    /// The full name.
    pub name: String,
    /// Its type; empty for an address.
    #[serde(rename = "Type", skip_serializing_if = "go::is_empty")]
    pub kind: String,
    /// Its value.
    pub value: String,
}
