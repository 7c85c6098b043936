//! From the command line to the command, and from its outcome to the exit code.

use crate::{
    arguments::{Arguments, MeshVerb, NamedVerb, Verb},
    commands::{
        app, audit, can, commands, completions, connect, deploy, doctor, forward, gate, init, join, keys,
        leave, login, logout, logs, mesh, ops, releases, restart, rollback, run, runs, scale, secrets, serve,
        servers, socks, start, status, stop,
    },
    failure::Failure,
    output::{Output, Surroundings},
    session::Session,
    settings::Settings,
};
use allod_proto::FaultCode;
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use clap_complete::env::CompleteEnv;
use std::{
    ffi::{OsStr, OsString},
    process::ExitCode,
    sync::Arc,
};

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    // Keys and passphrases will pass through. A system that can't do it is none that we know of, and no reason to stop.
    let _ = allod_daemon::close_to_inspection();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let folder = std::env::current_dir().ok();
    let complete = CompleteEnv::with_factory(Arguments::command).var(completions::VARIABLE);
    match complete.try_complete(arguments.iter().cloned(), folder.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => run(arguments),
        Err(error) => explain(&error, &arguments),
    }
}

/// Runs a command line, the program's name first.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return explain(&error, &arguments),
    };
    let settings = Settings::from_environment();
    let (no_color, ci) =
        settings.as_ref().map_or((false, false), |settings| (settings.no_color, settings.ci));
    let surroundings = Surroundings::look(no_color || parsed.globals.no_color, ci);
    let output = Arc::new(Output::standard(parsed.globals.json, surroundings));
    let outcome = settings.map_err(Failure::from).and_then(|settings| {
        let session = Session::new(settings, parsed.globals, Arc::clone(&output));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))?;
        let outcome = runtime.block_on(dispatch(&session, parsed.command));
        // A key that waits for a finger must not keep the program.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

/// Runs one command.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn dispatch(session: &Session, command: Verb) -> Result<(), Failure> {
    match command {
        Verb::Init(init) => init::run(session, &init),
        Verb::Deploy(deploy) => deploy::run(session, deploy).await,
        Verb::Status(status) => status::run(session, status).await,
        Verb::Logs(logs) => logs::run(session, logs).await,
        Verb::Rollback(rollback) => rollback::run(session, rollback).await,
        Verb::Releases(releases) => releases::run(session, releases).await,
        Verb::Scale(scale) => scale::run(session, scale).await,
        Verb::Start(start) => start::run(session, start).await,
        Verb::Stop(stop) => stop::run(session, stop).await,
        Verb::Restart(restart) => restart::run(session, restart).await,
        Verb::Secrets(secrets) => secrets::run(session, secrets).await,
        Verb::App(app) => app::run(session, app).await,
        Verb::Servers(servers) => servers::run(session, servers).await,
        Verb::Keys(keys) => keys::run(session, keys).await,
        Verb::Can(can) => can::run(session, can).await,
        Verb::Named(verb) => dispatch_named(session, verb).await,
        Verb::Login(login) => login::run(session, login).await,
        Verb::Logout(logout) => logout::run(session, &logout),
        Verb::Audit(audit) => audit::run(session, audit).await,
        Verb::Ops(ops) => ops::run(session, ops).await,
        Verb::OnMesh(verb) => dispatch_mesh(session, verb).await,
        Verb::Doctor(doctor) => doctor::run(session, doctor).await,
        Verb::Completions(completions) => completions::run(session, &completions),
        #[cfg(target_os = "linux")]
        Verb::Up(up) => crate::up::run(session, up).await,
        #[cfg(unix)]
        Verb::ExampleApp(flags) => crate::example::run(flags).await,
    }
}

/// Runs one of the commands about named commands.
async fn dispatch_named(session: &Session, command: NamedVerb) -> Result<(), Failure> {
    match command {
        NamedVerb::Run(run) => run::run(session, run).await,
        NamedVerb::Runs(runs) => runs::run(session, runs).await,
        NamedVerb::Commands(commands) => commands::run(session, commands).await,
        NamedVerb::Gate(gate) => gate::run(session, gate).await,
    }
}

/// Runs one of the commands about the mesh.
async fn dispatch_mesh(session: &Session, command: MeshVerb) -> Result<(), Failure> {
    match command {
        MeshVerb::Join(join) => join::run(session, join).await,
        MeshVerb::Leave(leave) => leave::run(session, leave).await,
        MeshVerb::Mesh(mesh) => mesh::run(session, mesh).await,
        MeshVerb::Connect(connect) => connect::run(session, connect).await,
        MeshVerb::Forward(forward) => forward::run(session, forward).await,
        MeshVerb::Socks(socks) => socks::run(session, socks).await,
        MeshVerb::Serve(serve) => serve::run(session, serve).await,
    }
}

/// Help and version go to stdout and end well; what makes no sense ends with exit code 2, as JSON if that was asked.
fn explain(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let wants_json =
        arguments.iter().take_while(|word| *word != OsStr::new("--")).any(|word| word == "--json");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // There is nobody to tell when stdout is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ if wants_json => {
            let output = Output::standard(true, Surroundings::default());
            output.failure(&usage(error));
            ExitCode::from(FaultCode::Invalid.exit_code())
        }
        _ => {
            let _ = error.print();
            ExitCode::from(FaultCode::Invalid.exit_code())
        }
    }
}

/// What clap has to say as a fault: its first line, and the rest as the hint.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.trim().trim_start_matches("error: ");
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let failure = Failure::usage(message.split_whitespace().collect::<Vec<_>>().join(" "));
    if rest.is_empty() {
        failure
    } else {
        failure.hint(rest.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests;
