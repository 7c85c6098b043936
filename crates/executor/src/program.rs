//! The program: settings, start, and the end on a signal.

use crate::{
    Executor,
    gate::{self, keys_file::KeysFile},
    groups::Base,
    isolation::Isolation,
    layout::Layout,
    named, recovery,
    server::{self, Access},
};
use allod_daemon::{CommonFlags, Shutdown};
use clap::Parser;
use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

/// How often the wall clock is looked at.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// The program that has privilege and no network: it holds keys, releases, secrets and the record.
#[derive(Debug, Parser)]
#[command(name = "allod executor")]
pub struct Settings {
    /// Where all state lives
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where sockets live
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Take connections of the agent, as descriptors, from the control socket on standard input
    #[arg(long, conflicts_with = "listen")]
    pub control_stdin: bool,
    /// Listen on this Unix socket instead; only root and the agent's user may open it
    #[arg(long, value_name = "PATH")]
    pub listen: Option<PathBuf>,
    /// Give each app a uid of its own, from this one on (needs root)
    #[arg(long, value_name = "UID", requires_all = ["agent_uid", "proxy_uid"])]
    pub uids: Option<u32>,
    /// The agent's uid
    #[arg(long, value_name = "UID")]
    pub agent_uid: Option<u32>,
    /// The recovery user's uid: who may open the recovery door below --run, besides root
    #[arg(long, value_name = "UID")]
    pub recovery_uid: Option<u32>,
    /// Where root declares named commands; commands.d below --state if not given
    #[arg(long, value_name = "DIR")]
    pub commands: Option<PathBuf>,
    /// The gate's uid: who may open the door of named commands below --run, besides root
    #[arg(long, value_name = "UID")]
    pub gate_uid: Option<u32>,
    /// Where control groups for runs and apps are made: own, none, or a path as in /proc/self/cgroup
    #[arg(long, value_name = "GROUP", default_value = "own")]
    pub groups: Base,
    /// The proxy's uid
    #[arg(long, value_name = "UID")]
    pub proxy_uid: Option<u32>,
    /// Stop every instance when the program is told to end
    #[arg(long)]
    pub stop_apps_at_exit: bool,
    /// A line in `authorized_keys` format, enrolled only while there is no key file
    #[arg(long, value_name = "FILE")]
    pub first_owner: Option<PathBuf>,
    #[command(flatten)]
    common: CommonFlags,
}

/// Runs the executor until it is told to end.
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
            tracing::error!("the executor can't run: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(settings: Settings) -> Result<(), String> {
    settings.common.begin().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> Result<(), String> {
    let shutdown = Shutdown::on_signals().map_err(|error| format!("signals: {error}"))?;
    let layout = Layout::new(&settings.state, &settings.run);
    let layout = match &settings.commands {
        Some(commands) => layout.with_commands(commands),
        None => layout,
    };
    let isolation = match (settings.uids, settings.agent_uid, settings.proxy_uid) {
        (Some(base), Some(agent), Some(proxy)) => Isolation::OwnUids { base, agent, proxy },
        _ => Isolation::SameUser,
    };
    let first_owner = settings
        .first_owner
        .as_ref()
        .map(|path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display())))
        .transpose()?;
    let executor = Executor::open(layout, isolation, &settings.groups, first_owner.as_deref()).await?;
    let access = Access { agent_uid: settings.agent_uid };
    tracing::info!(identity = %executor.identity(), "the executor is ready");
    let serving = serve(Arc::clone(&executor), &settings, access);
    tokio::select! {
        ended = serving => ended?,
        () = shutdown.requested() => tracing::info!("told to end"),
        () = named::watch(&executor) => {}
        () = recovering(&executor, settings.recovery_uid) => {
            executor.close(false).await;
            return Err("asked through the recovery door: beginning anew".to_owned());
        }
        () = serve_gate(&executor, settings.gate_uid) => {}
        by = clock_was_set(&executor) => {
            // Not in order: apps run on, and the next life takes the wall clock's word and gives the agent a new epoch.
            return Err(format!("the wall clock was set, by {} s: beginning anew with it", by.as_secs()));
        }
    }
    executor.close(settings.stop_apps_at_exit).await;
    Ok(())
}

/// Resolves when the wall clock and ours have parted: somebody set it, or it was wrong at start and has been corrected.
async fn clock_was_set(executor: &Executor) -> Duration {
    loop {
        tokio::time::sleep(CLOCK_EVERY).await;
        if let Some(by) = executor.clock_stepped() {
            return by;
        }
    }
}

/// Resolves when somebody recovers the server by a new beginning. Without its door the executor still serves.
async fn recovering(executor: &Arc<Executor>, user: Option<u32>) {
    match recovery::open(executor, user) {
        Ok(door) => recovery::serve(Arc::clone(executor), door, user).await,
        Err(why) => {
            tracing::error!(why, "THERE IS NO RECOVERY DOOR");
            std::future::pending::<()>().await;
        }
    }
}

/// Serves whoever comes through sshd, and root on the machine. Without this door the executor still serves.
async fn serve_gate(executor: &Arc<Executor>, user: Option<u32>) {
    if user.is_some() {
        match std::env::current_exe() {
            Ok(program) => executor.keys().keep_for_sshd(KeysFile::of(executor.layout(), &program)),
            Err(error) => tracing::error!(%error, "the keys for sshd are not kept: this program's own file"),
        }
    }
    match gate::open(executor, user) {
        Ok(door) => gate::serve(Arc::clone(executor), door, user).await,
        Err(why) => {
            tracing::error!(why, "THERE IS NO GATE");
            std::future::pending::<()>().await;
        }
    }
}

async fn serve(executor: Arc<Executor>, settings: &Settings, access: Access) -> Result<(), String> {
    match &settings.listen {
        Some(path) => server::listen(executor, path, access).await,
        None if settings.control_stdin => server::take_from_stdin(executor).await,
        None => Err("give --control-stdin or --listen PATH".to_owned()),
    }
}
