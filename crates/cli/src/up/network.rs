//! The mesh that `allod up` is on: loopback, or one of its own, with the coordinator in the hub and two nodes, the server's and that
//! of the person who types here. Each is let in once, by a key that the hub makes; from then on its folder brings it back.

use super::{
    launcher::Paths,
    local_server::{Client, Ran, expect_success},
    places::{NodePlace, Places},
    ports::{self, Ports},
    program::Program,
    users::Users,
};
use crate::{failure::Failure, mesh::MeshPlace};
use allod_mesh::{EmbeddedMesh, Mesh as _, MeshStatus};
use allod_proto::FaultCode;
use allod_rpc::client::{Dialer, Tcp};
use clap::{Args, ValueEnum};
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::chown,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// Where the management API and the hub are on the mesh.
const PORTS: (u16, u16) = (9844, 9845);
/// How long the hub may take to answer, and the coordinator to let a node in.
const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_millis(50);
/// For how long the keys that let the two nodes in are good.
const KEY: &str = "10m";

/// What is said of the mesh on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct NetworkFlags {
    /// The mesh: `embedded` is one of its own, with the coordinator in the hub; `loopback` is this machine alone
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t = Kind::Embedded)]
    mesh: Kind,
    /// Where the coordinator is for the nodes of other machines, TCP and UDP; otherwise only this machine's find it
    #[arg(long, value_name = "ADDRESS:PORT")]
    coordinator: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Embedded,
    Loopback,
}

/// The mesh before anything runs.
#[derive(Debug, Clone)]
pub(super) enum Network {
    /// This machine's loopback interface.
    Loopback,
    /// One of its own.
    Own(OwnNetwork),
}

/// A mesh of its own.
#[derive(Debug, Clone)]
pub(super) struct OwnNetwork {
    /// Where the coordinator listens.
    pub(super) coordinator: SocketAddr,
    /// The ports of agent and hub on the mesh.
    pub(super) management: u16,
    pub(super) hub: u16,
    /// The server's node and the person's.
    pub(super) nodes: [(Program, NodePlace); 2],
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
}

/// Where agent and hub are, and how to get there.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) management: SocketAddr,
    pub(super) hub: SocketAddr,
    pub(super) dialer: Arc<dyn Dialer>,
}

impl NetworkFlags {
    /// The address of the coordinator, where there is one.
    pub(super) fn coordinator(&self) -> Option<IpAddr> {
        let address = self.coordinator.map_or(Ipv4Addr::LOCALHOST.into(), |given| given.ip());
        (self.mesh == Kind::Embedded).then_some(address)
    }

    /// Its port; 0 leaves the choice.
    pub(super) fn coordinator_port(&self) -> u16 {
        self.coordinator.map_or(0, |given| given.port())
    }

    /// The mesh of these ports; `asked` are those that were asked for.
    pub(super) fn network(&self, places: &Places, asked: Ports, ports: Ports) -> Network {
        let Some(address) = self.coordinator() else { return Network::Loopback };
        let or = |asked: u16, usual: u16| if asked == 0 { usual } else { asked };
        let nodes = [Program::Node, Program::ClientNode].map(|program| (program, places.node(program)));
        let standing = Standing {
            may_join: nodes.iter().all(|(_, place)| place.has_joined()),
            address: ports.mesh_address,
        };
        Network::Own(OwnNetwork {
            coordinator: SocketAddr::new(address, ports.coordinator),
            management: or(asked.management, PORTS.0),
            hub: or(asked.hub, PORTS.1),
            nodes,
            standing: Rc::new(Cell::new(standing)),
        })
    }
}

impl Network {
    /// The programs that it takes.
    pub(super) fn programs(&self) -> &'static [Program] {
        match self {
            Self::Loopback => &Program::ON_LOOPBACK,
            Self::Own(_) => &Program::ALL,
        }
    }

    /// Whether what a program needs of the mesh is there.
    pub(super) fn may_start(&self, program: Program) -> bool {
        let Self::Own(own) = self else { return true };
        let standing = own.standing.get();
        match program {
            Program::Executor | Program::Hub | Program::Proxy => true,
            Program::Node | Program::ClientNode => standing.may_join,
            // It is told where the hub is.
            Program::Agent => standing.address.is_some(),
        }
    }

    /// Brings the two nodes onto the mesh, where they aren't yet; says where everything is. `binary` is who asks the hub.
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
                Ok(Reach { management: at(ports.management), hub: at(ports.hub), dialer: Arc::new(Tcp) })
            }
            Self::Own(own) => own.join(paths, users, ports, client).await,
        }
    }
}

impl OwnNetwork {
    async fn join(
        &self,
        paths: &Paths,
        users: &Users,
        ports: Ports,
        client: &Client,
    ) -> Result<Reach, Failure> {
        for (program, place) in &self.nodes {
            if !place.has_joined() {
                let token = make_token(client, paths, *program).await?;
                put(place, &token, users.of(*program))?;
            }
        }
        self.standing.set(Standing { may_join: true, ..self.standing.get() });
        let [(_, server), (_, person)] = &self.nodes;
        let (own, theirs) =
            tokio::try_join!(is_on(Program::Node, server), is_on(Program::ClientNode, person))?;
        for (_, place) in &self.nodes {
            // It has let its node in and is of no use to anybody now.
            let _ = std::fs::remove_file(place.token());
        }
        take_root_key(client, paths).await?;
        let address = *own.1.addresses.first().ok_or_else(|| late(Program::Node, "it has no address"))?;
        self.standing.set(Standing { may_join: true, address: Some(address) });
        if ports.mesh_address != Some(address) {
            let ports = Ports { mesh_address: Some(address), ..ports };
            ports::remember(&paths.state.join("up.json"), ports).map_err(|error| cannot(&error))?;
        }
        let place = MeshPlace { socket: person.socket(), start: None };
        place.save(&client.home.join("state")).map_err(|error| cannot(&error))?;
        let at = |port| SocketAddr::new(address, port);
        let dialer = crate::mesh::over(theirs.0);
        Ok(Reach { management: at(self.management), hub: at(self.hub), dialer })
    }
}

/// A token that lets in one machine, made by the hub as a person would have it made.
async fn make_token(client: &Client, paths: &Paths, program: Program) -> Result<String, Failure> {
    let tags: &[&str] = match program {
        Program::Node => &["--tag", "tag:server", "--tag", "tag:hub"],
        _ => &[],
    };
    let state = paths.state.to_string_lossy();
    let words = ["hub", "--state", &state, "keys", "create", "--for", KEY];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = client.run_plain(words.iter().chain(tags).chain(&["--json"])).await?;
        let token = ran.last().get("token").and_then(|token| token.as_str().map(str::to_owned));
        if let Some(token) = token.filter(|_| ran.code == 0) {
            return Ok(token);
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
    let path = place.token();
    allod_store::write_atomic(&path, format!("{token}\n").as_bytes(), 0o600)
        .map_err(|error| cannot(&error))?;
    match uid {
        Some(uid) => chown(&path, Some(uid), Some(uid)).map_err(|error| cannot(&error)),
        None => Ok(()),
    }
}

/// Waits until a node is on the mesh.
async fn is_on(program: Program, place: &NodePlace) -> Result<(Arc<EmbeddedMesh>, MeshStatus), Failure> {
    let mesh = crate::mesh::node_at(place.socket()).await?;
    let mut statuses = mesh.watch();
    let up = timeout(PATIENCE, statuses.wait_for(|status| status.up)).await;
    match up {
        Ok(Ok(status)) => {
            let status = status.clone();
            Ok((Arc::new(mesh), status))
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
