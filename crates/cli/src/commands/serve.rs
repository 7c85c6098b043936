//! `allod serve`: a port of this machine for others on the mesh, for as long as the command runs. Who may come is the mesh's policy
//! to say, and `--for` narrows it.

use super::passing::{self, Seats};
use crate::{failure::Failure, session::Session};
use allod_mesh::{Connection, FollowingListener, Mesh, Peer};
use allod_proto::FaultCode;
use clap::Args;
use std::{net::Ipv4Addr, str::FromStr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long this machine's own program may take to answer.
const CONNECT: Duration = Duration::from_secs(5);

/// `allod serve`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod serve 3000\n  allod serve 80:3000 --for ana-laptop --for ci")]
pub struct Serve {
    /// The port of 127.0.0.1 that is served, or the mesh's port and then that
    #[arg(value_name = "[PORT:]PORT")]
    way: Way,
    /// Only for this machine, by its name on the mesh; may be given several times
    #[arg(long = "for", value_name = "NAME")]
    only: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    mesh: u16,
    local: u16,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mesh, local) = text.split_once(':').unwrap_or((text, text));
        match (mesh.parse(), local.parse()) {
            (Ok(mesh), Ok(local)) if mesh != 0 && local != 0 => Ok(Self { mesh, local }),
            _ => Err(format!("`{text}` is neither PORT nor PORT:PORT, such as 80:3000")),
        }
    }
}

/// Runs it until Ctrl-C.
///
/// # Errors
/// [`Failure`] without a mesh, and when the port is taken there.
pub async fn run(session: &Session, serve: Serve) -> Result<(), Failure> {
    let own = session.own_mesh().await?;
    let mesh = Arc::clone(own.mesh());
    let opening = FollowingListener::open(Arc::clone(&mesh), serve.way.mesh);
    let listener = tokio::select! {
        listener = opening => listener.map_err(|error| Failure::new(FaultCode::Conflict, error.to_string()))?,
        () = session.interrupted() => return Ok(()),
    };
    let document = serde_json::json!({ "listens": listener.addresses(), "leads_to": serve.way.local, "for": serve.only });
    session.output.item(&document, |style| {
        let at: Vec<_> = listener.addresses().iter().map(ToString::to_string).collect();
        format!("{} {} leads to 127.0.0.1:{}\n", style.good("✓"), at.join(" and "), serve.way.local)
    })?;
    tokio::select! {
        () = accept(session, listener, &mesh, &serve) => Ok(()),
        () = session.interrupted() => Ok(()),
    }
}

async fn accept(session: &Session, listener: FollowingListener, mesh: &Arc<dyn Mesh>, serve: &Serve) {
    let seats = Seats::default();
    let connections = futures_util::stream::unfold(listener, |mut listener| async {
        let seat = seats.take().await?;
        Some(((listener.accept().await, seat), listener))
    });
    futures_util::StreamExt::for_each_concurrent(connections, None, |(far, seat)| async move {
        let _seat = seat;
        if let Err(why) = one(far, mesh, serve).await {
            session.output.warn(&why);
        }
    })
    .await;
}

async fn one(far: Connection, mesh: &Arc<dyn Mesh>, serve: &Serve) -> Result<(), String> {
    let from = far.peer();
    let peer = mesh.whois(from).await.map_err(|error| format!("{from}: {error}"))?;
    let peer = peer.ok_or_else(|| format!("{from} is nobody's on the mesh; refused"))?;
    if !may(&peer, &serve.only) {
        return Err(format!("{} ({from}) is not among those that may; refused", peer.name));
    }
    let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, serve.way.local));
    match timeout(CONNECT, connecting).await {
        Ok(Ok(near)) => {
            passing::pass(near, far).await;
            Ok(())
        }
        Ok(Err(error)) => Err(format!("127.0.0.1:{}: {error}", serve.way.local)),
        Err(_) => Err(format!("127.0.0.1:{} does not answer", serve.way.local)),
    }
}

/// Whether somebody is meant: by the whole name, or by its first part.
fn may(peer: &Peer, only: &[String]) -> bool {
    let name = peer.name.trim_end_matches('.');
    let short = name.split('.').next().unwrap_or(name);
    only.is_empty()
        || only.iter().any(|wanted| name.eq_ignore_ascii_case(wanted) || short.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in ["", "0", "80:0", "0:80", "x", "80:x", "1:2:3", "70000"] {
            assert!(bad.parse::<Way>().is_err(), "{bad}");
        }
        assert_eq!("3000".parse(), Ok(Way { mesh: 3000, local: 3000 }));
        assert_eq!("80:3000".parse(), Ok(Way { mesh: 80, local: 3000 }));
    }

    #[test]
    fn only_those_that_are_named_may_come() {
        let peer = |name: &str| Peer { name: name.to_owned(), user: None, tags: Vec::new() };
        let only = ["ana".to_owned(), "ci.mesh.internal".to_owned()];
        for bad in ["ana2.mesh.internal", "mesh.internal", "ci.other.internal", ""] {
            assert!(!may(&peer(bad), &only), "{bad}");
        }
        assert!(may(&peer("Ana.mesh.internal."), &only) && may(&peer("ci.mesh.internal"), &only));
        assert!(may(&peer("anybody"), &[]));
    }
}
