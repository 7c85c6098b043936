//! The static driver: the address is given, nobody can be asked who is who. With loopback it is the development mode;
//! elsewhere a mesh that Allod doesn't know runs underneath, and the address may come and go with it.

use crate::{
    Answer, Connection, Listener, Mesh, MeshError, MeshStatus, Mode, Peer, Refusal,
    guard::{may_be_peer, may_listen},
    sockets,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// How often it is looked whether the address is there.
const LOOK: Duration = Duration::from_secs(2);

/// What a person says about this machine's place on the mesh.
#[derive(Debug, Clone)]
pub struct StaticSettings {
    /// This machine's addresses there.
    pub addresses: Vec<IpAddr>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What is allowed.
    pub mode: Mode,
}

impl StaticSettings {
    /// Development on one machine: 127.0.0.1, and everybody on loopback is known.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            name: None,
            mode: Mode { development: true, own_ranges: Vec::new() },
        }
    }
}

/// A mesh that consists of what was given.
#[derive(Debug)]
pub struct StaticMesh {
    settings: StaticSettings,
    status: watch::Receiver<MeshStatus>,
    looking: Option<JoinHandle<()>>,
}

impl StaticMesh {
    /// Checks the addresses and begins to look whether they are there. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Refusal`] for the first address that may not be listened on, here or anywhere.
    pub fn start(settings: StaticSettings) -> Result<Self, Refusal> {
        for address in &settings.addresses {
            may_listen(*address, &settings.mode)?;
        }
        let (tell, status) = watch::channel(look(&settings));
        let may_change = !settings.addresses.iter().all(IpAddr::is_loopback);
        let looking = may_change.then(|| tokio::spawn(keep_looking(settings.clone(), tell)));
        Ok(Self { settings, status, looking })
    }
}

impl Drop for StaticMesh {
    fn drop(&mut self) {
        if let Some(looking) = &self.looking {
            looking.abort();
        }
    }
}

async fn keep_looking(settings: StaticSettings, tell: watch::Sender<MeshStatus>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look(&settings);
        tell.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

fn look(settings: &StaticSettings) -> MeshStatus {
    let here = |address: &&IpAddr| std::net::UdpSocket::bind((**address, 0)).is_ok();
    let addresses: Vec<IpAddr> = settings.addresses.iter().filter(here).copied().collect();
    let loopback = settings.addresses.iter().all(IpAddr::is_loopback);
    MeshStatus {
        up: !addresses.is_empty(),
        addresses,
        interface: None,
        name: settings.name.clone(),
        key_expiry: None,
        troubles: Vec::new(),
        driver: if loopback { "loopback" } else { "static" },
    }
}

impl Mesh for StaticMesh {
    fn status(&self) -> Answer<'_, MeshStatus> {
        let status = look(&self.settings);
        Box::pin(async { Ok(status) })
    }

    fn listen(&self, port: u16) -> Answer<'_, Listener> {
        Box::pin(async move { listen(&self.settings, port) })
    }

    fn whois(&self, peer: SocketAddr) -> Answer<'_, Option<Peer>> {
        let known = self.knows(peer.ip());
        let peer =
            known.then(|| Peer { name: peer.ip().to_canonical().to_string(), user: None, tags: Vec::new() });
        Box::pin(async { Ok(peer) })
    }

    fn connect(&self, to: SocketAddr) -> Answer<'_, Connection> {
        Box::pin(async move {
            if !self.knows(to.ip()) {
                return Err(MeshError::NotAPeer { address: to.ip() });
            }
            // Without an address of ours there, it would leave by whatever way is open.
            if look(&self.settings).addresses.is_empty() {
                return Err(MeshError::NoAddress);
            }
            let stream = sockets::connect(to, None).await?;
            let local = stream.local_addr().map_err(|source| MeshError::Connect { address: to, source })?;
            Ok(Connection::of(stream, to, local))
        })
    }

    fn watch(&self) -> watch::Receiver<MeshStatus> {
        self.status.clone()
    }
}

impl StaticMesh {
    fn knows(&self, address: IpAddr) -> bool {
        self.settings.addresses.iter().any(|own| may_be_peer(*own, address, &self.settings.mode))
    }
}

fn listen(settings: &StaticSettings, port: u16) -> Result<Listener, MeshError> {
    for address in &settings.addresses {
        may_listen(*address, &settings.mode)?;
    }
    let bound = sockets::listen(&settings.addresses, port, None)?;
    let first = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    Listener::of(bound, settings.mode.clone()).map_err(|source| MeshError::Listen { address: first, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn at(addresses: &[&str], mode: Mode) -> StaticSettings {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        StaticSettings { addresses, name: None, mode }
    }

    #[tokio::test]
    async fn an_address_that_may_not_be_listened_on_is_refused_at_start() {
        for (bad, mode) in [
            ("127.0.0.1", Mode::default()),
            ("0.0.0.0", StaticSettings::loopback().mode),
            ("192.0.2.1", StaticSettings::loopback().mode),
        ] {
            assert!(StaticMesh::start(at(&[bad], mode)).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_here_yet_is_told_apart_from_a_port_in_use() {
        let away = StaticMesh::start(at(&["100.64.77.77"], Mode::default())).unwrap();
        assert!(matches!(away.listen(0).await, Err(MeshError::NotHere { .. })));
        let status = away.status().await.unwrap();
        assert!(!status.up && status.addresses.is_empty(), "{status:?}");

        let here = StaticMesh::start(StaticSettings::loopback()).unwrap();
        let held = here.listen(0).await.unwrap();
        let port = held.addresses()[0].port();
        assert!(matches!(here.listen(port).await, Err(MeshError::Listen { .. })));
    }

    #[tokio::test]
    async fn nobody_outside_loopback_is_known_in_development() {
        let mesh = StaticMesh::start(StaticSettings::loopback()).unwrap();
        assert_eq!(mesh.whois("100.64.0.1:7".parse().unwrap()).await.unwrap(), None);
        assert_eq!(mesh.whois("203.0.113.1:7".parse().unwrap()).await.unwrap(), None);
        let peer = mesh.whois("127.0.0.1:7".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(peer.name, "127.0.0.1");
    }

    #[tokio::test]
    async fn bytes_go_both_ways_between_two_ends() {
        let mesh = StaticMesh::start(StaticSettings::loopback()).unwrap();
        let listener = mesh.listen(0).await.unwrap();
        let address = listener.addresses()[0];
        let (near, far) = tokio::join!(mesh.connect(address), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far);
        assert_eq!(far.local(), address);
        assert_eq!(far.peer(), near.local());
        near.write_all(b"question").await.unwrap();
        let mut got = [0; 8];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"question");
        far.write_all(b"answer").await.unwrap();
        drop(far);
        let mut rest = String::new();
        near.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "answer");
    }

    #[tokio::test]
    async fn several_addresses_share_one_port_and_one_accept() {
        let both = at(&["127.0.0.1", "127.0.0.2"], StaticSettings::loopback().mode);
        let mesh = StaticMesh::start(both).unwrap();
        let listener = mesh.listen(0).await.unwrap();
        let [first, second] = listener.addresses() else { panic!("two addresses") };
        assert_eq!(first.port(), second.port());
        let (near, far) = tokio::join!(mesh.connect(*second), listener.accept());
        near.unwrap();
        assert_eq!(far.local(), *second);
    }
}
