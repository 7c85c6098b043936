use super::*;
use proptest::prelude::{any, proptest};

fn app(text: &str) -> AppRef {
    text.parse().unwrap()
}

#[test]
fn a_pattern_that_names_no_app_is_refused() {
    for bad in ["", "*", "*/*", "/*", "Blog", "blog/", "blog/**", "blog/st*", "blog/*/x", "bl*g", "blog /*"] {
        assert!(bad.parse::<AppPattern>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_name_alone_is_production_and_a_star_is_every_environment() {
    let cases = [
        ("blog", "blog/production", true),
        ("blog", "blog/staging", false),
        ("blog", "blog2/production", false),
        ("blog/staging", "blog/staging", true),
        ("blog/staging", "blog/production", false),
        ("blog/*", "blog/production", true),
        ("blog/*", "blog/staging", true),
        ("blog/*", "blog2/staging", false),
    ];
    for (pattern, name, expected) in cases {
        let parsed: AppPattern = pattern.parse().unwrap();
        assert_eq!(parsed.matches(&app(name)), expected, "{pattern} {name}");
        assert_eq!(parsed.to_string(), pattern);
    }
    assert_eq!("blog/production".parse::<AppPattern>().unwrap().to_string(), "blog");
}

#[test]
fn what_is_no_address_range_is_refused() {
    let bad = [
        "",
        "host.example",
        "*",
        "!10.0.0.1",
        "10.0.0.*",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.0/008 ",
        "fd00::/129",
        "10.0.0",
        "::ffff:10.0.0.1",
        "10.0.0.1/8/8",
        "0x0a000001",
        "010.0.0.1",
    ];
    for text in bad {
        assert!(matches!(text.parse::<AddressRange>(), Err(GrantError::Range(_))), "{text:?}");
    }
    let slip = "100.64.0.7/10".parse::<AddressRange>().unwrap_err();
    assert!(slip.to_string().contains("did you mean 100.64.0.0/10"), "{slip}");
}

#[test]
fn a_range_holds_its_own_addresses_only() {
    let cases = [
        ("100.64.0.0/10", "100.127.255.255", true),
        ("100.64.0.0/10", "100.128.0.0", false),
        ("100.64.0.0/10", "::ffff:100.64.0.1", true),
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "1.2.3.4", false),
        ("::/0", "fd7a::1", true),
        ("fd7a:115c:a1e0::/48", "fd7a:115c:a1e0:ffff::1", true),
        ("fd7a:115c:a1e0::/48", "fd7a:115c:a1e1::1", false),
    ];
    for (range, address, expected) in cases {
        let parsed: AddressRange = range.parse().unwrap();
        assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{range} {address}");
        assert_eq!(parsed.to_string(), range);
    }
}

#[test]
fn an_unknown_source_is_outside_every_range() {
    let mut grant = Grant::of(Role::Viewer);
    assert!(grant.allows_source(None));
    grant.from = Some(vec!["0.0.0.0/0".parse().unwrap()]);
    assert!(!grant.allows_source(None));
}

#[test]
fn a_grant_ends_at_its_expiry_and_not_after() {
    let grant = Grant { expires: Some(Timestamp(1000)), ..Grant::of(Role::Owner) };
    assert!(grant.is_expired(Timestamp(1000)));
    assert!(!grant.is_expired(Timestamp(999)));
    assert!(!Grant::of(Role::Owner).is_expired(Timestamp(u64::MAX)));
}

#[test]
fn apps_and_commands_narrow_only_when_given() {
    let open = Grant::of(Role::Deployer);
    assert!(open.allows_app(&app("blog")) && open.allows_command("deploy-site"));
    let narrow = Grant {
        apps: Some(vec!["blog/*".parse().unwrap(), "shop".parse().unwrap()]),
        commands: Some(vec!["deploy-site".to_owned()]),
        ..open
    };
    assert!(narrow.allows_app(&app("blog/staging")) && narrow.allows_app(&app("shop")));
    assert!(!narrow.allows_app(&app("shop/staging")));
    assert!(narrow.allows_command("deploy-site") && !narrow.allows_command("deploy"));
}

proptest! {
    #[test]
    fn a_range_agrees_with_comparing_bits_one_by_one(base: u32, prefix in 0..=32_u32, other: u32) {
        let range = AddressRange { address: network(Ipv4Addr::from_bits(base).into(), prefix), prefix };
        let same = (0..prefix).all(|bit| (base ^ other) >> (31 - bit) & 1 == 0);
        assert_eq!(range.contains(Ipv4Addr::from_bits(other).into()), same);
        assert_eq!(range.to_string().parse::<AddressRange>().unwrap(), range);
    }

    #[test]
    fn reading_a_range_never_panics(text in any::<String>()) {
        let _ = text.parse::<AddressRange>();
        let _ = text.parse::<AppPattern>();
    }
}
