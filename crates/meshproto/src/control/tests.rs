use super::{derp_map::RelayAddress, register::Registration, *};
use crate::{
    json,
    key::{DiscoKey, MachineKey, NodeKey},
};
use allod_proto::Timestamp;
use proptest::prelude::*;

const NODE_KEY: &str = "nodekey:0707070707070707070707070707070707070707070707070707070707070707";
const DISCO_KEY: &str = "discokey:0808080808080808080808080808080808080808080808080808080808080808";
const MACHINE_KEY: &str = "mkey:0909090909090909090909090909090909090909090909090909090909090909";
const ZERO_NODE_KEY: &str = "nodekey:0000000000000000000000000000000000000000000000000000000000000000";

fn text<M: Message>(message: &M) -> String {
    String::from_utf8(message.write().unwrap()).unwrap()
}

/// A node in the shape that Headscale sends.
fn node_json() -> String {
    format!(
        r#"{{"ID":3,"StableID":"3","Name":"web1.mesh.internal.","User":1,"Key":"{NODE_KEY}",
        "KeyExpiry":"0001-01-01T00:00:00Z","Machine":"{MACHINE_KEY}","DiscoKey":"{DISCO_KEY}",
        "Addresses":["100.64.0.3/32","fd7a:115c:a1e0::3/128"],"AllowedIPs":["100.64.0.3/32","fd7a:115c:a1e0::3/128"],
        "Endpoints":["192.0.2.7:41641","[2001:db8::7]:41641"],"HomeDERP":900,
        "Hostinfo":{{"OS":"linux","Hostname":"web1","Services":[{{"Proto":"peerapi4","Port":40000}}],
          "NetInfo":{{"MappingVariesByDestIP":false,"WorkingUDP":true,"PreferredDERP":900,
            "DERPLatency":{{"900-v4":0.0012}}}}}},
        "Created":"2026-11-21T08:09:10.123456789Z","Cap":130,"Tags":["tag:web"],"LastSeen":"2026-11-22T00:00:00Z",
        "Online":true,"MachineAuthorized":true,"CapMap":{{"https://tailscale.com/cap/is-admin":null,"x":[1,{{"Y":2}}]}},
        "ComputedName":"web1","Unheard":{{"of":[1,2]}}}}"#
    )
}

fn node() -> Node {
    json::read(node_json().as_bytes(), limits::SMALL_BODY).unwrap()
}

