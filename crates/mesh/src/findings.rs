//! What a doctor says about a machine's place on the mesh, layer by layer, each with what to do.

use crate::{MeshStatus, ends_soon};
use allod_proto::{
    Timestamp,
    messages::server::{Finding, FindingLevel},
};

/// The findings of this status at this time.
#[must_use]
pub fn findings(status: &MeshStatus, now: Timestamp) -> Vec<Finding> {
    let mut found = vec![whole(status)];
    for trouble in &status.troubles {
        let level = if trouble.is_grave() { FindingLevel::Bad } else { FindingLevel::Warning };
        found.push(finding("mesh", level, trouble.to_string(), Some(trouble.fix())));
    }
    found.extend(key(status, now));
    found
}

fn whole(status: &MeshStatus) -> Finding {
    let MeshStatus { driver, addresses, .. } = status;
    let words: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let at = words.join(" and ");
    if status.up {
        let by =
            status.interface.as_ref().map(|interface| format!(" on {}", interface.name)).unwrap_or_default();
        return finding("mesh", FindingLevel::Good, format!("{driver}: {at}{by}"), None);
    }
    let (message, fix) = if addresses.is_empty() {
        (
            format!("{driver}: this machine has no address there"),
            "see what else is said of the mesh; the static driver needs its address on an interface",
        )
    } else {
        (format!("{driver}: {at}, but it can't be told who others are"), "see what else is said of the mesh")
    };
    finding("mesh", FindingLevel::Bad, message, Some(fix.to_owned()))
}

fn key(status: &MeshStatus, now: Timestamp) -> Option<Finding> {
    let left = ends_soon(status.key_expiry, now)?;
    let fix = match status.driver {
        "embedded" => {
            "have its key never expire where the mesh is administered, or join again with a new token"
        }
        _ => {
            "tailscale up --force-reauth; for a server, have its key never expire where the mesh is administered"
        }
    };
    let (level, message) = if left.is_zero() {
        (FindingLevel::Bad, "this machine's key on the mesh has ended".to_owned())
    } else {
        let days = left.as_secs() / 86_400;
        (FindingLevel::Warning, format!("this machine's key on the mesh ends in {days} days"))
    };
    Some(finding("mesh key", level, message, Some(fix.to_owned())))
}

fn finding(about: &str, level: FindingLevel, message: String, fix: Option<String>) -> Finding {
    Finding { about: about.to_owned(), level, message, fix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KEY_NOTICE, Trouble};

    const NOW: Timestamp = Timestamp(1_780_000_000_000);

    fn status(up: bool, troubles: Vec<Trouble>) -> MeshStatus {
        let addresses = if up { vec!["100.64.0.1".parse().unwrap()] } else { Vec::new() };
        let (interface, name, key_expiry) = (None, None, None);
        MeshStatus { addresses, interface, name, up, key_expiry, troubles, driver: "tailscaled" }
    }

    #[test]
    fn every_trouble_is_a_finding_with_a_fix() {
        let address = "100.64.0.1".parse().unwrap();
        let words = || "x".to_owned();
        for trouble in [
            Trouble::NoDaemon { socket: words(), why: words() },
            Trouble::Untrusted { socket: words(), why: words() },
            Trouble::Unreadable { why: words() },
            Trouble::NeedsLogin { page: None },
            Trouble::NeedsApproval,
            Trouble::KeyExpired,
            Trouble::Stopped,
            Trouble::Starting,
            Trouble::UnknownState { state: words() },
            Trouble::NoInterface,
            Trouble::NotOnInterface { address },
            Trouble::ForeignAddress { address },
            Trouble::Warning { says: words() },
            Trouble::NoNode { socket: words(), why: words() },
            Trouble::NodeAnswer { why: words() },
            Trouble::Joining { why: None },
            Trouble::LogIn { page: words() },
            Trouble::RefusedThere { why: words() },
            Trouble::NodeExpired,
            Trouble::CoordinatorAway { why: words() },
            Trouble::RelayAway { region: 900, why: words() },
        ] {
            let found = findings(&status(false, vec![trouble.clone()]), NOW);
            let [whole, said] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!(whole.level, FindingLevel::Bad);
            assert_eq!(said.level == FindingLevel::Bad, trouble.is_grave(), "{said:?}");
            assert!(
                said.fix.as_ref().is_some_and(|fix| !fix.is_empty()) && said.message == trouble.to_string()
            );
        }
    }

    #[test]
    fn a_key_that_ends_within_two_weeks_is_a_warning_and_one_that_has_ended_is_bad() {
        let mut it = status(true, Vec::new());
        for (expiry, level) in [(NOW, FindingLevel::Bad), (NOW.plus(KEY_NOTICE / 2), FindingLevel::Warning)] {
            it.key_expiry = Some(expiry);
            let found = findings(&it, NOW);
            assert_eq!((found.len(), found[1].level, found[1].about.as_str()), (2, level, "mesh key"));
        }
        it.key_expiry = Some(NOW.plus(KEY_NOTICE));
        assert_eq!(findings(&it, NOW).len(), 1);
    }

    #[test]
    fn a_machine_that_is_well_has_one_good_finding() {
        let found = findings(&status(true, Vec::new()), NOW);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].level, found[0].message.as_str()),
            (FindingLevel::Good, "tailscaled: 100.64.0.1")
        );
    }
}
