//! Bytes that two programs might read in two ways are refused or made unambiguous before an instance sees them.

use crate::support::{Instance, Proxy, status, to};
use std::sync::atomic::Ordering;

/// Refused, and no instance has seen anything.
const REFUSED: &[&str] = &[
    // Two lengths.
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\n0\r\n\r\nG",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6, 5\r\n\r\n0\r\n\r\nG",
    // Lengths that are no numbers.
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +6\r\n\r\nabcdef",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nabcdef",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x6\r\n\r\nabcdef",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabcdef",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcdef",
    // Codings that end in something else.
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Folded and spaced headers, odd names.
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
    "GET / HTTP/1.1\r\nHost: a\r\nX\0Y: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: 1\0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nNoColon\r\n\r\n",
    // Hosts.
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
    "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    // Request lines.
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "GET /\r\nHost: a\r\n\r\n",
    "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    for bytes in REFUSED {
        let answer = proxy.exchange(bytes).await;
        assert!((400..500).contains(&status(&answer)), "{bytes:?} was answered {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{bytes:?} was answered {answer:?}");
    }
    assert_eq!(instance.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_broken_chunk_never_ends_a_body() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "x\r\n",
        "-1\r\n",
        "5\r\nabcdefgh\r\n0\r\n\r\n",
        "fffffffffffffffff\r\na",
        "1\r\na0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
    ] {
        let answer = proxy.exchange(format!("{head}{body}")).await;
        assert_eq!(status(&answer), 400, "{body:?} was answered {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{body:?} was answered {answer:?}");
    }
}

#[tokio::test]
async fn equal_lengths_twice_and_an_early_second_request_are_two_plain_requests() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let answer = proxy
        .exchange(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc\
             GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert!(answer.contains("\r\n\r\nabcHTTP/1.1") && answer.ends_with("one"), "{answer}");
}
