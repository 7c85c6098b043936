//! `allod gate`: what sshd runs for a caller's key, whatever was asked of it, and how root asks the same door on the machine.
//! It has no privilege and decides nothing: it passes on what sshd told, and what the command prints.

mod doctor;
mod forced;
mod install;
mod keys_file;
mod place;
mod sshd;
mod talk;

use crate::{local_door, recover, sshd_told};
use allod_proto::{Fault, FaultCode, gate::GateAsk, messages::server::FindingLevel, recovery::Login};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Parser, Subcommand};
use forced::Forced;
use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The name by which the program is the login shell of the gate's user.
pub const SHELL: &str = "allod-gate";
/// Where the server's sockets live if nobody says otherwise.
const RUN: &str = "/run/allod";

/// The door of named commands behind sshd: the forced command of a caller's key, and the login shell of the gate's user
#[derive(Debug, Parser)]
#[command(
    name = "allod gate",
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  restrict,command=\"/usr/local/bin/allod gate --caller builder\" ssh-ed25519 AAAA… builder\n  \
    allod gate run deploy-site site=blog"
)]
struct Settings {
    #[command(flatten)]
    place: RunPlace,
    /// The caller that the key's line is for: its key must be the one that logged in
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Where the door is.
#[derive(Debug, Args)]
struct RunPlace {
    /// Where the server's sockets live
    #[arg(long, value_name = "DIR", default_value = RUN)]
    run: PathBuf,
}

/// On this machine, and not on the servers of an inventory.
#[derive(Debug, Args)]
struct Here {
    #[command(flatten)]
    place: RunPlace,
    /// This machine
    #[arg(long, required = true)]
    here: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a named command as root on this machine
    Run {
        #[command(flatten)]
        place: RunPlace,
        /// Its name, then key=value words; `help` lists what there is
        #[arg(required = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Stop all callers of this machine, as root; without --here an owner or operator does it on the servers
    Panic(Here),
    /// Let them in again
    Resume(Here),
    /// Put on this machine what callers need to come through sshd
    Install(install::Install),
    /// Take it back
    Remove(install::Remove),
    /// Look whether a login as the gate's user gets named commands and nothing else
    Doctor {
        #[command(flatten)]
        place: place::Place,
    },
}

/// Runs it with the program's own environment.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let settings: Settings = match local_door::settings(arguments) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match settings.verb {
        None => over_ssh(&settings.place.run, None, settings.caller),
        Some(Verb::Run { place, words }) => on_this_machine(&place, words.join(" ").as_bytes()),
        Some(Verb::Panic(here)) => on_this_machine(&here.place, b"gate.panic"),
        Some(Verb::Resume(here)) => on_this_machine(&here.place, b"gate.resume"),
        Some(Verb::Install(wish)) => ended(install::install(&wish).map(|text| print(&text))),
        Some(Verb::Remove(wish)) => ended(install::remove(&wish).map(|text| print(&text))),
        Some(Verb::Doctor { place }) => {
            let findings = doctor::look(&place);
            let is_bad = findings.iter().any(|finding| finding.level == FindingLevel::Bad);
            let text: String = findings.iter().map(recover::show::finding).collect();
            let printed = print(&text);
            ended(Ok(if is_bad { FaultCode::Unhealthy.exit_code() } else { printed }))
        }
    }
}

fn on_this_machine(place: &RunPlace, request: &[u8]) -> ExitCode {
    ended(ask(Some(request.to_vec()), None).and_then(|ask| talk::run(&place.run, &ask)))
}

/// Runs it as a login shell: sshd calls it with `-c` and what it would have a shell do.
pub fn shell(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = allod_daemon::close_to_inspection();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match arguments.as_slice() {
        [] => over_ssh(Path::new(RUN), None, None),
        [option, text] if option == "-c" => match forced::read(text) {
            Some(Forced { run, caller }) => over_ssh(run.as_deref().unwrap_or(Path::new(RUN)), None, caller),
            None => over_ssh(Path::new(RUN), Some(text), None),
        },
        _ => ended(Err(Fault::new(FaultCode::Invalid, "refused: this is no shell")
            .hint("it is the login shell of callers: `ssh HOST help` lists what a key may run"))),
    }
}

/// What a login asks for: what sshd kept of the request where it ran a forced command instead, else what it gave to the
/// login shell.
fn over_ssh(run: &Path, text: Option<&OsStr>, caller: Option<String>) -> ExitCode {
    let told = sshd_told::told();
    let request = told.original.as_deref().or(text).map(OsStr::as_bytes);
    let told = ask(request.map(<[u8]>::to_vec), caller).map(|ask| GateAsk {
        login: told.login,
        port: told.port,
        certificate: told.certificate,
        ..ask
    });
    ended(told.and_then(|ask| talk::run(run, &ask)))
}

fn ask(request: Option<Vec<u8>>, caller: Option<String>) -> Result<GateAsk, Fault> {
    Ok(GateAsk {
        id: local_door::fresh_id()?,
        request: request.map(|bytes| STANDARD.encode(bytes)),
        caller,
        login: Login::default(),
        certificate: false,
        port: None,
    })
}

/// The exit code of having said it.
fn print(text: &str) -> u8 {
    u8::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

fn ended(outcome: Result<u8, Fault>) -> ExitCode {
    outcome.map_or_else(
        |fault| {
            // Who has hung up needs no answer.
            let _ = std::io::stderr().write_all(talk::shown(&fault).as_bytes());
            ExitCode::from(fault.code.exit_code())
        },
        ExitCode::from,
    )
}
