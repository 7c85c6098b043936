//! What an answer of the daemon and a look at this machine's interfaces mean together.

use super::answer::{Standing, State};
use crate::{Interfaces, MeshStatus, Trouble};
use std::net::IpAddr;

/// How this machine is on the mesh. With `only`, one address is wanted and the others don't count.
pub(super) fn judge(standing: &Standing, only: Option<IpAddr>, here: &Interfaces) -> MeshStatus {
    let wanted = standing.addresses.iter().filter(|ip| only.is_none_or(|only| only == **ip));
    let mut troubles = troubles(standing);
    // Without an interface, an address that some other one has isn't the mesh's.
    let usable = standing.interface && is_on(&standing.state);
    let mut addresses = Vec::new();
    let mut interface = None;
    for address in wanted.filter(|_| usable) {
        match here.having(*address) {
            // The mesh has one interface: an address that another one has as well is not to be listened on there.
            Some(found) if interface.as_ref().is_none_or(|first| first == found) => {
                interface.get_or_insert_with(|| found.clone());
                addresses.push(*address);
            }
            Some(_) | None => troubles.push(Trouble::NotOnInterface { address: *address }),
        }
    }
    MeshStatus {
        up: standing.state == State::Running && !standing.expired && !addresses.is_empty(),
        addresses,
        interface,
        name: standing.name.clone(),
        key_expiry: standing.key_expiry,
        troubles,
        driver: super::DRIVER,
    }
}

/// How it is while the daemon doesn't answer: what was is kept as far as this machine still has it.
pub(super) fn without_daemon(before: &MeshStatus, trouble: Trouble, here: &Interfaces) -> MeshStatus {
    let kept = before.addresses.iter().filter(|ip| here.having(**ip) == before.interface.as_ref());
    let addresses: Vec<_> = kept.copied().collect();
    MeshStatus {
        interface: before.interface.clone().filter(|_| !addresses.is_empty()),
        addresses,
        up: false,
        troubles: vec![trouble],
        ..before.clone()
    }
}

// While it is on its way, what goes on is what went on before: a coordinator that is away cuts nobody off.
fn is_on(state: &State) -> bool {
    match state {
        State::Running | State::Starting => true,
        State::Unset | State::NeedsLogin(_) | State::NeedsMachineAuth | State::Stopped | State::Other(_) => {
            false
        }
    }
}

fn troubles(standing: &Standing) -> Vec<Trouble> {
    let mut found = Vec::new();
    match &standing.state {
        State::Running => {}
        State::Unset | State::Starting => found.push(Trouble::Starting),
        State::NeedsLogin(_) if standing.expired => {}
        State::NeedsLogin(page) => found.push(Trouble::NeedsLogin { page: page.clone() }),
        State::NeedsMachineAuth => found.push(Trouble::NeedsApproval),
        State::Stopped => found.push(Trouble::Stopped),
        State::Other(state) => found.push(Trouble::UnknownState { state: state.clone() }),
    }
    if standing.expired {
        found.push(Trouble::KeyExpired);
    }
    if !standing.interface {
        found.push(Trouble::NoInterface);
    }
    found.extend(standing.foreign.iter().map(|address| Trouble::ForeignAddress { address: *address }));
    found.extend(standing.warnings.iter().map(|says| Trouble::Warning { says: says.clone() }));
    found
}

#[cfg(test)]
mod tests;
