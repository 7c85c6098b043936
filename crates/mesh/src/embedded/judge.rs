//! What the node says, as a status: addresses that no mesh has, and words that could fool a terminal, don't get through.

use super::DRIVER;
use crate::{MeshStatus, Mode, Trouble, guard, tailscaled::plain};
use allod_proto::node::{CoordinatorState, NodePeer, NodeState};
use std::net::IpAddr;

/// The most addresses and relays that are looked at.
const MANY: usize = 16;

/// How this machine is on the mesh. With `only`, one address is wanted and the others don't count.
pub(super) fn status(state: NodeState, only: Option<IpAddr>) -> MeshStatus {
    let told: Vec<IpAddr> = state.addresses.iter().take(MANY).map(IpAddr::to_canonical).collect();
    let addresses: Vec<IpAddr> = told.iter().copied().filter(|ip| is_wanted(*ip, only)).collect();
    let mut troubles: Vec<Trouble> =
        coordinator(&state.coordinator, addresses.is_empty()).into_iter().collect();
    let foreign = told.iter().filter(|ip| !is_of_a_mesh(**ip));
    troubles.extend(foreign.map(|ip| Trouble::ForeignAddress { address: *ip }));
    let relays = state.relays.iter().take(MANY);
    troubles.extend(relays.filter_map(|relay| {
        let why = plain(relay.trouble.as_ref()?, 200);
        Some(Trouble::RelayAway { region: relay.region, why })
    }));
    troubles.sort_by_key(|trouble| !trouble.is_grave());
    MeshStatus {
        up: !addresses.is_empty(),
        addresses,
        interface: None,
        name: state.name.map(|name| plain(&name, 253)).filter(|name| !name.is_empty()),
        key_expiry: state.key_expiry,
        troubles,
        driver: DRIVER,
    }
}

/// How it is without a node.
pub(super) fn away(trouble: Trouble) -> MeshStatus {
    MeshStatus {
        addresses: Vec::new(),
        interface: None,
        name: None,
        up: false,
        key_expiry: None,
        troubles: vec![trouble],
        driver: DRIVER,
    }
}

/// Whether it may be listened on, and is to be.
pub(super) fn is_wanted(address: IpAddr, only: Option<IpAddr>) -> bool {
    is_of_a_mesh(address) && only.is_none_or(|only| only.to_canonical() == address.to_canonical())
}

fn is_of_a_mesh(address: IpAddr) -> bool {
    guard::may_listen(address, &Mode::default()).is_ok()
}

/// Without an address, whatever keeps it from one is grave; with one, the mesh works on what is known.
fn coordinator(state: &CoordinatorState, is_off: bool) -> Option<Trouble> {
    match state {
        CoordinatorState::Connected => is_off.then_some(Trouble::Joining { why: None }),
        CoordinatorState::Connecting => is_off.then_some(Trouble::Joining { why: None }),
        CoordinatorState::LogIn { page } => Some(Trouble::LogIn { page: plain(page, 300) }),
        CoordinatorState::Waiting => Some(Trouble::NeedsApproval),
        CoordinatorState::Away { why } if is_off => Some(Trouble::Joining { why: Some(plain(why, 300)) }),
        CoordinatorState::Away { why } => Some(Trouble::CoordinatorAway { why: plain(why, 300) }),
        CoordinatorState::Refused { why } => Some(Trouble::RefusedThere { why: plain(why, 300) }),
        CoordinatorState::Expired => Some(Trouble::NodeExpired),
    }
}

/// Somebody, in words that are fit for a terminal.
pub(super) fn tamed(mut peer: NodePeer) -> NodePeer {
    peer.name = plain(&peer.name, 253);
    peer.user = peer.user.map(|user| plain(&user, 120)).filter(|user| !user.is_empty());
    peer.tags = peer.tags.iter().take(MANY).map(|tag| plain(tag, 60)).collect();
    peer.addresses.truncate(MANY);
    peer
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::node::RelayState;

    fn state(addresses: &[&str], coordinator: CoordinatorState) -> NodeState {
        NodeState {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            name: Some("web1.mesh.internal".to_owned()),
            key_expiry: None,
            port: 41641,
            coordinator,
            relays: vec![RelayState { region: 900, trouble: None }],
        }
    }

    fn why() -> String {
        "no route\u{1b}[2J".to_owned()
    }

    #[test]
    fn without_an_address_every_state_is_a_grave_trouble_with_a_fix() {
        for coordinator in [
            CoordinatorState::Connecting,
            CoordinatorState::Connected,
            CoordinatorState::Waiting,
            CoordinatorState::Expired,
            CoordinatorState::LogIn { page: "https://hub/approve/7".to_owned() },
            CoordinatorState::Away { why: why() },
            CoordinatorState::Refused { why: why() },
        ] {
            let status = status(state(&[], coordinator.clone()), None);
            let [trouble] = status.troubles.as_slice() else { panic!("{status:?}") };
            assert!(
                !status.up && trouble.is_grave() && !trouble.fix().is_empty(),
                "{coordinator:?}: {status:?}"
            );
            assert!(!trouble.to_string().contains('\u{1b}'), "{trouble}");
        }
    }

    #[test]
    fn a_page_to_open_is_told() {
        let waiting = CoordinatorState::LogIn { page: "https://hub/approve/7".to_owned() };
        let fix = status(state(&[], waiting), None).troubles[0].fix();
        assert!(fix.contains("https://hub/approve/7"), "{fix}");
    }

    #[test]
    fn with_an_address_a_coordinator_or_a_relay_that_is_away_is_not_grave() {
        let mut state = state(&["100.64.0.1"], CoordinatorState::Away { why: why() });
        state.relays[0].trouble = Some(why());
        let status = status(state, None);
        assert!(status.up && status.troubles.len() == 2, "{status:?}");
        assert!(!status.troubles.iter().any(Trouble::is_grave), "{status:?}");
    }

    #[test]
    fn addresses_that_no_mesh_has_are_not_used() {
        let told = ["127.0.0.1", "192.0.2.1", "0.0.0.0", "100.64.0.1", "fd7a:115c:a1e0::1"];
        let status = status(state(&told, CoordinatorState::Connected), None);
        assert_eq!(status.addresses.len(), 2, "{status:?}");
        assert_eq!(status.troubles.len(), 3);
    }

    #[test]
    fn one_address_may_be_wanted_alone() {
        let told = ["100.64.0.1", "fd7a:115c:a1e0::1"];
        let only: IpAddr = told[1].parse().unwrap();
        assert_eq!(status(state(&told, CoordinatorState::Connected), Some(only)).addresses, [only]);
    }
}
