//! Where this machine is: the addresses of its interfaces, and the STUN servers that a map names.

use super::Interfaces;
use allod_meshproto::control::{DerpMap, DerpRelay, derp_map::RelayAddress};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Regions whose servers are asked.
const REGIONS: usize = 16;
/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(3);

/// The addresses that datagrams may be sent to from elsewhere; `own` are those on the mesh, which a path can't go through.
pub(super) fn addresses(interfaces: &Interfaces, own: &[IpAddr]) -> Vec<IpAddr> {
    match interfaces {
        Interfaces::Only(ip) => vec![*ip],
        Interfaces::System => system().into_iter().filter(|ip| is_useful(*ip) && !own.contains(ip)).collect(),
    }
}

fn system() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    all.filter_map(address).collect()
}

fn is_useful(ip: IpAddr) -> bool {
    let elsewhere = match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        // Without its scope, such an address leads nowhere.
        IpAddr::V6(ip) => {
            !ip.is_unicast_link_local() && !ip.segments().starts_with(&[0xfd7a, 0x115c, 0xa1e0])
        }
    };
    elsewhere && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

/// The STUN servers of a map, names resolved. Takes as long as that does: not for the loop.
pub(super) async fn stun_servers(map: &DerpMap) -> Vec<(u32, SocketAddr)> {
    let mut servers = Vec::new();
    for (id, region) in map.regions.iter().take(REGIONS) {
        let measured = region.as_ref().filter(|region| !region.no_measure_no_home);
        let relay =
            measured.and_then(|region| region.nodes.iter().find_map(|relay| Some((relay, relay.stun()?))));
        if let Some((relay, port)) = relay {
            servers.extend(relay_addresses(relay, port).await.into_iter().map(|at| (*id, at)));
        }
    }
    servers
}

async fn relay_addresses(relay: &DerpRelay, port: u16) -> Vec<SocketAddr> {
    let told = [relay.v4(), relay.v6()];
    let known = told.iter().filter_map(|address| match address {
        RelayAddress::Known(ip) => Some(SocketAddr::new(*ip, port)),
        RelayAddress::Resolve | RelayAddress::Absent => None,
    });
    let known: Vec<_> = known.collect();
    if !known.is_empty() || !told.contains(&RelayAddress::Resolve) {
        return known;
    }
    let named =
        tokio::time::timeout(RESOLVE, tokio::net::lookup_host((relay.host_name.as_str(), port))).await;
    let found: Vec<_> = named.ok().and_then(Result::ok).into_iter().flatten().collect();
    let of = |v4: bool| found.iter().find(|at| at.is_ipv4() == v4).copied();
    [of(true), of(false)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_meshproto::control::DerpRegion;

    #[test]
    fn an_address_that_leads_nowhere_from_elsewhere_is_not_told() {
        for bad in ["127.0.0.1", "169.254.1.1", "::1", "fe80::1", "fd7a:115c:a1e0::7", "0.0.0.0", "224.0.0.1"]
        {
            assert!(!is_useful(bad.parse().unwrap()), "{bad}");
        }
        assert!(is_useful("192.168.1.4".parse().unwrap()) && is_useful("2001:db8::4".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_region_that_is_not_measured_and_a_relay_without_stun_are_not_asked() {
        let relay =
            |port| DerpRelay { ipv4: "192.0.2.1".to_owned(), stun_port: port, ..DerpRelay::default() };
        let region =
            |id, port| DerpRegion { region_id: id, nodes: vec![relay(port)], ..DerpRegion::default() };
        let mut map = DerpMap::default();
        map.regions.insert(1, Some(region(1, 0)));
        map.regions.insert(2, Some(region(2, -1)));
        map.regions.insert(3, Some(DerpRegion { no_measure_no_home: true, ..region(3, 0) }));
        map.regions.insert(4, None);
        assert_eq!(stun_servers(&map).await, [(1, "192.0.2.1:3478".parse().unwrap())]);
    }
}
