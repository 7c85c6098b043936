//! `allod up`: all programs of a server, and a hub, as separate processes on this machine, kept running until Ctrl-C. The
//! same programs with the same checks as anywhere else, on a mesh of their own whose coordinator is in the hub.

mod announce;
mod demo;
mod executor_link;
#[cfg(test)]
mod formats;
mod interrupts;
mod launcher;
mod leftovers;
mod local_server;
mod logs;
mod network;
mod owner;
mod places;
mod ports;
mod program;
mod ready;
mod restarts;
mod supervisor;
mod uid_block;
mod users;

pub use program::Program;

use crate::{
    failure::{Failure, INTERRUPTED},
    session::Session,
};
use allod_proto::FaultCode;
use announce::{Announcement, Teller};
use clap::Args;
use interrupts::Interrupts;
use launcher::{Launcher, Secure};
use network::{NetworkFlags, Reach};
use owner::Owner;
use places::Places;
use ports::Ports;
use ready::NotReady;
use std::{path::PathBuf, sync::Arc};
use supervisor::Supervisor;

/// `allod up`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  allod up --http-port 8080\n  allod up --demo --once\n  allod up --coordinator 203.0.113.5:8443 --name hub\n  \
    allod up --join token --name web1\n  allod up --mesh tailscaled --name web2\n  \
    allod up --headscale https://headscale.example --auth-key-file key --name web3"
)]
pub struct Up {
    /// The folder for everything; kept, and used again by the next `up`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The port for visitors; 0 takes the one of the last time, or a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    http_port: u16,
    /// What this server calls itself, on the mesh too
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = server_name)]
    name: String,
    #[command(flatten)]
    network: NetworkFlags,
    /// The port of the management API on the mesh
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    management_port: u16,
    /// The port for visitors who come with TLS
    #[arg(long, value_name = "PORT", requires = "certificates")]
    https_port: Option<u16>,
    /// The folder of certificates, NAME.pem and NAME.key; read again when SIGHUP replaces the proxy
    #[arg(long, value_name = "DIR", requires = "https_port")]
    certificates: Option<PathBuf>,
    /// The port of the hub on the mesh
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    hub_port: u16,
    /// As root: the first of the user ids for programs and apps; without it, a block of them that nobody uses
    #[arg(long, value_name = "UID", hide = true,
        value_parser = clap::value_parser!(u32).range(1..=4_000_000_000))]
    first_uid: Option<u32>,
    /// The user who may open the recovery door, besides root: see `allod recover --help`
    #[arg(long, value_name = "UID")]
    recovery_uid: Option<u32>,
    /// The user that callers of named commands log in as through sshd: see `allod gate --help`
    #[arg(long, value_name = "UID")]
    gate_uid: Option<u32>,
    /// sshd's log, to record what sshd itself refuses of that user
    #[arg(long, value_name = "FILE")]
    sshd_log: Option<PathBuf>,
    /// Show what it does, step by step, in a fresh folder that is removed at the end
    #[arg(long, conflicts_with_all = ["join", "headscale"])]
    demo: bool,
    /// End after the demonstration
    #[arg(long, requires = "demo")]
    once: bool,
}

/// A name that a server may have.
fn server_name(text: &str) -> Result<String, String> {
    let refused = || crate::inventory::InventoryError::Name(text.to_owned()).to_string();
    if crate::inventory::is_name(text) { Ok(text.to_owned()) } else { Err(refused()) }
}

