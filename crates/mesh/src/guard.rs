//! Where the management API may listen, decided before anything is bound. Only the mesh's own ranges; loopback only in
//! development; another address only if a person set it. All addresses at once: never.

use allod_signing::AddressRange;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a person has allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mode {
    /// Development: loopback is allowed too.
    pub development: bool,
    /// The explicit setting: these ranges are a private network of the person's own, and encrypted by them.
    pub own_ranges: Vec<AddressRange>,
}

/// Why an address may not be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// All addresses at once.
    #[error(
        "{0} means every interface, the public ones too; give the one address this machine has on its mesh"
    )]
    Unspecified(IpAddr),
    /// Loopback outside development.
    #[error("{0} is loopback, which is for development only (`allod up`, or --mesh loopback)")]
    Loopback(IpAddr),
    /// Neither a mesh address nor allowed by setting.
    #[error(
        "{0} is not a mesh address (100.64.0.0/10 or fd7a:115c:a1e0::/48); if it is on a private, encrypted network \
         of your own, allow its range by setting"
    )]
    NotMesh(IpAddr),
}

/// Whether `address` is in the ranges that meshes use: 100.64.0.0/10 or fd7a:115c:a1e0::/48. Necessary, never
/// sufficient: the first is carrier NAT too.
#[must_use]
pub fn is_mesh_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => matches!(v4.octets(), [100, 64..=127, _, _]),
        IpAddr::V6(v6) => matches!(v6.segments(), [0xfd7a, 0x115c, 0xa1e0, ..]),
    }
}

/// Whether the management API may listen on `address`.
///
/// # Errors
/// [`Refusal`] with the reason and what to do.
pub fn may_listen(address: IpAddr, mode: &Mode) -> Result<(), Refusal> {
    // ::ffff:0.0.0.0 binds what 0.0.0.0 binds.
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(Refusal::Unspecified(address));
    }
    if address.is_loopback() {
        return if mode.development { Ok(()) } else { Err(Refusal::Loopback(address)) };
    }
    if is_mesh_address(address) || mode.own_ranges.iter().any(|range| is_within(range, address)) {
        return Ok(());
    }
    Err(Refusal::NotMesh(address))
}

/// Whether a connection from `source` to our address `local` may be looked at. Somebody in a mesh range may be a peer
/// of a mesh address, somebody on loopback of a loopback one, and so on: never across.
#[must_use]
pub fn may_be_peer(local: IpAddr, source: IpAddr, mode: &Mode) -> bool {
    let (local, source) = (local.to_canonical(), source.to_canonical());
    if local.is_loopback() || source.is_loopback() {
        return mode.development && local.is_loopback() && source.is_loopback();
    }
    // The machine itself, by its own address.
    if local == source {
        return true;
    }
    is_mesh_address(local) && is_mesh_address(source)
        || mode.own_ranges.iter().any(|range| is_within(range, local) && is_within(range, source))
}

fn is_within(range: &AddressRange, address: IpAddr) -> bool {
    // A range as wide as the internet is no private network, whatever was written.
    let everything = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    range.contains(address) && !everything.iter().any(|all| range.contains(*all))
}

#[cfg(test)]
mod tests;
