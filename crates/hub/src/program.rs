//! `allod hub`: takes its folder, its key, its servers and its place on the mesh, and serves until told to end.

use crate::{
    control::{self, Desk},
    coordination::{Coordination, CoordinatorFlags, Doors},
    deeds::{self, Deed},
    http::{self, Hub},
    identity, probe,
    registry::Registry,
    show::Show,
};
use allod_daemon::{Clock, CommonFlags, Shutdown};
use allod_mesh::{FollowingListener, MeshKind, MeshSettings, Place};
use allod_signing::Signer as _;
use allod_store::Lock;
use clap::Parser as _;
use std::{
    error::Error, ffi::OsString, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};
use tokio::task::JoinHandle;

/// The folder that everything lives under, unless it is told.
pub(crate) const STATE: &str = "/var/lib/allod";
/// How long the coordinator's end may take: it tells its members to come back.
const ENDING: Duration = Duration::from_secs(3);

/// Watch servers: witness their records, ask whether they answer, show both. Administer a mesh, with --coordinator
#[derive(Debug, clap::Parser)]
#[command(name = "allod hub", version)]
struct Flags {
    /// The folder that everything lives under; the hub's own is hub/ in it
    #[arg(long, value_name = "DIR", global = true, default_value = STATE)]
    state: PathBuf,
    /// The address and port on the mesh, or with tailscaled only a port; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT|PORT", default_value = "9845")]
    listen: Place,
    /// How this machine is on the mesh: loopback (development), static (the given address), tailscaled, embedded
    /// (allod node), or auto (tailscaled where it is installed, else allod node where it is, otherwise static)
    #[arg(long, value_name = "DRIVER", default_value_t = MeshKind::Static)]
    mesh: MeshKind,
    /// The socket of tailscaled or allod node, if it isn't at its usual place
    #[arg(long, value_name = "PATH")]
    mesh_socket: Option<PathBuf>,
    /// A name, besides its address and its name on the mesh, that browsers may ask for; may be given several times
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    /// What a deed prints is one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    coordinator: CoordinatorFlags,
    #[command(subcommand)]
    deed: Option<Deed>,
}

/// Runs the hub until it is told to end, or does one deed at a running one. The first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(flags) {
        Ok(code) => code,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(mut flags: Flags) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?;
    if let Some(deed) = flags.deed.take() {
        let place = deeds::Place { state: flags.state, show: Show { json: flags.json } };
        let done = runtime.block_on(deeds::run(&place, deed));
        return Ok(done.map_or_else(|fault| place.show.failure(&fault), |()| ExitCode::SUCCESS));
    }
    flags.common.begin()?;
    let served = runtime.block_on(serve(flags));
    // A blocked disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(flags: Flags) -> Result<(), Box<dyn Error>> {
    let shutdown = Shutdown::on_signals()?;
    let clock = Clock::start();
    let folder = flags.state.join("hub");
    allod_store::create_folder(&folder, 0o700)?;
    allod_store::create_folder(&folder.join("servers"), 0o700)?;
    let _lock = Lock::take(&folder)?;
    let identity = identity::load_or_make(&folder)?.fingerprint();
    let registry = Arc::new(Registry::open(&folder.join("servers"))?);
    let (coordination, doors) = flags.coordinator.open(&flags.state, clock).await?.unzip();
    let control = control::bind(&folder)?;
    let desk = Desk { registry: Arc::clone(&registry), coordination: coordination.clone(), clock };
    let hub =
        Hub { identity, registry, clock, folder, coordination: coordination.clone(), names: flags.name };
    let mesh = MeshSettings { kind: flags.mesh, address: flags.listen.address, socket: flags.mesh_socket };
    // The coordinator ends when the rest has, whatever ended that.
    let (end, ending) = Shutdown::by_hand();
    let coordinating =
        coordination.zip(doors).map(|(coordination, doors)| coordinate(coordination, doors, ending));
    let has_coordinator = coordinating.is_some();
    let mut coordinating = coordinating.unwrap_or_else(|| tokio::spawn(std::future::pending()));
    let served = tokio::select! {
        ended = on_the_mesh(hub, mesh, flags.listen.port, has_coordinator) => ended,
        () = control::run(control, Arc::new(desk)) => Ok(()),
        _ = &mut coordinating => Err("the coordinator ended by itself; the log has the cause".into()),
        () = shutdown.requested() => Ok(()),
    };
    end.shut_down();
    if has_coordinator && !coordinating.is_finished() {
        let _ = tokio::time::timeout(ENDING, coordinating).await;
    }
    tracing::info!("hub ends");
    served
}

fn coordinate(coordination: Arc<Coordination>, doors: Doors, ending: Shutdown) -> JoinHandle<()> {
    allod_daemon::raise_descriptor_limit();
    tokio::spawn(async move { coordination.serve(doors, ending).await })
}

/// What the hub does with its place on the mesh. With a coordinator beside it, the lack of a place is no end: the place may come
/// from that very coordinator.
async fn on_the_mesh(
    hub: Hub,
    mesh: MeshSettings,
    port: u16,
    has_coordinator: bool,
) -> Result<(), Box<dyn Error>> {
    match watch(hub, mesh, port).await {
        Err(error) if has_coordinator => {
            let error = in_words(error.as_ref());
            tracing::error!(
                error,
                "the hub has no place on the mesh: no reports, no status page; the coordinator works"
            );
            std::future::pending().await
        }
        ended => ended,
    }
}

async fn watch(hub: Hub, mesh: MeshSettings, port: u16) -> Result<(), Box<dyn Error>> {
    let mesh = mesh.open().await?;
    let listener = FollowingListener::open(Arc::clone(&mesh), port).await?;
    let (registry, clock) = (Arc::clone(&hub.registry), hub.clock);
    tracing::info!(identity = %hub.identity, listen = ?listener.addresses(), servers = registry.all().len(), "hub begins");
    tokio::select! {
        () = http::run(Arc::new(hub), Arc::clone(&mesh), listener) => Ok(()),
        () = probe::run(registry, mesh, clock) => Ok(()),
    }
}

fn complain(error: &dyn Error) {
    let _ = writeln!(std::io::stderr(), "allod hub: {}", in_words(error));
}

fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
