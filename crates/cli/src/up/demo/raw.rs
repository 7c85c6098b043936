//! One HTTP request over one connection, without any of the client's care: what a visitor or an attacker sends.

use crate::up::network::Reach;
use allod_rpc::client::{Dialer, Tcp};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_secs(20);
const LARGEST: u64 = 4 * 1024 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    /// A header, by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Self { status, headers, body: body.to_owned() })
    }
}

/// GET from 127.0.0.1.
pub(super) async fn get(port: u16, path: &str) -> io::Result<Answer> {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    send(&Tcp, here, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

/// POST of JSON with further headers, to a server on the mesh.
pub(super) async fn post(
    reach: &Reach,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> io::Result<Answer> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n",
        reach.management,
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    send(&*reach.dialer, reach.management, &format!("{head}\r\n{body}")).await
}

async fn send(dialer: &dyn Dialer, to: SocketAddr, request: &str) -> io::Result<Answer> {
    let exchange = async {
        let mut stream = dialer.dial(to).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(LARGEST).read_to_end(&mut bytes).await?;
        Answer::parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_none() {
        for bad in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(Answer::parse(bad), None);
        }
    }

    #[test]
    fn headers_are_found_by_their_lower_case_names() {
        let answer = Answer::parse(b"HTTP/1.1 200 OK\r\nX-Version: v1\r\n\r\nbody").unwrap();
        assert_eq!(
            (answer.status, answer.header("x-version"), answer.body.as_str()),
            (200, Some("v1"), "body")
        );
    }
}
