use super::*;
use allod_proto::{EnvName, FaultCode};

fn row(server: &str, state: State) -> Row {
    Row {
        server: server.to_owned(),
        state,
        operation: None,
        release: None,
        serving: ReleaseId::new("aaaaaaaaaaaa").ok(),
        sent_bytes: 2048,
        total_bytes: 1 << 20,
        seconds: 12.34,
        urls: Vec::new(),
        failure: None,
        why: None,
    }
}

#[test]
fn a_mix_is_told_server_by_server() {
    let rows = [row("web1", State::Reverted), row("web2", State::Failed), row("web3", State::Untouched)];
    insta::assert_snapshot!(table(&rows, Style::new(false)), @r"
    server  outcome      serves        sent     of       took
    web1    reverted     aaaaaaaaaaaa  2.0 KiB  1.0 MiB  12.3 s
    web2    failed       aaaaaaaaaaaa  2.0 KiB  1.0 MiB  12.3 s
    web3    not touched  aaaaaaaaaaaa  2.0 KiB  1.0 MiB  12.3 s
    ");
}

#[test]
fn a_failure_stands_in_its_row() {
    let failed = Row {
        failure: Some(Failure::new(FaultCode::Unhealthy, "no answer")),
        why: Some(json!({"step": "health"})),
        ..row("web1", State::Failed)
    };
    let value = failed.value();
    assert_eq!((&value["fault"]["code"], &value["failure"]["step"]), (&json!("unhealthy"), &json!("health")));
    assert_eq!((&value["seconds"], &value["state"]), (&json!(12.3), &json!("failed")));
}

fn spec(routes: &str) -> AppSpec {
    let text = format!("name = \"shop\"\n[units.web]\nstart = [\"./web\"]\nroutes = [{routes}]\n");
    allod_appspec::parse(&text).unwrap().resolve(&EnvName::default()).unwrap().spec
}

#[test]
fn the_address_has_the_port_that_the_proxy_listens_on() {
    let spec = spec("\"shop.example.com\", \"/api\"");
    let at = |listen: &[&str]| {
        let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
        urls(&spec, &listen, "100.64.0.7").join(" ")
    };
    assert_eq!(at(&["127.0.0.1:8080"]), "http://shop.example.com:8080/ http://127.0.0.1:8080/api");
    assert_eq!(at(&["0.0.0.0:80"]), "http://shop.example.com/ http://100.64.0.7/api");
    assert_eq!(at(&["[::]:80", "[::]:443"]), "https://shop.example.com/ https://100.64.0.7/api");
    assert_eq!(at(&["[::1]:8080"]), "http://shop.example.com:8080/ http://[::1]:8080/api");
    assert_eq!(at(&[]), "http://shop.example.com/ http://100.64.0.7/api");
}
