//! What is refused, what is taken off, what is added.

use super::*;

fn request(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri("/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn sender(is_trusted: bool) -> Sender {
    Sender { ip: "192.0.2.7".parse().unwrap(), is_trusted, scheme: "http" }
}

fn prepared(headers: &[(&str, &str)], is_trusted: bool) -> HeaderMap {
    let mut headers = request(headers).into_parts().0.headers;
    prepare(
        &mut headers,
        sender(is_trusted),
        Some(HeaderValue::from_static("a.example")),
        &RequestIds::new(),
    );
    headers
}

#[test]
fn a_host_that_could_be_read_in_two_ways_is_refused() {
    for bad in [
        "", "a b", "a@b", "a/b", "a:80:80", "a:x", "[::1", "[::1]x", "[zz]", "a,b", "a\t", ".", "a:999999",
        "a%2eb",
    ] {
        assert!(host_of(&request(&[("host", bad)])).is_err(), "{bad:?}");
    }
    assert!(host_of(&request(&[])).is_err());
    assert!(host_of(&request(&[("host", "a"), ("host", "a")])).is_err());
    let mut absolute = request(&[("host", "a.example")]);
    *absolute.uri_mut() = "http://b.example/x".parse().unwrap();
    assert!(host_of(&absolute).is_err());
    *absolute.method_mut() = Method::CONNECT;
    assert!(host_of(&absolute).is_err());
}

#[test]
fn a_host_is_read_without_port_case_and_final_dot() {
    for (written, read) in
        [("A.Example:80", "a.example"), ("a.example.", "a.example"), ("[::1]:80", "[::1]"), ("a", "a")]
    {
        assert_eq!(host_of(&request(&[("host", written)])).unwrap().unwrap(), read);
    }
    let mut old = request(&[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(host_of(&old), Ok(None));
}

#[test]
fn hop_by_hop_headers_and_those_named_in_connection_end_here() {
    let headers = prepared(
        &[
            ("connection", "close, X-Secret, Host, content-length"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("keep-alive", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("proxy-connection", "x"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
        ],
        false,
    );
    for gone in
        ["connection", "x-secret", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection", "expect"]
    {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers["content-length"], "3");
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["host"], "a.example");
    assert_eq!(headers["x-kept"], "1");
}

#[test]
fn a_strangers_word_about_itself_is_dropped() {
    let lies = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("connection", "x-forwarded-for"),
    ];
    let headers = prepared(&lies, false);
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "a.example");
    assert!(["forwarded", "x-real-ip", "x_forwarded_for"].iter().all(|name| !headers.contains_key(*name)));
}

#[test]
fn a_trusted_hops_word_is_kept_and_added_to() {
    let words =
        [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-proto", "https"), ("x-real-ip", "198.51.100.1")];
    let headers = prepared(&words, true);
    assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 192.0.2.7");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-real-ip"], "198.51.100.1");
}

#[test]
fn each_request_has_an_id_and_a_sane_one_of_the_clients_is_kept() {
    let ids = RequestIds::new();
    assert_ne!(ids.next(), ids.next());
    assert_eq!(ids.next().len(), 32);
    assert_eq!(prepared(&[("x-request-id", "abc-1")], false)["x-request-id"], "abc-1");
    assert_ne!(prepared(&[("x-request-id", "a b\"")], false)["x-request-id"], "a b\"");
}

#[test]
fn an_upgrade_needs_both_headers_and_is_not_to_http2() {
    assert!(wants_upgrade(&request(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])));
    assert!(!wants_upgrade(&request(&[("connection", "upgrade"), ("upgrade", "h2c")])));
    assert!(!wants_upgrade(&request(&[("upgrade", "websocket")])));
    let two = prepared(&[("cookie", "a=1"), ("cookie", "b=2")], false);
    assert_eq!(two["cookie"], "a=1; b=2");
}
