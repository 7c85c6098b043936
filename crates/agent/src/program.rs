//! The program: settings, the way to the executor, the listeners, and the end on a signal.

use crate::{
    agent::Agent,
    chunks::Chunks,
    door::{self, DoorFacts},
    drive,
    executor_link::{ExecutorLink, expect_done},
    keys::KeyRing,
    observations::Observations,
    operations::Operations,
    ports::Ports,
    reconcile::{self, Keeper},
    route_table::RouteTables,
    service::AgentService,
    sshd_log, tidy, witness,
};
use allod_daemon::{Clock, CommonFlags, Shutdown};
use allod_mesh::{FollowingListener, Mesh, MeshKind, MeshSettings, Place};
use allod_proto::executor::{Action, Attached, Done, IdentityKey};
use allod_rpc::server::serve_socket;
use allod_signing::{KeySigner, Signer, Window};
use clap::Parser;
use std::{
    ffi::OsString,
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use zeroize::Zeroizing;

/// Nonces remembered for one key, and in all: what the door lets one key ask in the two minutes that one can be fresh.
const NONCES: (usize, usize) = (131_072, 524_288);

/// The program that answers the signed door. It runs without privilege and asks the executor for what it can't do.
#[derive(Debug, Clone, Parser)]
#[command(name = "allod agent")]
pub(crate) struct Settings {
    /// Where all state lives; the agent's own is below agent/
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Where sockets live
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// The server's own name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Where the management API listens: an address of this machine on the mesh, or where the mesh can be asked only a
    /// port
    #[arg(long, value_name = "ADDRESS:PORT|PORT")]
    pub(crate) listen: Place,
    /// How this machine is on the mesh: loopback (development), static (the given address), tailscaled, embedded
    /// (allod node), or auto (tailscaled where it is installed, else allod node where it is, otherwise static)
    #[arg(long, value_name = "DRIVER", default_value_t = MeshKind::Static)]
    pub(crate) mesh: MeshKind,
    /// The socket of tailscaled or allod node, if it isn't at its usual place
    #[arg(long, value_name = "PATH")]
    pub(crate) mesh_socket: Option<PathBuf>,
    /// The executor's connection is standard input
    #[arg(long, conflicts_with = "executor")]
    pub(crate) executor_stdin: bool,
    /// The executor's socket
    #[arg(long, value_name = "PATH")]
    pub(crate) executor: Option<PathBuf>,
    /// The proxy's control socket
    #[arg(long, value_name = "PATH")]
    pub(crate) proxy_control: PathBuf,
    /// The proxy's table of routes, which the agent writes
    #[arg(long, value_name = "FILE")]
    pub(crate) routes: PathBuf,
    /// The hub that witnesses the record
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) hub: Option<SocketAddr>,
    /// sshd's log, to record what sshd itself refuses of the gate's user; needs the right to read it
    #[arg(long, value_name = "FILE")]
    pub(crate) sshd_log: Option<PathBuf>,
    /// The gate's user, as sshd's log names it
    #[arg(long, value_name = "NAME", default_value = "allod-gate")]
    pub(crate) gate_user: String,
    #[command(flatten)]
    common: CommonFlags,
}

/// Runs the agent until it is told to end, or the executor goes.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let settings = match Settings::try_parse_from(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(2);
        }
    };
    match start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!("the agent can't run: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(settings: Settings) -> Result<(), String> {
    settings.common.begin().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> Result<(), String> {
    let shutdown = Shutdown::on_signals().map_err(|error| format!("signals: {error}"))?;
    let stream = connect_executor(&settings).await?;
    let mesh = mesh_of(&settings).await?;
    let agent = open(settings, stream, mesh).await?;
    let socket = bind_local(&agent.settings.run)?;
    for open in agent.attached.open.clone() {
        drive::spawn(&agent, open, true);
    }
    let service = Arc::new(AgentService(Arc::clone(&agent)));
    tokio::select! {
        why = serve_mesh(&agent, Arc::clone(&service)) => return Err(why),
        () = serve_socket(socket, service) => {}
        () = reconcile::run(Arc::clone(&agent)) => {}
        () = tidy::run(Arc::clone(&agent)) => {}
        () = agent.observations.run(&agent.link, || agent.now()) => {}
        () = tell_hub(&agent) => {}
        () = follow_sshd(&agent) => {}
        () = agent.replaced() => tracing::info!("the identity was rotated: beginning again with the new one"),
        () = agent.link.lost() => return Err("the executor is gone".to_owned()),
        () = shutdown.requested() => tracing::info!("told to end"),
    }
    agent.observations.flush(&agent.link).await;
    Ok(())
}

async fn open(settings: Settings, stream: UnixStream, mesh: Arc<dyn Mesh>) -> Result<Arc<Agent>, String> {
    let clock = Clock::start();
    let link = ExecutorLink::new(stream);
    let attached = attach(&link).await?;
    let folder = settings.state.join("agent");
    let identity = identity(&folder, attached.identity_key.as_ref())?;
    // What an earlier life wrote and did not sync is about to be believed.
    allod_store::settle(&folder).map_err(|error| error.to_string())?;
    let chunks = Chunks::open(&folder, &boot_id()).map_err(|error| error.to_string())?;
    Ok(Arc::new(Agent {
        clock,
        started_at: clock.now(),
        keys: KeyRing::new(identity.fingerprint(), &attached.keys),
        window: Mutex::new(Window::new(attached.epoch.clone(), NONCES.0, NONCES.1)),
        observations: Observations::new(),
        operations: Operations::load(&folder, &attached.open)?,
        routes: RouteTables::load(&settings.routes, &settings.proxy_control)?,
        chunks,
        ports: Ports::starting_at(std::process::id().wrapping_mul(97)),
        keeper: Keeper::default(),
        rotated: watch::Sender::new(false),
        door: DoorFacts::default(),
        mesh,
        settings,
        identity,
        link,
        attached,
    }))
}

/// Which life of the machine this is; empty where the system does not say.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

async fn connect_executor(settings: &Settings) -> Result<UnixStream, String> {
    let named = |error: std::io::Error| format!("the way to the executor: {error}");
    match &settings.executor {
        Some(path) => UnixStream::connect(path).await.map_err(|error| format!("{}: {error}", path.display())),
        None if settings.executor_stdin => {
            let fd = std::io::stdin().as_fd().try_clone_to_owned().map_err(named)?;
            let stream = StdUnixStream::from(fd);
            stream.set_nonblocking(true).map_err(named)?;
            UnixStream::from_std(stream).map_err(named)
        }
        None => Err("give --executor PATH or --executor-stdin".to_owned()),
    }
}

async fn attach(link: &ExecutorLink) -> Result<Attached, String> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let attached = link.ask(Action::Attach { version }).await;
    expect_done!(attached, Done::Attached(attached) => *attached).map_err(|fault| fault.message)
}

