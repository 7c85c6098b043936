//! Which ports: as asked, else as last time, else free ones. They are remembered so that what a person wrote down of a
//! server still holds after a restart.

use allod_store::{Format, StoreError, load, save};
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};
use tokio::time::Instant;

const BACKLOG: u32 = 4096;
/// How long the programs of an earlier `up` may take to end.
const ENDING: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);

/// The ports, all on 127.0.0.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    /// The proxy, for visitors.
    pub(super) http: u16,
    /// The agent, for operators.
    pub(super) management: u16,
    /// The hub.
    pub(super) hub: u16,
}

impl Format for Ports {
    const NAME: &'static str = "ports of allod up";
    const FORMAT: u32 = 1;
}

/// Why there are no ports.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortsError {
    /// What was remembered can't be read, or not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port that was asked for can't be had.
    #[error("port {port} can't be had: {source}")]
    Taken {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

/// Decides on the ports; 0 leaves the choice. The proxy's listener is bound at once and outlives every proxy; the others
/// are bound by their programs.
pub(super) async fn settle(file: &Path, asked: Ports) -> Result<(Ports, TcpListener), PortsError> {
    let before = load::<Ports>(file)?.unwrap_or_default();
    let listener = choose(asked.http, before.http).await?;
    let management = choose(asked.management, before.management).await?;
    let hub = choose(asked.hub, before.hub).await?;
    let port = |listener: &tokio::net::TcpListener| listener.local_addr().map(|address| address.port());
    let failed = |source| PortsError::Taken { port: 0, source };
    let ports = Ports {
        http: port(&listener).map_err(failed)?,
        management: port(&management).map_err(failed)?,
        hub: port(&hub).map_err(failed)?,
    };
    save(file, &ports, 0o600)?;
    Ok((ports, listener.into_std().map_err(failed)?))
}

/// A listener on this port; 0 takes a free one.
pub(super) async fn listen(port: u16) -> Result<TcpListener, PortsError> {
    let taken = |source| PortsError::Taken { port, source };
    bind_again(port).await.and_then(tokio::net::TcpListener::into_std).map_err(taken)
}

async fn choose(asked: u16, before: u16) -> Result<tokio::net::TcpListener, PortsError> {
    if asked != 0 {
        return bind_again(asked).await.map_err(|source| PortsError::Taken { port: asked, source });
    }
    match bind_again(before).await {
        Ok(listener) => Ok(listener),
        Err(_) => bind(0).map_err(|source| PortsError::Taken { port: 0, source }),
    }
}

/// The programs of an `up` that was killed take a moment to end, and hold its ports until then.
async fn bind_again(port: u16) -> io::Result<tokio::net::TcpListener> {
    let begun = Instant::now();
    loop {
        match bind(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < ENDING => {
                tokio::time::sleep(BETWEEN).await;
            }
            outcome => return outcome,
        }
    }
}

fn bind(port: u16) -> io::Result<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_taken_is_named() {
        let home = tempfile::tempdir().unwrap();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let asked = Ports { hub: port, ..Ports::default() };
        let refused = settle(&home.path().join("up.json"), asked).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("port {port} can't be had")), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn ports_are_those_of_the_last_time_where_they_are_still_free() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let (first, listener) = settle(&file, Ports::default()).await.unwrap();
        let all = [first.http, first.management, first.hub];
        assert!(
            all.iter().all(|port| *port != 0) && all[0] != all[1] && all[1] != all[2] && all[0] != all[2]
        );
        let (crowded, _) = settle(&file, Ports::default()).await.unwrap();
        assert_ne!(crowded.http, first.http, "the first listener is still there");
        assert_eq!((crowded.management, crowded.hub), (first.management, first.hub));
        drop(listener);
        let (again, _) = settle(&file, Ports::default()).await.unwrap();
        assert_eq!(again, crowded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_an_earlier_life_is_about_to_give_back_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let (first, listener) = settle(&file, Ports::default()).await.unwrap();
        let ending = async {
            tokio::time::sleep(ENDING / 2).await;
            drop(listener);
        };
        let (again, ()) = tokio::join!(settle(&file, Ports::default()), ending);
        assert_eq!(again.unwrap().0, first);
    }
}
