//! Real connections on loopback: what a redirect, a closed port, a silent app and a wrong protocol look like.

use super::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers one connection with exactly this; gives what was asked.
async fn app(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let mut length = 0;
        while !asked[..length].ends_with(b"\r\n\r\n") {
            match stream.read(&mut asked[length..]).await {
                Ok(0) | Err(_) => break,
                Ok(more) => length += more,
            }
        }
        drop(stream.write_all(answer).await);
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    (address, asked)
}

fn http(address: SocketAddr) -> Probe {
    Probe::Http { address, path: "/up?x=1".to_owned(), host: "shop.example.com".to_owned() }
}

#[tokio::test]
async fn a_redirect_is_unhealthy_and_says_where_to() {
    let (address, _) =
        app(b"HTTP/1.1 302 Found\r\nLocation: https://x/\x1b[2Jlogin\r\nContent-Length: 0\r\n\r\n").await;
    let tried = send(&http(address), TIMEOUT).await;
    assert!(!tried.healthy);
    // Control characters never reach a terminal: an answer with them is not HTTP.
    assert_eq!(tried.report.error.as_deref(), Some("the answer is not HTTP"));
    let (address, _) =
        app(b"HTTP/1.1 302 Found\r\nLocation: https://x/login\r\nContent-Length: 0\r\n\r\n").await;
    let tried = send(&http(address), TIMEOUT).await;
    assert!(!tried.healthy);
    assert_eq!((tried.report.status, tried.report.location.as_deref()), (Some(302), Some("https://x/login")));
}

#[tokio::test]
async fn every_status_but_2xx_is_unhealthy() {
    for (answer, status) in [
        (&b"HTTP/1.1 199 Odd\r\n\r\n"[..], None),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Some(404)),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Some(500)),
    ] {
        let (address, _) = app(answer).await;
        let tried = send(&http(address), TIMEOUT).await;
        assert!(!tried.healthy);
        assert_eq!(tried.report.status, status);
    }
}

#[tokio::test]
async fn nobody_listening_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for probe in [http(address), Probe::Tcp { address }] {
        let tried = send(&probe, TIMEOUT).await;
        assert!(!tried.healthy);
        assert_eq!(tried.report.error.as_deref(), Some("connection refused"));
    }
}

#[tokio::test]
async fn an_app_that_says_nothing_or_nonsense_is_unhealthy() {
    let (address, _) = app(b"").await;
    let tried = send(&http(address), TIMEOUT).await;
    assert_eq!(tried.report.error.as_deref(), Some("the connection was closed without an answer"));
    let (address, _) = app(b"SSH-2.0-OpenSSH_10.0\r\n").await;
    let tried = send(&http(address), TIMEOUT).await;
    assert_eq!(tried.report.error.as_deref(), Some("the answer is not HTTP"));
    assert!(!tried.healthy);
}

#[tokio::test]
async fn a_silent_app_costs_one_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tried = send(&http(listener.local_addr().unwrap()), Duration::from_millis(30)).await;
    assert_eq!(tried.report.error.as_deref(), Some("no answer within 30 ms"));
}

#[tokio::test]
async fn a_2xx_is_healthy_and_the_request_is_what_a_proxy_would_send() {
    let (address, asked) = app(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let tried = send(&http(address), TIMEOUT).await;
    assert!(tried.healthy, "{tried:?}");
    assert_eq!(tried.report.target, format!("GET http://{address}/up?x=1"));
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /up?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("\r\nhost: shop.example.com\r\n"), "{asked}");
    // Streaming an endless body is no reason to wait.
    let (address, _) = app(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    assert!(send(&http(address), TIMEOUT).await.healthy);
}

#[tokio::test]
async fn an_open_port_is_healthy_for_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(send(&Probe::Tcp { address: listener.local_addr().unwrap() }, TIMEOUT).await.healthy);
}
