//! The mesh that `allod up` is on: loopback; or one of its own, with the coordinator in the hub and two nodes, the server's and that
//! of the person who types here; or that of a hub or a Headscale elsewhere; or the one that the machine's tailscaled is on. Each node
//! is let in once, by a key that the coordinator made; from then on its folder brings it back.

mod flags;
mod tailscaled;

pub(super) use flags::{Entry, NetworkFlags};
pub(super) use tailscaled::TailscaledNetwork;

use super::{
    launcher::Paths,
    local_server::{Client, Ran, expect_success},
    places::NodePlace,
    ports::{self, Ports},
    program::Program,
    users::Users,
};
use crate::{
    failure::Failure,
    mesh::{HUB, MeshPlace, hub_of, read_token},
};
use allod_mesh::{EmbeddedMesh, Mesh as _};
use allod_proto::{FaultCode, headers::MANAGEMENT_PORT, node::Forward};
use allod_rpc::client::{Dialer, Tcp};
use std::{
    cell::Cell,
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

/// Where the management API and the hub are on the mesh.
const PORTS: (u16, u16) = (MANAGEMENT_PORT, allod_proto::hub::PORT);
/// How long the hub may take to answer, and the coordinator to let a node in.
const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_millis(50);
/// For how long the keys that let the two nodes in are good.
const KEY: &str = "10m";

/// The mesh before anything runs.
#[derive(Debug, Clone)]
pub(super) enum Network {
    /// This machine's loopback interface.
    Loopback,
    /// One of its own, or one elsewhere that a node of ours is on.
    Own(Box<OwnNetwork>),
    /// The one that the machine's tailscaled is on.
    Tailscaled(TailscaledNetwork),
}

/// A mesh of its own.
#[derive(Debug, Clone)]
pub(super) struct OwnNetwork {
    /// Where the coordinator listens; `None` where the hub is elsewhere.
    pub(super) coordinator: Option<SocketAddr>,
    /// What lets the server in.
    pub(super) entry: Entry,
    /// Whether the coordinator was elsewhere the last time, so that its nodes must be told.
    has_moved: bool,
    /// Where datagrams come from; all addresses otherwise.
    pub(super) only: Option<IpAddr>,
    /// The ports of agent and hub on the mesh.
    pub(super) management: u16,
    pub(super) hub: u16,
    /// Ports of the server on the mesh that lead to others of this machine.
    pub(super) forwards: Vec<Forward>,
    /// The server's node, and the person's where the hub is here.
    pub(super) server: NodePlace,
    pub(super) person: Option<NodePlace>,
    /// How far things are; shared with who starts the programs.
    pub(super) standing: Rc<Cell<Standing>>,
}

/// How far the joining is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// Both nodes have what lets them in.
    pub(super) may_join: bool,
    /// The server's address on the mesh.
    pub(super) address: Option<IpAddr>,
    /// The hub's there.
    pub(super) hub: Option<SocketAddr>,
}

/// Where agent and hub are, and how to get there.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) management: SocketAddr,
    /// `None` where it is elsewhere and not known yet.
    pub(super) hub: Option<SocketAddr>,
    /// Whether the hub is here.
    pub(super) has_hub: bool,
    pub(super) dialer: Arc<dyn Dialer>,
}

