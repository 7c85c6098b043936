//! One health probe over an instance's own port: an HTTP GET that must answer 2xx, or a TCP connection.

use allod_proto::operation::ProbeReport;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, pin::pin, time::Duration};
use tokio::{net::TcpStream, time::Instant};

/// What is asked of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A GET of this path.
    Http {
        /// Where the instance was told to listen.
        address: SocketAddr,
        /// Begins with `/`.
        path: String,
        /// The Host header.
        host: String,
    },
    /// A connection.
    Tcp {
        /// Where the instance was told to listen.
        address: SocketAddr,
    },
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Whether the instance is well.
    pub healthy: bool,
    /// What was found.
    pub report: ProbeReport,
}

impl Probe {
    /// The probe as people read it: `GET http://127.0.0.1:20001/health`.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Http { address, path, .. } => format!("GET http://{address}{path}"),
            Self::Tcp { address } => format!("tcp {address}"),
        }
    }

    /// A report on this probe that says nothing yet.
    #[must_use]
    pub fn report(&self) -> ProbeReport {
        report(self.target())
    }
}

pub(crate) fn report(target: String) -> ProbeReport {
    ProbeReport {
        target,
        status: None,
        location: None,
        error: None,
        listens_on: Vec::new(),
        tries: 1,
        took_ms: 0,
    }
}

/// Probes once. A redirect is a failure: it says where another server is, not that this one is well.
pub async fn send(probe: &Probe, timeout: Duration) -> Tried {
    let begun = Instant::now();
    let mut report = probe.report();
    let outcome = match probe {
        Probe::Http { address, path, host } => {
            let got = tokio::time::timeout(timeout, get(*address, path, host)).await;
            got.unwrap_or_else(|_| Err(format!("no answer within {} ms", timeout.as_millis()))).map(
                |answer| {
                    report.status = Some(answer.status);
                    report.location = answer.location;
                    (200..300).contains(&answer.status)
                },
            )
        }
        Probe::Tcp { address } => {
            let connected = tokio::time::timeout(timeout, connect(*address)).await;
            connected
                .unwrap_or_else(|_| Err(format!("no connection within {} ms", timeout.as_millis())))
                .map(|_| true)
        }
    };
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let healthy = outcome.unwrap_or_else(|error| {
        report.error = Some(error);
        false
    });
    Tried { healthy, report }
}

struct Head {
    status: u16,
    location: Option<String>,
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    })
}

async fn get(address: SocketAddr, path: &str, host: &str) -> Result<Head, String> {
    let stream = connect(address).await?;
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, "allod-health")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let reply = match select(pin!(sender.send_request(request)), pin!(connection)).await {
        Either::Left((reply, _)) => reply,
        Either::Right((_, reply)) => reply.await,
    };
    let reply = reply.map_err(|error| unreadable(&error))?;
    let location = reply.headers().get(http::header::LOCATION);
    // What the app says is shown to people: bounded, and nothing that could steer a terminal.
    let location = location.map(|value| {
        String::from_utf8_lossy(value.as_bytes()).chars().filter(|c| !c.is_control()).take(300).collect()
    });
    Ok(Head { status: reply.status().as_u16(), location })
}

fn unreadable(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection was closed without an answer".to_owned()
    } else if error.is_parse() {
        "the answer is not HTTP".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests;
