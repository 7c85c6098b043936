//! Which ports: as asked, else as last time, else free ones. They are remembered so that what a person wrote down of a
//! server still holds after a restart.

use allod_store::{Format, StoreError, load, save};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    time::Duration,
};
use tokio::time::Instant;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BACKLOG: u32 = 4096;
/// How long the programs of an earlier `up` may take to end.
const ENDING: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);
/// How often a free port is looked for that is free for UDP too.
const FREE_FOR_BOTH: usize = 16;

/// The ports: of 127.0.0.1 but where something else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    /// The proxy, for visitors.
    pub(super) http: u16,
    /// The agent, for operators, where loopback is the mesh.
    pub(super) management: u16,
    /// The hub, where loopback is the mesh.
    pub(super) hub: u16,
    /// The coordinator of the mesh, for its nodes: TCP, and UDP for STUN. It is at an address of its own.
    pub(super) coordinator: u16,
    /// The server's address on the mesh, once it has one; it keeps it for ever.
    pub(super) mesh_address: Option<IpAddr>,
    /// The hub's there, as far as it is known.
    pub(super) mesh_hub: Option<IpAddr>,
}

impl Format for Ports {
    const NAME: &'static str = "ports of allod up";
    const FORMAT: u32 = 2;

    fn upgrade(mut value: Value, from: u32) -> Result<Value, String> {
        let fields = value.as_object_mut().filter(|_| from == 1);
        let fields = fields.ok_or_else(|| format!("format {from} has no upgrade"))?;
        fields.insert("coordinator".to_owned(), 0.into());
        fields.insert("mesh_address".to_owned(), Value::Null);
        fields.insert("mesh_hub".to_owned(), Value::Null);
        Ok(value)
    }
}

/// Why there are no ports.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortsError {
    /// What was remembered can't be read, or not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The port that the nodes know.
    #[error(
        "port {port}, where the nodes of this mesh find their coordinator, can't be had: {source}; end what has it (`ss -tulpn` as root \
         shows it, another `allod up` perhaps), or name another with --coordinator ADDRESS:PORT: then the nodes of other machines need a \
         new token each"
    )]
    Coordinator {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
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
/// are bound by their programs. `coordinator` is the address of that, where there is one. Its nodes know its port: that one or the one
/// that a person gives, and no other; the last of what is returned is whether they have to be told of another, which is remembered only
/// when they were.
pub(super) async fn settle(
    file: &Path,
    asked: Ports,
    coordinator: Option<IpAddr>,
) -> Result<(Ports, TcpListener, bool), PortsError> {
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
        coordinator: match coordinator {
            Some(address) => choose_both(address, asked.coordinator, before.coordinator).await?,
            None => before.coordinator,
        },
        mesh_address: before.mesh_address,
        mesh_hub: before.mesh_hub,
    };
    let has_moved = before.coordinator != 0 && before.coordinator != ports.coordinator;
    let kept = if has_moved { Ports { coordinator: before.coordinator, ..ports } } else { ports };
    save(file, &kept, 0o600)?;
    Ok((ports, listener.into_std().map_err(failed)?, has_moved))
}

/// Remembers the server's address on the mesh.
pub(super) fn remember(file: &Path, ports: Ports) -> Result<(), StoreError> {
    save(file, &ports, 0o600)
}

/// A port that is free for TCP and for UDP.
async fn choose_both(address: IpAddr, asked: u16, before: u16) -> Result<u16, PortsError> {
    let free = async |port: u16| {
        let port = bind_again(address, port).await?.local_addr()?.port();
        UdpSocket::bind((address, port)).map(|_| port)
    };
    if asked != 0 {
        return free(asked).await.map_err(|source| PortsError::Taken { port: asked, source });
    }
    if before != 0 {
        return free(before).await.map_err(|source| PortsError::Coordinator { port: before, source });
    }
    let mut last = free(0).await;
    for _ in 0..FREE_FOR_BOTH {
        if last.is_err() {
            last = free(0).await;
        }
    }
    last.map_err(|source| PortsError::Taken { port: 0, source })
}

/// A listener on this port; 0 takes a free one.
pub(super) async fn listen(port: u16) -> Result<TcpListener, PortsError> {
    let taken = |source| PortsError::Taken { port, source };
    bind_again(LOCALHOST, port).await.and_then(tokio::net::TcpListener::into_std).map_err(taken)
}

