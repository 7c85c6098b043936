use super::*;
use crate::Mode;
use serde_json::json;

fn parse(text: &str) -> Standing {
    parse_status(text.as_bytes(), &Mode::default()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

// As 1.98 answers, shortened.
const RUNNING: &str = r#"{
	"Version": "1.98.0-dev20260801-t0123456789ab",
	"TUN": true,
	"BackendState": "Running",
	"HaveNodeKey": true,
	"AuthURL": "",
	"TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"],
	"Self": {
		"ID": "1",
		"PublicKey": "nodekey:0000000000000000000000000000000000000000000000000000000000000001",
		"HostName": "node-1",
		"DNSName": "node-1.lab.internal.",
		"OS": "linux",
		"UserID": 1,
		"TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"],
		"AllowedIPs": ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
		"Online": true,
		"KeyExpiry": "2027-01-02T03:04:05Z",
		"InNetworkMap": true
	},
	"Health": ["could not connect to the 'lab' relay server"],
	"MagicDNSSuffix": "lab.internal",
	"CurrentTailnet": {"Name": "lab.internal", "MagicDNSSuffix": "lab.internal", "MagicDNSEnabled": true},
	"CertDomains": null,
	"Peer": null,
	"User": {"1": {"ID": 1, "LoginName": "ops", "DisplayName": ""}},
	"ClientVersion": null
}"#;

#[test]
fn what_is_no_answer_of_the_daemon_is_unreadable() {
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        r#"{"BackendState":7}"#,
        r#"{"BackendState":"Running","TailscaleIPs":["100.64.0.1/32"]}"#,
        r#"{"BackendState":"Running","TailscaleIPs":"100.64.0.1"}"#,
        r#"{"BackendState":"Running","TUN":"yes"}"#,
        "{\"BackendState\":\"Running\"",
    ] {
        let read = parse_status(bad.as_bytes(), &Mode::default());
        assert!(matches!(read, Err(Trouble::Unreadable { .. })), "{bad}: {read:?}");
    }
    let deep = format!("{{\"BackendState\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(parse_status(deep.as_bytes(), &Mode::default()).is_err());
}

#[test]
fn an_address_that_no_mesh_has_is_told_apart() {
    for lie in ["0.0.0.0", "127.0.0.1", "192.168.1.1", "8.8.8.8", "::", "::1", "fe80::1", "100.128.0.1"] {
        let text = json!({"BackendState": "Running", "TUN": true, "TailscaleIPs": [lie, "100.64.0.1"]});
        let standing = parse(&text.to_string());
        assert_eq!(standing.addresses, [ip("100.64.0.1")], "{lie}");
        assert_eq!(standing.foreign, [ip(lie)], "{lie}");
    }
}

#[test]
fn addresses_without_number_are_cut_off() {
    let many: Vec<_> = (0..5000).map(|n| format!("100.64.{}.{}", n / 250, n % 250)).collect();
    let text = json!({"BackendState": "Running", "TailscaleIPs": many, "Health": vec!["ill"; 5000]});
    let standing = parse(&text.to_string());
    assert!(standing.addresses.len() <= MANY && standing.warnings.len() <= MANY, "{standing:?}");
}

#[test]
fn names_pages_and_warnings_that_could_fool_a_terminal_do_not_get_through() {
    let text = json!({
        "BackendState": "NeedsLogin",
        "AuthURL": "https://login.example/a\u{1b}[2J",
        "Self": {"DNSName": "web\u{1b}]0;owned\u{7}.", "HostName": "a b"},
        "Health": ["\u{1b}[31mred\r\n\u{202e}desrever", "   "],
    });
    let standing = parse(&text.to_string());
    assert_eq!(standing.name, None);
    assert_eq!(standing.state, State::NeedsLogin(None));
    assert_eq!(standing.warnings, ["[31mred desrever"]);
    let script = json!({"BackendState": "NeedsLogin", "AuthURL": "javascript:alert(1)"});
    assert_eq!(parse(&script.to_string()).state, State::NeedsLogin(None));
}

