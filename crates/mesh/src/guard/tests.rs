use super::*;

fn mode(development: bool, ranges: &[&str]) -> Mode {
    Mode { development, own_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect() }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_interface_at_once_is_refused_whatever_is_allowed() {
    let all_allowed = mode(true, &["0.0.0.0/0", "::/0"]);
    for everywhere in ["0.0.0.0", "::", "::ffff:0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1"] {
        let refused = may_listen(address(everywhere), &all_allowed);
        assert!(matches!(refused, Err(Refusal::Unspecified(_))), "{everywhere}: {refused:?}");
    }
}

#[test]
fn loopback_is_refused_outside_development() {
    for loopback in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
        let refused = may_listen(address(loopback), &mode(false, &["127.0.0.0/8"]));
        assert!(matches!(refused, Err(Refusal::Loopback(_))), "{loopback}: {refused:?}");
        assert_eq!(may_listen(address(loopback), &mode(true, &[])), Ok(()), "{loopback}");
    }
}

#[test]
fn an_address_beside_the_mesh_ranges_is_refused() {
    for public in [
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "192.168.1.1",
        "10.0.0.1",
        "169.254.1.1",
        "2001:db8::1",
        "fd7a:115c:a1e1::1",
        "fd7a:115c:a1df::1",
        "fe80::1",
    ] {
        let refused = may_listen(address(public), &mode(true, &[]));
        assert!(matches!(refused, Err(Refusal::NotMesh(_))), "{public}: {refused:?}");
    }
}

#[test]
fn mesh_addresses_are_allowed_without_any_setting() {
    for mesh in ["100.64.0.0", "100.127.255.255", "100.100.1.2", "fd7a:115c:a1e0::1", "::ffff:100.64.0.9"] {
        assert_eq!(may_listen(address(mesh), &Mode::default()), Ok(()), "{mesh}");
    }
}

#[test]
fn another_address_needs_the_setting_that_names_its_range() {
    let wireguard = mode(false, &["10.8.0.0/24"]);
    assert_eq!(may_listen(address("10.8.0.7"), &wireguard), Ok(()));
    assert!(may_listen(address("10.8.1.7"), &wireguard).is_err());
}

#[test]
fn a_setting_that_allows_everything_allows_nothing() {
    let careless = mode(false, &["0.0.0.0/0", "::/0"]);
    assert!(matches!(may_listen(address("203.0.113.9"), &careless), Err(Refusal::NotMesh(_))));
    assert!(!may_be_peer(address("203.0.113.9"), address("203.0.113.10"), &careless));
}

#[test]
fn a_peer_is_of_the_same_network_as_the_address_it_reached() {
    let development = mode(true, &["10.8.0.0/24"]);
    let peer = |local, source| may_be_peer(address(local), address(source), &development);
    assert!(!peer("100.64.0.1", "8.8.8.8"));
    assert!(!peer("100.64.0.1", "127.0.0.1"), "a packet from loopback to another address is forged");
    assert!(!peer("127.0.0.1", "100.64.0.1"));
    assert!(!peer("100.64.0.1", "10.8.0.2"));
    assert!(!may_be_peer(address("127.0.0.1"), address("127.0.0.1"), &Mode::default()));
    assert!(peer("100.64.0.1", "100.99.0.1"));
    assert!(peer("100.64.0.1", "fd7a:115c:a1e0::5"));
    assert!(peer("127.0.0.1", "127.0.0.1"));
    assert!(peer("::1", "::1"));
    assert!(peer("10.8.0.1", "10.8.0.2"));
}
