use super::*;
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn standing(state: State, interface: bool) -> Standing {
    Standing {
        state,
        interface,
        addresses: vec![ip("100.64.0.1"), ip("fd7a:115c:a1e0::1")],
        foreign: Vec::new(),
        name: Some("web1".to_owned()),
        key_expiry: None,
        expired: false,
        warnings: Vec::new(),
    }
}

fn here() -> Interfaces {
    Interfaces::of(&[
        ("192.0.2.1", "eth0", 2),
        ("100.64.0.1", "tailscale0", 7),
        ("fd7a:115c:a1e0::1", "tailscale0", 7),
    ])
}

#[test]
fn without_an_interface_of_its_own_no_address_is_the_meshs() {
    // The carrier may have given another interface the very same address.
    let status = judge(&standing(State::Running, false), None, &here());
    assert!(!status.up && status.addresses.is_empty(), "{status:?}");
    assert_eq!(status.troubles, [Trouble::NoInterface]);
    assert!(Trouble::NoInterface.fix().contains("--mesh embedded"));
}

#[test]
fn a_daemon_that_is_off_the_mesh_has_no_addresses_and_says_why() {
    let page = Some("https://login.example/1".to_owned());
    for (state, trouble) in [
        (State::Unset, Trouble::Starting),
        (State::NeedsLogin(page.clone()), Trouble::NeedsLogin { page }),
        (State::NeedsMachineAuth, Trouble::NeedsApproval),
        (State::Stopped, Trouble::Stopped),
        (State::Other("Lost".to_owned()), Trouble::UnknownState { state: "Lost".to_owned() }),
    ] {
        let status = judge(&standing(state, true), None, &here());
        assert!(!status.up && status.addresses.is_empty(), "{status:?}");
        assert_eq!(status.troubles, [trouble]);
    }
}

#[test]
fn a_key_that_has_ended_is_told_as_that_and_not_as_a_login() {
    let mut ended = standing(State::NeedsLogin(None), true);
    ended.expired = true;
    assert_eq!(judge(&ended, None, &here()).troubles, [Trouble::KeyExpired]);
}

#[test]
fn an_address_on_no_interface_or_on_another_one_is_left_out() {
    let half = Interfaces::of(&[("100.64.0.1", "tailscale0", 7)]);
    let status = judge(&standing(State::Running, true), None, &half);
    assert_eq!(status.addresses, [ip("100.64.0.1")]);
    assert_eq!(status.troubles, [Trouble::NotOnInterface { address: ip("fd7a:115c:a1e0::1") }]);
    let split = Interfaces::of(&[("100.64.0.1", "tailscale0", 7), ("fd7a:115c:a1e0::1", "eth0", 2)]);
    assert_eq!(judge(&standing(State::Running, true), None, &split).addresses, [ip("100.64.0.1")]);
}

#[test]
fn an_address_that_is_not_wanted_does_not_count() {
    let status = judge(&standing(State::Running, true), Some(ip("fd7a:115c:a1e0::1")), &here());
    assert_eq!(status.addresses, [ip("fd7a:115c:a1e0::1")]);
    assert!(status.up && status.troubles.is_empty());
}

#[test]
fn a_daemon_that_is_on_its_way_keeps_its_addresses() {
    let status = judge(&standing(State::Starting, true), None, &here());
    assert_eq!(status.addresses.len(), 2);
    assert!(!status.up);
}

#[test]
fn a_silent_daemon_keeps_what_this_machine_still_has_and_nothing_else() {
    let before = judge(&standing(State::Running, true), None, &here());
    let silent = Trouble::NoDaemon { socket: "/s".to_owned(), why: "connection refused".to_owned() };
    let hung = without_daemon(&before, silent.clone(), &here());
    assert!(!hung.up && hung.addresses == before.addresses && !before.is_elsewhere(&hung), "{hung:?}");
    let died = without_daemon(&before, silent, &Interfaces::default());
    assert!(died.addresses.is_empty() && died.interface.is_none(), "{died:?}");
}

#[test]
fn an_interface_that_was_made_again_is_another_one() {
    let before = judge(&standing(State::Running, true), None, &here());
    let again = Interfaces::of(&[("100.64.0.1", "tailscale0", 8), ("fd7a:115c:a1e0::1", "tailscale0", 8)]);
    assert!(before.is_elsewhere(&judge(&standing(State::Running, true), None, &again)));
    let silent = Trouble::NoDaemon { socket: "/s".to_owned(), why: "gone".to_owned() };
    assert!(without_daemon(&before, silent, &again).addresses.is_empty());
}

#[test]
fn what_is_well_has_no_troubles() {
    let status = judge(&standing(State::Running, true), None, &here());
    assert!(status.up && status.troubles.is_empty(), "{status:?}");
    assert_eq!(status.interface.unwrap().name, "tailscale0");
}