#[test]
fn a_running_daemon_of_today_is_read_whole() {
    let standing = parse(RUNNING);
    assert_eq!(
        standing,
        Standing {
            state: State::Running,
            interface: true,
            addresses: vec![ip("100.64.0.1"), ip("fd7a:115c:a1e0::1")],
            foreign: Vec::new(),
            name: Some("node-1.lab.internal".to_owned()),
            key_expiry: Some(Timestamp(1_798_859_045_000)),
            expired: false,
            warnings: vec!["could not connect to the 'lab' relay server".to_owned()],
        }
    );
}

#[test]
fn older_and_newer_daemons_are_read_as_far_as_they_are_known() {
    let old = parse(r#"{"BackendState":"Running","TailscaleIPs":["100.64.0.9"],"Self":{"DNSName":"a.b."}}"#);
    assert!(old.interface && old.key_expiry.is_none() && old.name.as_deref() == Some("a.b"), "{old:?}");
    let new = parse(
        r#"{"BackendState":"Dreaming","TUN":true,"TailscaleIPs":null,"Self":null,"Moon":{"Phase":[1]}}"#,
    );
    assert_eq!(new.state, State::Other("Dreaming".to_owned()));
    assert!(new.addresses.is_empty());
    let never = parse(r#"{"BackendState":"Running","Self":{"KeyExpiry":"0001-01-01T00:00:00Z"}}"#);
    assert_eq!(never.key_expiry, None);
}

#[test]
fn a_daemon_that_waits_for_a_login_says_where() {
    let page = "https://login.example/a/1234abcd";
    let text = json!({"BackendState": "NeedsLogin", "AuthURL": page, "TailscaleIPs": null});
    assert_eq!(parse(&text.to_string()).state, State::NeedsLogin(Some(page.to_owned())));
}

fn whois(node: serde_json::Value, profile: serde_json::Value, asked: &str) -> Result<Option<Peer>, Trouble> {
    let text = json!({"Node": node, "UserProfile": profile, "CapMap": {"x": [1]}});
    parse_whois(text.to_string().as_bytes(), ip(asked))
}

#[test]
fn an_answer_about_somebody_else_is_nobody() {
    for (addresses, asked) in [
        (json!(["100.64.0.2/32"]), "100.64.0.1"),
        (json!(["100.64.0.0/10"]), "100.64.0.1"),
        (json!(["0.0.0.0/0", "::/0"]), "100.64.0.1"),
        (json!(["100.64.0.1/128"]), "100.64.0.1"),
        (json!(["100.64.0.1"]), "100.64.0.1"),
        (json!(["fd7a:115c:a1e0::/48"]), "fd7a:115c:a1e0::1"),
        (json!([]), "100.64.0.1"),
        (json!(null), "100.64.0.1"),
    ] {
        let node = json!({"Name": "web1.lab.internal.", "Addresses": addresses});
        assert_eq!(whois(node, json!({"LoginName": "ann"}), asked).unwrap(), None, "{asked}: {addresses}");
    }
}

#[test]
fn a_node_whose_key_has_ended_is_nobody() {
    let node = json!({"Name": "web1.", "Addresses": ["100.64.0.1/32"], "Expired": true});
    assert_eq!(whois(node, json!({}), "100.64.0.1").unwrap(), None);
}

#[test]
fn an_answer_without_a_node_is_unreadable() {
    for bad in ["", "{}", "null", r#"{"Node":null}"#, r#"{"Node":{"Addresses":"all"}}"#] {
        assert!(parse_whois(bad.as_bytes(), ip("100.64.0.1")).is_err(), "{bad}");
    }
}

#[test]
fn a_persons_machine_has_a_user_and_a_tagged_one_has_tags() {
    let addresses = json!(["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]);
    let laptop = json!({"ID": 7, "Name": "laptop.lab.internal.", "Addresses": addresses});
    let peer = whois(laptop, json!({"LoginName": "ann@example.org"}), "fd7a:115c:a1e0::1").unwrap().unwrap();
    assert_eq!((peer.name.as_str(), peer.user.as_deref()), ("laptop.lab.internal", Some("ann@example.org")));
    let server = json!({"Name": "web1.", "Addresses": addresses, "Tags": ["tag:server"]});
    let peer = whois(server, json!({"LoginName": "tagged-devices"}), "100.64.0.1").unwrap().unwrap();
    assert_eq!((peer.user, peer.tags), (None, vec!["tag:server".to_owned()]));
}