impl Network {
    /// The programs that it takes.
    pub(super) fn programs(&self) -> &'static [Program] {
        match self {
            Self::Loopback | Self::Tailscaled(_) => &Program::WITHOUT_NODES,
            Self::Own(own) if own.person.is_some() => &Program::ALL,
            Self::Own(_) => &Program::WITHOUT_HUB,
        }
    }

    /// Whether what a program needs of the mesh is there.
    pub(super) fn may_start(&self, program: Program) -> bool {
        let standing = match self {
            Self::Loopback => return true,
            Self::Own(own) => own.standing.get(),
            Self::Tailscaled(network) => network.standing.get(),
        };
        match program {
            Program::Executor | Program::Hub | Program::Proxy => true,
            Program::Node => standing.may_join,
            // The server is the first, and so has the first address.
            Program::ClientNode => standing.may_join && standing.address.is_some(),
            // It is told where the hub is.
            Program::Agent => standing.address.is_some(),
        }
    }

    /// Whether the server was on the mesh before: then apps don't wait until it is again.
    pub(super) fn was_there(&self) -> bool {
        match self {
            Self::Loopback => false,
            Self::Own(own) => own.standing.get().address.is_some(),
            Self::Tailscaled(network) => network.standing.get().address.is_some(),
        }
    }

    /// Brings the nodes onto the mesh, where they aren't yet; says where everything is. `client` is who asks the hub.
    ///
    /// # Errors
    /// [`Failure`] that says which step did not succeed.
    pub(super) async fn join(
        &self,
        paths: &Paths,
        users: &Users,
        ports: Ports,
        client: &Client,
    ) -> Result<Reach, Failure> {
        match self {
            Self::Loopback => {
                let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                Ok(Reach {
                    management: at(ports.management),
                    hub: Some(at(ports.hub)),
                    has_hub: true,
                    dialer: Arc::new(Tcp),
                })
            }
            Self::Own(own) => own.join(paths, users, ports, client).await,
            Self::Tailscaled(network) => network.look(paths, ports, client).await,
        }
    }
}

impl OwnNetwork {
    /// The nodes there are.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (Program, &NodePlace)> {
        let person = self.person.iter().map(|place| (Program::ClientNode, place));
        std::iter::once((Program::Node, &self.server)).chain(person)
    }

    async fn join(
        &self,
        paths: &Paths,
        users: &Users,
        ports: Ports,
        client: &Client,
    ) -> Result<Reach, Failure> {
        for (program, place) in self.nodes().filter(|(_, place)| self.has_moved || !place.has_joined()) {
            let token = match &self.entry {
                Entry::Own => make_token(client, paths, program).await,
                Entry::Token(file) => token_in(file),
                Entry::Server(server) => {
                    server.put_authorities(place, users.of(program))?;
                    match server.key().transpose() {
                        Some(key) => key,
                        // A person lets it in there.
                        None => continue,
                    }
                }
            };
            match token {
                Ok(token) => put(place, &token, users.of(program))?,
                // What let it in once may do so again.
                Err(_) if place.knows_a_mesh() => {}
                Err(failure) => return Err(failure),
            }
        }
        self.standing.set(Standing { may_join: true, ..self.standing.get() });
        let (own, address) = is_on(Program::Node, &self.server).await?;
        let hub = if self.person.is_some() { Some(address) } else { hub_of(&own).await.or(ports.mesh_hub) };
        let standing = Standing {
            may_join: true,
            address: Some(address),
            hub: hub.map(|address| SocketAddr::new(address, self.hub)),
        };
        self.standing.set(standing);
        // The person's node is asked where there is one; where the hub is elsewhere, the server's own knows the way too.
        let (through, socket) = match &self.person {
            Some(place) => (is_on(Program::ClientNode, place).await?.0, place.socket()),
            None => (Arc::clone(&own), self.server.socket()),
        };
        for (_, place) in self.nodes() {
            // It has let its node in and is of no use to anybody now.
            let _ = std::fs::remove_file(place.token());
        }
        if self.person.is_some() {
            take_root_key(client, paths).await?;
        }
        let remembered = Ports { mesh_address: Some(address), mesh_hub: hub, ..ports };
        if remembered != ports || self.has_moved {
            ports::remember(&paths.state.join("up.json"), remembered).map_err(|error| cannot(&error))?;
        }
        let place = MeshPlace { socket, start: None };
        place.save(&client.home.join("state")).map_err(|error| cannot(&error))?;
        let management = SocketAddr::new(address, self.management);
        let has_hub = self.person.is_some();
        Ok(Reach { management, hub: standing.hub, has_hub, dialer: crate::mesh::over(through) })
    }
}