/// What is there before anything runs.
struct Settled {
    places: Places,
    owner: Owner,
    launcher: Launcher,
    /// The user ids are ours as long as it runs.
    _uids: uid_block::Block,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it can't start, names what doesn't answer, or a step of the demonstration fails.
pub async fn run(session: &Session, up: Up) -> Result<(), Failure> {
    let (interrupts, wishes) = Interrupts::take_over().map_err(|error| failed("signals", &error))?;
    leftovers::adopt().map_err(|error| failed("taking care of orphans", &error))?;
    tokio::spawn(leftovers::keep_collecting());
    let Settled { places, owner, launcher, _uids } = settle(session, &up).await?;
    let teller = Teller::new(Arc::clone(&session.output));
    let events = teller.clone();
    let programs = launcher.network.programs();
    let mut supervisor = Supervisor::new(launcher, programs, move |event| events.tell(&event));
    let control = places.proxy_control();
    supervisor.replace_proxy_at(
        wishes,
        Box::new(move |pid| {
            let control = control.clone();
            Box::pin(async move { ready::wait_for_proxy(&control, pid).await })
        }),
    );
    let outcome = live(session, &up, &places, &owner, &mut supervisor, &interrupts).await;
    teller.stopping();
    supervisor.stop(&interrupts).await;
    teller.left_over(leftovers::kill_all().await);
    let state = places.state().to_owned();
    let cleared = places.clear().map_err(|error| failed(&format!("removing {}", state.display()), &error));
    outcome.and(cleared)
}

async fn settle(session: &Session, up: &Up) -> Result<Settled, Failure> {
    up.network.check()?;
    let state = match (&up.state, up.demo) {
        (Some(state), _) => Some(state.clone()),
        (None, true) => None,
        (None, false) => Some(session.settings.state.join("up")),
    };
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let places = Places::take(state, runtime.as_deref()).map_err(|error| cannot("a place", &error))?;
    let owner = owner::load_or_make(&places).map_err(|error| cannot("an owner's key", &error))?;
    let binary = std::env::current_exe().map_err(|error| cannot("its own binary", &error))?;
    let uids = uid_block::take(&places, up.first_uid).map_err(|error| cannot("user ids", &error))?;
    let staff = users::settle(&places, &binary, uids.first).map_err(|error| cannot("its folders", &error))?;
    let asked = Ports {
        http: up.http_port,
        management: up.management_port,
        hub: up.hub_port,
        coordinator: up.network.coordinator_port(),
        ..Ports::default()
    };
    let coordinator = up.network.coordinator();
    // On a mesh these two are not this machine's to take.
    let bound = if up.network.is_loopback() { asked } else { Ports { management: 0, hub: 0, ..asked } };
    let (ports, http, has_moved) = ports::settle(&places.state().join("up.json"), bound, coordinator)
        .await
        .map_err(|error| cannot("its ports", &error))?;
    let network = up.network.network(&places, asked, (ports, has_moved));
    let secure = secure(up).await?;
    let mut launcher = Launcher::new(&places, owner.line.clone(), staff, (ports, network), http, secure);
    launcher.recovery_uid = up.recovery_uid;
    launcher.gate_uid = up.gate_uid;
    launcher.sshd_log = up.sshd_log.clone();
    launcher.name = up.name.clone();
    Ok(Settled { places, owner, launcher, _uids: uids })
}

/// The listener for TLS, where one is wished.
async fn secure(up: &Up) -> Result<Option<Secure>, Failure> {
    let (Some(port), Some(certificates)) = (up.https_port, &up.certificates) else { return Ok(None) };
    let listener = ports::listen(port).await.map_err(|error| cannot("its ports", &error))?;
    let certificates = std::path::absolute(certificates).map_err(|error| cannot("certificates", &error))?;
    Ok(Some(Secure { listener, certificates }))
}

/// From the first start to the wish for the end.
async fn live(
    session: &Session,
    up: &Up,
    places: &Places,
    owner: &Owner,
    supervisor: &mut Supervisor<Launcher>,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let (paths, ports) = (supervisor.launcher().paths.clone(), supervisor.launcher().ports);
    let binary = supervisor.launcher().staff.binary.clone();
    let client = local_server::Client { binary, home: places.client(), key: owner.key.clone() };
    let was_there = supervisor.launcher().network.was_there();
    let reach = match join(supervisor, interrupts, &client).await {
        Ok(reach) => reach,
        // Visitors come by another way, and the nodes keep trying.
        Err(failure) if was_there && failure.exit != INTERRUPTED => {
            not_on_the_mesh(session, &failure)?;
            supervisor.run_until(interrupts.at_least(1)).await;
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let ready = unless_interrupted(interrupts, ready::wait(&paths, &reach));
    let identity = match supervisor.run_until(ready).await {
        None => return Err(Failure::interrupted("stopped before it was ready")),
        Some(Ok(identity)) => identity,
        Some(Err(late)) => return Err(not_ready(&late, supervisor)),
    };
    let adding = local_server::add(&client, &identity, reach.management);
    match supervisor.run_until(unless_interrupted(interrupts, adding)).await {
        None => return Err(Failure::interrupted("stopped before it was ready")),
        Some(added) => added?,
    }
    let announcement = Announcement::of(places, owner, supervisor, identity.clone(), &reach);
    session.output.item(&announcement, |style| announcement.text(style))?;
    if up.demo {
        let stage = demo::Stage {
            session,
            client: &client,
            places,
            http: ports.http,
            reach: &reach,
            programs: supervisor.launcher().network.programs().len(),
            identity: &identity,
            pids: supervisor.pids(),
        };
        match supervisor.run_until(unless_interrupted(interrupts, demo::run(&stage))).await {
            None => return Err(Failure::interrupted("stopped in the middle of the demonstration")),
            Some(played) => played?,
        }
        if up.once {
            return Ok(());
        }
    }
    supervisor.run_until(interrupts.at_least(1)).await;
    Ok(())
}

/// Says that apps run all the same.
fn not_on_the_mesh(session: &Session, failure: &Failure) -> Result<(), Failure> {
    let value = serde_json::json!({ "event": "not_on_the_mesh", "fault": failure.fault });
    session.output.item(&value, |style| {
        let why = crate::render::safe(&failure.fault.message);
        format!("{} {why}; apps run, and the mesh is tried on\n", style.warn("!"))
    })
}

/// Brings this machine onto the mesh.
async fn join(
    supervisor: &mut Supervisor<Launcher>,
    interrupts: &Interrupts,
    client: &local_server::Client,
) -> Result<Reach, Failure> {
    let Launcher { network, paths, staff, ports, .. } = supervisor.launcher();
    let (network, paths, users, ports) = (network.clone(), paths.clone(), staff.users.clone(), *ports);
    let joining = network.join(&paths, &users, ports, client);
    match supervisor.run_until(unless_interrupted(interrupts, joining)).await {
        None => Err(Failure::interrupted("stopped before it was on the mesh")),
        Some(joined) => joined,
    }
}

/// What `work` gives, unless somebody wishes for the end first.
async fn unless_interrupted<T>(interrupts: &Interrupts, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = interrupts.at_least(1) => None,
    }
}

fn not_ready(late: &[NotReady], supervisor: &Supervisor<Launcher>) -> Failure {
    let parts: Vec<String> = late.iter().map(|late| format!("{} ({})", late.program, late.why)).collect();
    let message = format!("not ready within {} s: {}", ready::PATIENCE.as_secs(), parts.join("; "));
    let mut hint = String::from("its last lines:");
    for late in late {
        for line in supervisor.launcher().tail(late.program) {
            hint.push_str(&format!("\n    {}: {}", late.program, line.trim_end()));
        }
    }
    Failure::new(FaultCode::Timeout, message).hint(hint)
}

fn cannot(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(FaultCode::Internal, format!("`allod up` can't have {what}: {error}"))
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(FaultCode::Internal, format!("{what} failed: {error}"))
}
