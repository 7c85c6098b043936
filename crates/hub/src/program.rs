//! `allod hub`: takes its folder, its key, its servers and its place on the mesh, and serves until told to end.

use crate::{
    control::{self, ControlAsk},
    http::{self, Hub},
    identity, probe,
    registry::Registry,
};
use allod_daemon::{Clock, CommonFlags, Shutdown};
use allod_mesh::{FollowingListener, MeshKind, MeshSettings, Place};
use allod_proto::Fingerprint;
use allod_signing::Signer as _;
use allod_store::Lock;
use clap::Parser as _;
use std::{
    error::Error, ffi::OsString, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

/// Watch servers: witness their records, ask whether they answer, show both
#[derive(Debug, clap::Parser)]
#[command(name = "allod hub", version)]
struct Flags {
    /// The folder that everything lives under; the hub's own is hub/ in it
    #[arg(long, value_name = "DIR", global = true, default_value = "/var/lib/allod")]
    state: PathBuf,
    /// The address and port on the mesh, or with tailscaled only a port; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT|PORT", default_value = "9845")]
    listen: Place,
    /// How this machine is on the mesh: loopback (development), static (the given address), tailscaled, or auto
    /// (tailscaled where it is installed, otherwise static)
    #[arg(long, value_name = "DRIVER", default_value_t = MeshKind::Static)]
    mesh: MeshKind,
    /// Tailscaled's socket, if it isn't at its usual place
    #[arg(long, value_name = "PATH")]
    mesh_socket: Option<PathBuf>,
    /// A name, besides its address, that browsers may ask for; may be given several times
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    #[command(flatten)]
    common: CommonFlags,
    #[command(subcommand)]
    deed: Option<Deed>,
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
    let mesh = MeshSettings { kind: flags.mesh, address: flags.listen.address, socket: flags.mesh_socket };
    let mesh = mesh.open().await?;
    let listener = tokio::select! {
        listener = FollowingListener::open(Arc::clone(&mesh), flags.listen.port) => listener?,
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