#[test]
fn a_bad_address_is_an_error_that_says_which_field() {
    for (field, bad) in [
        ("Addresses", r#""Addresses":["100.64.0.3/33"]"#),
        ("AllowedIPs", r#""AllowedIPs":["x"]"#),
        ("Endpoints", r#""Endpoints":["100.64.0.3"]"#),
        ("KeyExpiry", r#""KeyExpiry":"tomorrow""#),
        ("Key", r#""Key":"mkey:00""#),
        ("ID", r#""ID":"3""#),
        ("Cap", r#""Cap":-1"#),
    ] {
        let error = MapResponse::read(format!("{{\"peerschanged\":[{{{bad}}}]}}").as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("PeersChanged: {field}: ")), "{error}");
    }
}

#[test]
fn a_text_that_go_keeps_as_text_does_not_lose_the_map() {
    let map = br#"{"DERPMap":{"Regions":{"900":{"RegionID":900,"Nodes":[{"HostName":"h","IPv4":"nonsense","IPv6":"none"}]}}},
        "PacketFilters":{"base":[{"SrcIPs":["nonsense"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}]},
        "DNSConfig":{"Resolvers":[{"Addr":"https://dns.example/q"}]},"Peers":[{"DERP":"nonsense"}]}"#;
    let map = MapResponse::read(map).unwrap();
    let region = map.derp_map.unwrap().regions.remove(&900).flatten().unwrap();
    assert_eq!((region.nodes[0].v4(), region.nodes[0].v6()), (RelayAddress::Absent, RelayAddress::Absent));
    assert_eq!(map.peers[0].home(), None);
}

#[test]
fn more_than_a_message_may_have_is_refused_by_both_ends() {
    let many = |count: usize| MapResponse { peers: vec![Node::default(); count], ..MapResponse::default() };
    assert_eq!(many(limits::PEERS + 1).write(), Err(JsonError::TooMany("peers")));
    let endpoints = vec!["192.0.2.1:1".parse().unwrap(); limits::ENDPOINTS + 1];
    let request = MapRequest { endpoints: endpoints.clone(), ..MapRequest::default() };
    assert_eq!(request.write(), Err(JsonError::TooMany("endpoints")));
    assert_eq!(MapRequest::read(&json::write(&request).unwrap()), Err(JsonError::TooMany("endpoints")));
    let patch = PeerChange { endpoints: Some(endpoints), ..PeerChange::default() };
    let patched = MapResponse { peers_changed_patch: vec![patch], ..MapResponse::default() };
    assert_eq!(patched.write(), Err(JsonError::TooMany("endpoints of a node")));
    let hostinfo = Hostinfo { hostname: "x".repeat(256), ..Hostinfo::default() };
    let request = RegisterRequest { hostinfo: Some(hostinfo), ..RegisterRequest::default() };
    assert_eq!(request.write(), Err(JsonError::TooMany("bytes in a host name")));
    let long = format!("{{\"Followup\":\"{}\"}}", "x".repeat(limits::SMALL_BODY));
    assert_eq!(RegisterRequest::read(long.as_bytes()), Err(JsonError::TooLong(limits::SMALL_BODY)));
}

#[test]
fn without_a_key_there_is_no_auth_at_all() {
    let request = RegisterRequest { node_key: NodeKey::new([7; 32]), ..RegisterRequest::default() };
    assert_eq!(
        text(&request),
        format!(
            "{{\"Version\":130,\"NodeKey\":\"{NODE_KEY}\",\"OldNodeKey\":\"{ZERO_NODE_KEY}\",\
             \"Expiry\":\"0001-01-01T00:00:00Z\",\"Followup\":\"\",\"Hostinfo\":null}}"
        )
    );
}

#[test]
fn a_key_to_join_with_is_sent_and_never_shown() {
    let auth = RegisterAuth { auth_key: "hidden-words".to_owned() };
    let request = RegisterRequest { auth: Some(auth), ..RegisterRequest::default() };
    assert!(text(&request).contains("\"Auth\":{\"AuthKey\":\"hidden-words\"}"));
    assert!(!format!("{request:?}").contains("hidden"));
    assert_eq!(request.auth_key(), Some("hidden-words"));
    for none in ["{}", "{\"Auth\":null}", "{\"Auth\":{}}", "{\"Auth\":{\"AuthKey\":\"\"}}"] {
        assert_eq!(RegisterRequest::read(none.as_bytes()).unwrap().auth_key(), None);
    }
}

#[test]
fn a_stock_clients_register_request_is_read() {
    let body = format!(
        r#"{{"Version":130,"NodeKey":"{NODE_KEY}","OldNodeKey":"{ZERO_NODE_KEY}","NLKey":"nlpub:{}",
        "Auth":{{"Oauth2Token":null,"AuthKey":"k"}},"Expiry":"1970-01-01T00:02:03Z","Followup":"",
        "Hostinfo":{{"IPNVersion":"1.98.0-t1","BackendLogID":"ab","OS":"linux","Container":false,"Hostname":"h\u003c\u0026",
          "GoArch":"amd64","Userspace":true,"RoutableIPs":["10.0.0.0/8"],"RequestTags":["tag:a"],
          "NetInfo":{{"WorkingUDP":null,"HavePortMap":false}}}},"Ephemeral":true}}"#,
        "0".repeat(64)
    );
    let request = RegisterRequest::read(body.as_bytes()).unwrap();
    assert_eq!(request.node_key, NodeKey::new([7; 32]));
    assert!(request.old_node_key.is_zero() && request.ephemeral);
    assert_eq!(request.expiry, Some(Timestamp(123_000)), "in the past: log out");
    let host = request.hostinfo.unwrap();
    assert_eq!((host.hostname.as_str(), host.userspace), ("h<&", Some(true)));
    assert_eq!(host.routable_ips[0].to_string(), "10.0.0.0/8");
    assert_eq!(host.net_info.unwrap().working_udp, None);
}

#[test]
fn a_reply_to_register_has_every_field() {
    assert_eq!(
        text(&RegisterReply { machine_authorized: true, ..RegisterReply::default() }),
        "{\"User\":{\"ID\":0,\"DisplayName\":\"\",\"ProfilePicURL\":\"\",\"Created\":\"0001-01-01T00:00:00Z\"},\
         \"Login\":{\"ID\":0,\"Provider\":\"\",\"LoginName\":\"\",\"DisplayName\":\"\",\"ProfilePicURL\":\"\"},\
         \"NodeKeyExpired\":false,\"MachineAuthorized\":true,\"AuthURL\":\"\",\"Error\":\"\"}"
    );
}

#[test]
fn what_speaks_against_a_node_counts_first() {
    let mut reply = RegisterReply { machine_authorized: true, ..RegisterReply::default() };
    assert_eq!(reply.meaning(), Registration::In);
    reply.auth_url = "https://hub/a".to_owned();
    assert_eq!(reply.meaning(), Registration::LogIn("https://hub/a"));
    reply.node_key_expired = true;
    assert_eq!(reply.meaning(), Registration::Expired);
    reply.error = "no".to_owned();
    assert_eq!(reply.meaning(), Registration::Refused("no"));
    assert_eq!(RegisterReply::default().meaning(), Registration::Waiting);
}

#[test]
fn the_reply_with_the_coordinators_key_is_that_of_headscale() {
    let reply = KeyReply { public_key: MachineKey::new([9; 32]), ..KeyReply::default() };
    let zero = format!("mkey:{}", "0".repeat(64));
    let expected = format!("{{\"legacyPublicKey\":\"{zero}\",\"publicKey\":\"{MACHINE_KEY}\"}}");
    assert_eq!(text(&reply), expected);
    assert_eq!(KeyReply::read(expected.as_bytes()), Ok(reply));
}

#[test]
fn a_lite_update_says_where_a_node_is_and_asks_for_nothing() {
    let endpoints = [("192.0.2.1:41641".parse().unwrap(), EndpointKind::LOCAL)];
    let (node, disco) = (NodeKey::new([7; 32]), DiscoKey::new([8; 32]));
    let lite = MapRequest::lite(node, disco, Hostinfo::default(), &endpoints);
    assert_eq!(
        text(&lite),
        format!(
            "{{\"Version\":130,\"Compress\":\"\",\"KeepAlive\":false,\"NodeKey\":\"{NODE_KEY}\",\
             \"DiscoKey\":\"{DISCO_KEY}\",\"Stream\":false,\"Hostinfo\":{{}},\
             \"Endpoints\":[\"192.0.2.1:41641\"],\"EndpointTypes\":[1],\"OmitPeers\":true}}"
        )
    );
    let stream = MapRequest::stream(node, disco, Hostinfo::default());
    assert!(stream.stream && stream.keep_alive && stream.wants_zstd() && !stream.omit_peers);
}

#[test]
fn keys_of_the_rust_client_are_read_in_their_own_case() {
    let body = format!(r#"{{"nodekey":"{NODE_KEY}","HostInfo":{{"hostname":"r"}},"STREAM":true}}"#);
    let request = MapRequest::read(body.as_bytes()).unwrap();
    assert_eq!(request.hostinfo.unwrap().hostname, "r");
    assert!(request.stream && request.node_key == NodeKey::new([7; 32]));
}

#[test]
fn an_endpoint_with_a_zone_and_an_empty_one_do_not_lose_the_request() {
    let request = MapRequest::read(br#"{"Endpoints":["[fe80::1%eth0]:41641","","192.0.2.1:1"]}"#).unwrap();
    let texts: Vec<String> = request.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["[fe80::1]:41641", "192.0.2.1:1"]);
    assert!(MapRequest::read(br#"{"Endpoints":["[fe80::1%eth0]"]}"#).is_err());
}

#[test]
fn a_node_as_headscale_sends_it_is_read() {
    let node = node();
    assert_eq!((node.id, node.key_expiry, node.home()), (NodeId(3), None, Some(900)));
    assert_eq!(node.endpoints[1].to_string(), "[2001:db8::7]:41641");
    assert_eq!(node.created, Some(Timestamp(1_795_248_550_123)));
    assert!(node.has_capability("https://tailscale.com/cap/is-admin") && !node.has_capability("y"));
    assert_eq!(node.cap_map["x"], [serde_json::json!(1), serde_json::json!({"Y": 2})]);
    assert_eq!(node.hostinfo.net_info.as_ref().unwrap().derp_latency["900-v4"], 0.0012);
    let again: Node = json::read(&json::write(&node).unwrap(), limits::SMALL_BODY).unwrap();
    assert_eq!(again, node);
}

#[test]
fn an_empty_node_is_written_as_go_writes_it() {
    let written = String::from_utf8(json::write(&Node::default()).unwrap()).unwrap();
    let zeros = "0".repeat(64);
    assert_eq!(
        written,
        format!(
            "{{\"ID\":0,\"StableID\":\"\",\"Name\":\"\",\"User\":0,\"Key\":\"nodekey:{zeros}\",\
             \"KeyExpiry\":\"0001-01-01T00:00:00Z\",\"Machine\":\"mkey:{zeros}\",\"DiscoKey\":\"discokey:{zeros}\",\
             \"Addresses\":[],\"Hostinfo\":{{}},\"Created\":\"0001-01-01T00:00:00Z\"}}"
        )
    );
}

#[test]
fn a_home_region_is_told_to_clients_old_and_new() {
    let mut node = Node::default();
    node.set_home(900);
    assert_eq!((node.home_derp, node.legacy_derp.as_str()), (900, "127.3.3.40:900"));
    node.home_derp = 0;
    assert_eq!(node.home(), Some(900));
    node.set_home(0);
    assert_eq!((node.home(), node.legacy_derp.as_str()), (None, ""));
}

#[test]
fn absent_prefixes_mean_the_addresses_and_empty_ones_mean_none() {
    let read = |text: &str| json::read::<Node>(text.as_bytes(), 1000).unwrap();
    let absent = read(r#"{"Addresses":["100.64.0.3/32"]}"#);
    assert_eq!(absent.may_send_from(), absent.addresses);
    assert_eq!(read(r#"{"Addresses":["100.64.0.3/32"],"AllowedIPs":null}"#), absent);
    assert!(read(r#"{"Addresses":["100.64.0.3/32"],"AllowedIPs":[]}"#).may_send_from().is_empty());
}

#[test]
fn a_key_expires_at_its_time_and_not_before() {
    let node = Node { key_expiry: Some(Timestamp(1000)), ..Node::default() };
    assert!(!node.is_expired(Timestamp(999)) && node.is_expired(Timestamp(1000)));
    assert!(!Node::default().is_expired(Timestamp(u64::MAX)));
    assert!(Node { expired: true, ..Node::default() }.is_expired(Timestamp(0)));
}

#[test]
fn a_time_before_1970_is_past_and_not_never() {
    for (written, expected) in [
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00.5Z", Some(0)),
        ("1969-12-31T23:59:59Z", Some(0)),
        ("2026-11-22T12:00:00+01:00", Some(1_795_345_200_000)),
        ("9999-12-30T21:59:59Z", Some(253_402_207_199_000)),
        ("9999-12-31T23:59:59Z", Some(253_402_207_200_999)),
    ] {
        let node: Node = json::read(format!("{{\"KeyExpiry\":\"{written}\"}}").as_bytes(), 1000).unwrap();
        assert_eq!(node.key_expiry, expected.map(Timestamp), "{written}");
    }
    let late = Node { key_expiry: Some(Timestamp(u64::MAX)), ..Node::default() };
    assert!(json::write(&late).is_err());
}

#[test]
fn an_absent_filter_an_empty_one_and_a_deleted_one_differ() {
    let read = |text: &str| MapResponse::read(text.as_bytes()).unwrap();
    assert_eq!(read("{}").packet_filter, None);
    assert_eq!(read(r#"{"PacketFilter":null}"#).packet_filter, None);
    assert_eq!(read(r#"{"PacketFilter":[]}"#).packet_filter, Some(Vec::new()));
    let named = read(r#"{"PacketFilters":{"*":null,"a":[]}}"#);
    assert_eq!(named.packet_filters.get("*"), Some(&None));
    assert_eq!(named.packet_filters.get("a"), Some(&Some(Vec::new())));
    assert_eq!(text(&named), r#"{"PacketFilters":{"*":null,"a":[]}}"#);
    assert_eq!(text(&read(r#"{"PacketFilter":[]}"#)), r#"{"PacketFilter":[]}"#);
}

#[test]
fn changes_are_keyed_by_the_number_of_the_node() {
    let body = format!(
        r#"{{"OnlineChange":{{"3":true}},"PeerSeenChange":{{"4":false}},"PeersRemoved":[5],
        "PeersChangedPatch":[{{"NodeID":3,"DERPRegion":901,"Endpoints":["192.0.2.1:1"],"Key":"{NODE_KEY}","DiscoKey":null}}]}}"#
    );
    let map = MapResponse::read(body.as_bytes()).unwrap();
    assert_eq!(map.online_change.get(&NodeId(3)), Some(&true));
    assert_eq!(map.peer_seen_change.get(&NodeId(4)), Some(&false));
    assert_eq!(map.peers_removed, [NodeId(5)]);
    let patch = &map.peers_changed_patch[0];
    assert_eq!((patch.derp_region, patch.key, patch.disco_key), (901, Some(NodeKey::new([7; 32])), None));
    assert_eq!(MapResponse::read(&map.write().unwrap()), Ok(map));
}

#[test]
fn a_ping_of_the_coordinator_is_read_and_written() {
    let body = r#"{"PingRequest":{"URL":"https://unused/x","URLIsNoise":true,"Types":"c2n","IP":"","Payload":"R0VU"}}"#;
    let map = MapResponse::read(body.as_bytes()).unwrap();
    let ping = map.ping_request.clone().unwrap();
    assert_eq!((ping.payload.as_slice(), ping.ip), (&b"GET"[..], None));
    assert_eq!(text(&map), body);
    assert!(MapResponse::read(br#"{"PingRequest":{"Payload":"?"}}"#).is_err());
}

#[test]
fn a_relays_ports_have_their_defaults() {
    let relay = DerpRelay { ipv4: "192.0.2.1".to_owned(), ..DerpRelay::default() };
    assert_eq!((relay.stun(), relay.derp()), (Some(3478), Some(443)));
    assert_eq!(
        (relay.v4(), relay.v6()),
        (RelayAddress::Known("192.0.2.1".parse().unwrap()), RelayAddress::Resolve)
    );
    let stun =
        DerpRelay { stun_port: -1, stun_only: true, ipv6: "192.0.2.1".to_owned(), ..DerpRelay::default() };
    assert_eq!((stun.stun(), stun.derp(), stun.v6()), (None, None, RelayAddress::Absent));
}

#[test]
fn names_are_written_as_stock_clients_read_them() {
    let dns = DnsConfig {
        proxied: true,
        domains: vec!["mesh.internal".to_owned()],
        routes: [("mesh.internal".to_owned(), Vec::new())].into(),
        ..DnsConfig::default()
    };
    let map = MapResponse { dns_config: Some(dns), ..MapResponse::default() };
    let expected =
        r#"{"DNSConfig":{"Routes":{"mesh.internal":[]},"Domains":["mesh.internal"],"Proxied":true}}"#;
    assert_eq!(text(&map), expected);
    let null = expected.replace("[]", "null");
    assert_eq!(MapResponse::read(null.as_bytes()), Ok(map));
}

proptest! {
    #[test]
    fn a_node_is_read_as_it_was_written(
        id in any::<i64>(), key in any::<[u8; 32]>(), name in ".{0,60}", expiry in 0..253_402_207_200_000_u64,
        endpoints in proptest::collection::vec((any::<[u8; 16]>(), any::<u16>()), 0..8), online in any::<Option<bool>>(),
    ) {
        let endpoints = endpoints.into_iter()
            .map(|(ip, port)| std::net::SocketAddr::new(std::net::Ipv6Addr::from(ip).to_canonical(), port))
            .collect();
        let node = Node {
            id: NodeId(id), key: NodeKey::new(key), name, key_expiry: Some(Timestamp(expiry)), endpoints, online, ..Node::default()
        };
        let again: Node = json::read(&json::write(&node).unwrap(), limits::SMALL_BODY).unwrap();
        prop_assert_eq!(again, node);
    }

    #[test]
    fn every_cut_of_a_message_is_refused(cut in 1..1600_usize) {
        let whole = format!("{{\"Peers\":[{}]}}", node_json());
        prop_assert!(MapResponse::read(&whole.as_bytes()[..whole.len().saturating_sub(cut)]).is_err());
    }

    #[test]
    fn a_changed_byte_is_never_a_panic(at in 0..1000_usize, byte in any::<u8>()) {
        let mut text = format!("{{\"Peers\":[{}]}}", node_json()).into_bytes();
        let at = at % text.len();
        text[at] = byte;
        if let Ok(map) = MapResponse::read(&text) {
            prop_assert_eq!(MapResponse::read(&map.write().unwrap()), Ok(map));
        }
    }
}
