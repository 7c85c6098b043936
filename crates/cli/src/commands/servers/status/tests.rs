use super::*;
use crate::{failure::Failure, inventory::Server};

fn server(name: &str) -> Server {
    Server {
        name: name.to_owned(),
        address: "100.64.0.1:9844".to_owned(),
        identity: format!("SHA256:{}", "a".repeat(43)).parse().unwrap(),
        record_key: None,
        recipient: None,
        key: None,
    }
}

fn status() -> ServerStatusReply {
    serde_json::from_value(json!({
        "name": "web1", "version": "1.2.3", "started_at": 0, "now": 0, "architecture": "x86_64",
        "record": {"seq": 41, "hash": "0".repeat(64)}, "record_key": server("x").identity, "recipient": "age1",
        "isolation": [{"what": "own uid per app", "on": false, "why": "not \u{1b}[31mroot"}],
        "disk_free": 1_u64 << 30, "disk_total": 20_u64 << 30, "load_hundredths": 125,
        "proxy": {"generation": 1, "listen": [], "requests": 0, "in_flight": 0, "own_errors": 0},
        "apps": [{"app": "blog/production", "state": "degraded", "routes": ["example.com", "/x"],
            "release": {"id": "0123456789ab", "version": "v7", "made_at": 0, "by": "ana"},
            "units": [{"unit": "web", "kind": "process", "wanted": 2, "instances": [
                {"id": "web-0011aabb", "release": "0123456789ab", "started_at": 0, "state": "healthy"}]},
                {"unit": "assets", "kind": "static", "wanted": 1, "instances": []}]}],
    }))
    .unwrap()
}

#[test]
fn one_dead_server_costs_its_own_row() {
    let dead = Failure::new(FaultCode::Unreachable, "connection refused");
    let answers = [
        Asked { server: server("web1"), outcome: Ok(status()) },
        Asked { server: server("web2"), outcome: Err(dead) },
    ];
    insta::assert_snapshot!(status_text(&answers, Timestamp(7_200_000), Style::new(false)), @r"
    server  state        apps  up   disk free  load  record  version
    web1    1 degraded   1     2 h  1.0 GiB    1.25  41      1.2.3
    web2    unreachable

    server  app              state     release  instances               deployed  by   routes
    web1    blog/production  degraded  v7       web 1/2, assets static            ana  example.com, /x

    note: web1: own uid per app is off: not \u{1b}[31mroot
    ");
}

#[test]
fn bytes_have_one_unit() {
    assert_eq!(bytes(1023), "1023 B");
    assert_eq!(bytes(1536), "1.5 KiB");
    assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
}
