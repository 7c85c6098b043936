//! `allod hub`: takes its folder, its key, its servers and its place on the mesh, and serves until told to end.

use crate::{
    control::{self, ControlAsk},
    http::{self, Hub},
    identity, probe,
    registry::Registry,
};
use allod_daemon::{Clock, CommonFlags, Shutdown};
use allod_mesh::{Mesh, MeshError, StaticMesh, StaticSettings};
use allod_proto::Fingerprint;
use allod_signing::Signer as _;
use allod_store::Lock;
use clap::Parser as _;
use std::{
    error::Error, ffi::OsString, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode,
    sync::Arc, time::Duration,
};

/// How long a start waits for a port that is still taken, as after a restart.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// Watch servers: witness their records, ask whether they answer, show both
#[derive(Debug, clap::Parser)]
#[command(name = "allod hub", version)]
struct Flags {
    /// The folder that everything lives under; the hub's own is hub/ in it
    #[arg(long, value_name = "DIR", global = true, default_value = "/var/lib/allod")]
    state: PathBuf,
    /// The address and port on the mesh; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9845")]
    listen: SocketAddr,
    /// How this machine is on the mesh
    #[arg(long, value_enum, default_value_t = MeshChoice::Static)]
    mesh: MeshChoice,
    /// A name, besides its address, that browsers may ask for; may be given several times
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    #[command(flatten)]
    common: CommonFlags,
    #[command(subcommand)]
    deed: Option<Deed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MeshChoice {
    /// The address given with --listen is this machine's on its mesh
    Static,
    /// Development on one machine
    Loopback,
}

#[derive(Debug, clap::Subcommand)]
enum Deed {
    /// Take what a marked server says now for what counts (on the hub's own machine)
    Acknowledge {
        /// The server's identity, SHA256:…
        identity: Fingerprint,
    },
    /// Forget a server and what was witnessed of it (on the hub's own machine)
    Forget {
        /// The server's identity, SHA256:…
        identity: Fingerprint,
    },
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

fn run(flags: Flags) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?;
    match &flags.deed {
        Some(Deed::Acknowledge { identity }) => {
            Ok(runtime.block_on(tell(&flags, ControlAsk::Acknowledge { identity: identity.clone() })))
        }
        Some(Deed::Forget { identity }) => {
            Ok(runtime.block_on(tell(&flags, ControlAsk::Forget { identity: identity.clone() })))
        }
        None => {
            flags.common.begin()?;
            runtime.block_on(serve(flags))?;
            // A blocked disk must not hold up the end.
            runtime.shutdown_timeout(Duration::from_secs(2));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn tell(flags: &Flags, ask: ControlAsk) -> ExitCode {
    match control::ask(&flags.state.join("hub"), &ask).await {
        Ok(done) => {
            let _ = writeln!(std::io::stdout(), "{done}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "allod hub: {fault}");
            if let Some(hint) = &fault.hint {
                let _ = writeln!(std::io::stderr(), "  {hint}");
            }
            ExitCode::from(fault.code.exit_code())
        }
    }
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
    let mesh: Arc<dyn Mesh> = Arc::new(StaticMesh::start(mesh_settings(&flags))?);
    let listener = tokio::select! {
        listener = listen(mesh.as_ref(), flags.listen.port()) => listener?,
        () = shutdown.requested() => return Ok(()),
    };
    let control = control::bind(&folder)?;
    tracing::info!(%identity, listen = ?listener.addresses(), servers = registry.all().len(), "hub begins");
    let hub = Hub { identity, registry: Arc::clone(&registry), clock, folder, names: flags.name };
    tokio::select! {
        () = http::run(Arc::new(hub), Arc::clone(&mesh), listener) => {}
        () = probe::run(Arc::clone(&registry), mesh, clock) => {}
        () = control::run(control, registry, clock) => {}
        () = shutdown.requested() => {}
    }
    tracing::info!("hub ends");
    Ok(())
}

fn mesh_settings(flags: &Flags) -> StaticSettings {
    let mut settings = StaticSettings::loopback();
    settings.addresses = vec![flags.listen.ip()];
    settings.mode.development = flags.mesh == MeshChoice::Loopback;
    settings
}

/// Waits for an address that is not there yet for as long as it takes, and a little for a port that is taken.
async fn listen(mesh: &dyn Mesh, port: u16) -> Result<allod_mesh::Listener, MeshError> {
    let begun = tokio::time::Instant::now();
    let mut told = false;
    loop {
        match mesh.listen(port).await {
            Err(error @ (MeshError::NotHere { .. } | MeshError::NoAddress)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "waiting for the address");
                }
            }
            Err(MeshError::Listen { .. }) if begun.elapsed() < PORT_PATIENCE => {}
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let _ = writeln!(std::io::stderr(), "allod hub: {text}");
}
