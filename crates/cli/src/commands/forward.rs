//! `allod forward`: ports of this machine that lead to machines on the mesh, for programs that know nothing of it.

use super::passing::{self, Seats};
use crate::{failure::Failure, session::Session};
use allod_proto::FaultCode;
use clap::Args;
use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
};
use tokio::net::{TcpListener, TcpStream};

/// `allod forward`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod forward 13389:desktop:3389\n  allod forward 5432:db1:5432 9845:hub:9845"
)]
pub struct Forward {
    /// Ports of 127.0.0.1, each with the machine and the port it leads to; port 0 picks a free one
    #[arg(required = true, value_name = "PORT:HOST:PORT")]
    ways: Vec<Way>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    local: u16,
    host: String,
    port: u16,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not PORT:HOST:PORT, such as 13389:desktop:3389");
        let (local, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let (local, port) = (local.parse().map_err(|_| wrong())?, port.parse().map_err(|_| wrong())?);
        if port == 0 || host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { local, host: host.to_owned(), port })
    }
}

/// Runs it until Ctrl-C. A machine that can't be reached costs only the connection that wanted it.
///
/// # Errors
/// [`Failure`] when a port can't be had, or a name is nobody's.
pub async fn run(session: &Session, forward: Forward) -> Result<(), Failure> {
    let seats = Seats::default();
    let mut serving = Vec::new();
    for way in &forward.ways {
        // A name that is wrong now is wrong at once, not when somebody connects.
        passing::place(session, &way.host, way.port).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, way.local)).await;
        let failed = |error| Failure::new(FaultCode::Conflict, format!("port {}: {error}", way.local));
        let listener = listener.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        tell(session, at, way)?;
        serving.push(serve(session, listener, way, &seats));
    }
    tokio::select! {
        _ = futures_util::future::join_all(serving) => Ok(()),
        () = session.interrupted() => Ok(()),
    }
}

fn tell(session: &Session, at: SocketAddr, way: &Way) -> Result<(), Failure> {
    let to = format!("{}:{}", way.host, way.port);
    session.output.item(&serde_json::json!({ "listens": at, "leads_to": to }), |style| {
        format!("{} {at} leads to {}\n", style.good("✓"), crate::render::safe(&to))
    })
}

async fn serve(session: &Session, listener: TcpListener, way: &Way, seats: &Seats) {
    let connections = futures_util::stream::unfold((), |()| async {
        let seat = seats.take().await?;
        Some(((passing::next(session, &listener).await, seat), ()))
    });
    futures_util::StreamExt::for_each_concurrent(connections, None, |(near, seat)| async move {
        let _seat = seat;
        if let Err(failure) = one(session, near, way).await {
            session.output.warn(&failure.fault.message);
        }
    })
    .await;
}

async fn one(session: &Session, near: TcpStream, way: &Way) -> Result<(), Failure> {
    let _ = near.set_nodelay(true);
    // Looked up again: it may have another address by now.
    let at = passing::place(session, &way.host, way.port).await?;
    let far = passing::dial(session, at).await?;
    passing::pass(near, far).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_way_is_refused_with_an_example() {
        for bad in ["", "80", "80:web", "web:80", "x:web:80", "80:web:x", "80::80", "80:web:0", "70000:web:1"]
        {
            assert!(bad.parse::<Way>().unwrap_err().contains("13389:desktop:3389"), "{bad}");
        }
        let way: Way = "0:fd7a:115c:a1e0::1:22".parse().unwrap();
        assert_eq!((way.local, way.host.as_str(), way.port), (0, "fd7a:115c:a1e0::1", 22));
    }
}