/// The token of the command line.
fn token_in(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let opened = File::open(file).map_err(|error| {
        Failure::usage(format!("{}: {error}", file.display()))
            .hint("on the hub: allod hub keys create --tag tag:server >FILE")
    })?;
    read_token(opened, &file.display().to_string())
}

/// A token that lets in one machine, made by the hub as a person would have it made.
async fn make_token(client: &Client, paths: &Paths, program: Program) -> Result<Zeroizing<String>, Failure> {
    let tags: &[&str] = match program {
        Program::Node => &["--tag", "tag:server", "--tag", HUB],
        _ => &[],
    };
    let state = paths.state.to_string_lossy();
    let words = ["hub", "--state", &state, "keys", "create", "--for", KEY];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = client.run_plain(words.iter().chain(tags).chain(&["--json"])).await?;
        let token = ran.last().get("token").and_then(|token| token.as_str().map(str::to_owned));
        if let Some(token) = token.filter(|_| ran.code == 0) {
            return Ok(Zeroizing::new(token));
        }
        // The hub is on its way.
        if Instant::now() > deadline {
            expect_success(&ran, "hub keys create")?;
            return Err(late(Program::Hub, "it makes no join key"));
        }
        sleep(BETWEEN).await;
    }
}

fn put(place: &NodePlace, token: &str, uid: Option<u32>) -> Result<(), Failure> {
    put_file(&place.token(), format!("{token}\n").as_bytes(), uid)
}

/// A file in a node's folder that is the node's.
fn put_file(path: &Path, bytes: &[u8], uid: Option<u32>) -> Result<(), Failure> {
    allod_store::write_atomic(path, bytes, 0o600).map_err(|error| cannot(&error))?;
    match uid {
        // The folder is the node's: a link in the file's place is not followed.
        Some(uid) => lchown(path, Some(uid), Some(uid)).map_err(|error| cannot(&error)),
        None => Ok(()),
    }
}

/// Waits until a node is on the mesh.
async fn is_on(program: Program, place: &NodePlace) -> Result<(Arc<EmbeddedMesh>, IpAddr), Failure> {
    let mesh = crate::mesh::node_at(place.socket()).await?;
    let mut statuses = mesh.watch();
    let up = timeout(PATIENCE, statuses.wait_for(|status| status.up)).await;
    match up {
        Ok(Ok(status)) => {
            let address = status.addresses.first().copied();
            drop(status);
            let address = address.ok_or_else(|| late(program, "it has no address"))?;
            Ok((Arc::new(mesh), address))
        }
        Ok(Err(_)) => Err(late(program, "its socket is gone")),
        Err(_) => {
            let status = mesh.watch().borrow().clone();
            let troubles: Vec<_> = status.troubles.iter().map(ToString::to_string).collect();
            Err(late(program, &troubles.join("; ")))
        }
    }
}

/// The root key is the person's: the hub works without it.
async fn take_root_key(client: &Client, paths: &Paths) -> Result<(), Failure> {
    let here = paths.state.join("hub/coordinator/root.key");
    let there: PathBuf = client.home.join("root.key");
    if !here.exists() || there.exists() {
        return Ok(());
    }
    let (state, there) = (paths.state.to_string_lossy(), there.to_string_lossy());
    let words = ["hub", "--state", &state, "root-key", "take", "--to", &there, "--json"];
    let ran: Ran = client.run_plain(&words).await?;
    expect_success(&ran, "hub root-key take")
}

fn late(program: Program, why: &str) -> Failure {
    Failure::new(
        FaultCode::Timeout,
        format!("{program} is not on the mesh after {} s: {why}", PATIENCE.as_secs()),
    )
    .hint(format!("its log is logs-programs/{program}.log in the state folder"))
}

fn cannot(error: &dyn std::error::Error) -> Failure {
    Failure::new(FaultCode::Internal, format!("the mesh of `allod up`: {error}"))
}