/// The key that the executor gives, once the identity was rotated; the first one lies in the agent's own folder, and is
/// of no more use then.
fn identity(folder: &Path, given: Option<&IdentityKey>) -> Result<KeySigner, String> {
    let path = folder.join("identity.key");
    let Some(key) = given else { return load_identity(&path) };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the first identity key can't be removed");
        }
        Ok(()) | Err(_) => {}
    }
    KeySigner::from_openssh(key.expose(), None).map_err(|error| format!("the rotated identity: {error}"))
}

fn load_identity(path: &Path) -> Result<KeySigner, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?);
    KeySigner::from_openssh(&text, None).map_err(|error| named(error.to_string()))
}

/// Serves the mesh as soon as this machine is on it; apps and the local socket don't wait for that. Comes back with the
/// reason only where waiting is of no use.
async fn serve_mesh(agent: &Agent, service: Arc<AgentService>) -> String {
    let port = agent.settings.listen.port;
    match FollowingListener::open(Arc::clone(&agent.mesh), port).await {
        Ok(listener) => {
            let identity = agent.identity.fingerprint();
            tracing::info!(%identity, address = ?listener.addresses(), "the agent is ready");
            door::serve(listener, service).await;
            "the door to the mesh has closed".to_owned()
        }
        Err(error) => in_full(&error),
    }
}

async fn mesh_of(settings: &Settings) -> Result<Arc<dyn Mesh>, String> {
    let mesh = MeshSettings {
        kind: settings.mesh,
        address: settings.listen.address,
        socket: settings.mesh_socket.clone(),
    };
    mesh.open().await.map_err(|error| in_full(&error))
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn bind_local(run: &Path) -> Result<UnixListener, String> {
    let path = run.join("agent.sock");
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).map_err(|error| format!("{}: {error}", path.display()))
}

async fn tell_hub(agent: &Agent) {
    match agent.settings.hub {
        Some(hub) => witness::run(agent, hub).await,
        None => std::future::pending().await,
    }
}

async fn follow_sshd(agent: &Agent) {
    match &agent.settings.sshd_log {
        Some(file) => sshd_log::run(agent, file, &agent.settings.gate_user).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str]) -> Settings {
        let needed = ["agent", "--state=/s", "--run=/r", "--name=web1", "--proxy-control=/p", "--routes=/t"];
        Settings::try_parse_from(needed.iter().chain(words)).unwrap()
    }

    #[tokio::test]
    async fn an_address_that_is_no_meshs_is_refused_at_the_start_whatever_the_driver() {
        for mesh in ["static", "tailscaled", "embedded", "auto", "loopback"] {
            for listen in ["0.0.0.0:9844", "192.0.2.1:9844", "[::]:9844"] {
                let told = ["--mesh-socket=/nowhere/sock", "--mesh", mesh, "--listen", listen];
                assert!(mesh_of(&settings(&told)).await.is_err(), "{mesh}: {listen}");
            }
        }
        assert!(mesh_of(&settings(&["--listen=127.0.0.1:9844"])).await.is_err());
        assert!(mesh_of(&settings(&["--listen=9844"])).await.is_err(), "static needs an address");
    }

    #[tokio::test]
    async fn with_tailscaled_a_port_is_enough_and_a_daemon_that_is_not_there_yet_is_waited_for() {
        let told = ["--mesh=tailscaled", "--listen=9844", "--mesh-socket=/nowhere/sock"];
        let status = mesh_of(&settings(&told)).await.unwrap().status().await.unwrap();
        assert!(!status.up && status.troubles.len() == 1, "{status:?}");
    }
}