async fn choose(asked: u16, before: u16) -> Result<tokio::net::TcpListener, PortsError> {
    if asked != 0 {
        return bind_again(LOCALHOST, asked)
            .await
            .map_err(|source| PortsError::Taken { port: asked, source });
    }
    match bind_again(LOCALHOST, before).await {
        Ok(listener) => Ok(listener),
        Err(_) => bind(LOCALHOST, 0).map_err(|source| PortsError::Taken { port: 0, source }),
    }
}

/// The programs of an `up` that was killed take a moment to end, and hold its ports until then.
async fn bind_again(address: IpAddr, port: u16) -> io::Result<tokio::net::TcpListener> {
    let begun = Instant::now();
    loop {
        match bind(address, port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < ENDING => {
                tokio::time::sleep(BETWEEN).await;
            }
            outcome => return outcome,
        }
    }
}

fn bind(address: IpAddr, port: u16) -> io::Result<tokio::net::TcpListener> {
    let socket = match address {
        IpAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        IpAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
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
        let refused = settle(&home.path().join("up.json"), asked, None).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("port {port} can't be had")), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn ports_are_those_of_the_last_time_where_they_are_still_free() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let (first, listener, _) = settle(&file, Ports::default(), None).await.unwrap();
        let all = [first.http, first.management, first.hub];
        assert!(
            all.iter().all(|port| *port != 0) && all[0] != all[1] && all[1] != all[2] && all[0] != all[2]
        );
        let (crowded, ..) = settle(&file, Ports::default(), None).await.unwrap();
        assert_ne!(crowded.http, first.http, "the first listener is still there");
        assert_eq!((crowded.management, crowded.hub), (first.management, first.hub));
        drop(listener);
        let (again, ..) = settle(&file, Ports::default(), None).await.unwrap();
        assert_eq!(again, crowded);
    }

    #[tokio::test(start_paused = true)]
    async fn the_coordinators_port_is_free_for_tcp_and_udp_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let held = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        let asked = Ports { coordinator: held.local_addr().unwrap().port(), ..Ports::default() };
        assert!(settle(&file, asked, Some(LOCALHOST)).await.is_err(), "UDP is taken");
        let (first, ..) = settle(&file, Ports::default(), Some(LOCALHOST)).await.unwrap();
        assert_ne!(first.coordinator, 0);
        let known = Ports { mesh_address: Some("100.64.0.1".parse().unwrap()), ..first };
        remember(&file, known).unwrap();
        let (again, ..) = settle(&file, Ports::default(), Some(LOCALHOST)).await.unwrap();
        assert_eq!(again, known);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_an_earlier_life_is_about_to_give_back_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let (first, listener, _) = settle(&file, Ports::default(), None).await.unwrap();
        let ending = async {
            tokio::time::sleep(ENDING / 2).await;
            drop(listener);
        };
        let (again, ()) = tokio::join!(settle(&file, Ports::default(), None), ending);
        assert_eq!(again.unwrap().0, first);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_nodes_find_their_coordinator_is_not_changed_behind_their_backs() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let (first, ..) = settle(&file, Ports::default(), Some(LOCALHOST)).await.unwrap();
        let held = UdpSocket::bind((LOCALHOST, first.coordinator)).unwrap();
        let refused = settle(&file, Ports::default(), Some(LOCALHOST)).await.unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, PortsError::Coordinator { .. }), "{said}");
        assert!(said.contains(&first.coordinator.to_string()) && said.contains("--coordinator"), "{said}");
        drop(held);
        let (again, _, has_moved) = settle(&file, Ports::default(), Some(LOCALHOST)).await.unwrap();
        assert!(again.coordinator == first.coordinator && !has_moved);
    }

    #[tokio::test(start_paused = true)]
    async fn that_it_moved_is_said_until_the_nodes_were_told() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("up.json");
        let (_, _, has_moved) = settle(&file, Ports::default(), Some(LOCALHOST)).await.unwrap();
        assert!(!has_moved, "there was none before");
        let free = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let asked = Ports { coordinator: free, ..Ports::default() };
        for _ in 0..2 {
            let (moved, _, has_moved) = settle(&file, asked, Some(LOCALHOST)).await.unwrap();
            assert!(moved.coordinator == free && has_moved);
        }
        let (moved, ..) = settle(&file, asked, Some(LOCALHOST)).await.unwrap();
        remember(&file, moved).unwrap();
        assert!(!settle(&file, asked, Some(LOCALHOST)).await.unwrap().2);
    }
}
