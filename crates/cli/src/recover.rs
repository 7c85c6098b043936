//! `allod recover`: what sshd runs for a recovery key, whatever was asked of it. It has no privilege: it reads a few words,
//! asks the executor's recovery door, and shows the answer.

pub(crate) mod show;
mod words;

use crate::{
    local_door,
    sshd_told::{self, Told},
};
use allod_proto::{
    Fault, FaultCode,
    recovery::{self, RecoveryAction, RecoveryAnswer, RecoveryAsk, RecoveryDone},
};
use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use words::{NoAction, Wish};

/// How long the executor may take; checking a long record takes longest.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a key may take to come over standard input.
const INPUT_SECONDS: i64 = 30;

/// What works on a server when nothing else does: the forced command of a recovery key
#[derive(Debug, Parser)]
#[command(
    name = "allod recover",
    after_help = "Example:\n  restrict,command=\"/usr/local/bin/allod recover\" ssh-ed25519 AAAA… recovery"
)]
struct Settings {
    /// Where the server's sockets live
    #[arg(long, value_name = "DIR", default_value = "/run/allod")]
    run: PathBuf,
    /// Let this key enrol an owner, which is all the power there is
    #[arg(long)]
    enrol: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// What to do, when sshd does not say it
    #[arg(value_name = "ACTION")]
    words: Vec<String>,
}

/// Runs it with the program's own environment.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let settings: Settings = match local_door::settings(arguments) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let told = sshd_told::told();
    let outcome = wish(&settings, told.original.as_deref()).and_then(|wish| match wish {
        Wish::Help => Ok(None),
        Wish::Action(action) => ask(&settings, &told, action).map(Some),
        Wish::EnrolFromInput => {
            may_enrol(&settings, told.original.is_some())?;
            ask(&settings, &told, key_from_input()?).map(Some)
        }
    });
    tell(&settings, &outcome)
}

/// What is asked: by sshd, or by the words of whoever runs this here, never by both.
fn wish(settings: &Settings, original: Option<&std::ffi::OsStr>) -> Result<Wish, Fault> {
    let refused = |why: NoAction| {
        Fault::new(FaultCode::Invalid, format!("refused: {why}"))
            .hint(format!("what is allowed:\n{}", words::ALLOWED))
    };
    match original {
        Some(_) if !settings.words.is_empty() => {
            Err(Fault::new(FaultCode::Invalid, "refused: this key's line says already what it does")
                .hint("ask without a command, or change the line on the server"))
        }
        // What is no UTF-8 has a character that is in no word.
        Some(original) => words::parse(&original.to_string_lossy()).map_err(refused),
        None => words::parse(&settings.words.join(" ")).map_err(refused),
    }
}

/// Whoever is on the machine already needs no leave; a key that comes over ssh needs it in its line.
fn may_enrol(settings: &Settings, over_ssh: bool) -> Result<(), Fault> {
    if settings.enrol || !over_ssh {
        return Ok(());
    }
    Err(Fault::new(FaultCode::NotAllowed, "this recovery key may not enrol owners")
        .hint("its line on the server lacks --enrol; root decides that"))
}

fn ask(settings: &Settings, told: &Told, action: RecoveryAction) -> Result<RecoveryDone, Fault> {
    if matches!(action, RecoveryAction::Enrol { .. }) {
        may_enrol(settings, told.original.is_some())?;
    }
    // What sshd says of the login is for the record, which says that it was told so.
    let ask = RecoveryAsk { id: local_door::fresh_id()?, action, login: told.login.clone() };
    exchange(&settings.run.join("recovery/door.sock"), &ask)?
}

/// Asks the recovery door.
///
/// # Errors
/// When it does not answer, or somebody else does.
pub(crate) fn exchange(door: &Path, ask: &RecoveryAsk) -> Result<RecoveryAnswer, Fault> {
    let unreachable = |error: std::io::Error| local_door::unreachable(door, &error);
    let mut stream = local_door::connect(door, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
    let mut line =
        serde_json::to_vec(ask).map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(unreachable)?;
    let mut answer = Vec::new();
    let most = u64::try_from(recovery::LINE).unwrap_or(u64::MAX);
    BufReader::new(stream).take(most).read_until(b'\n', &mut answer).map_err(unreachable)?;
    serde_json::from_slice(&answer).map_err(|_| {
        Fault::new(FaultCode::Unreachable, "the executor's answer can't be read").hint("try again")
    })
}

/// One line, within a time: whoever holds a session open with nothing to say holds no program with it.
fn key_from_input() -> Result<RecoveryAction, Fault> {
    let invalid = |why: String| Fault::new(FaultCode::Invalid, why).hint("`ssh … enrol <key.pub` sends one");
    let input = std::io::stdin();
    let mut text = Vec::new();
    let mut part = [0u8; 1024];
    while !text.contains(&b'\n') && text.len() <= words::LONGEST {
        let wait = Timespec { tv_sec: INPUT_SECONDS, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&wait));
        if !ready.is_ok_and(|ready| ready > 0) {
            return Err(invalid(format!("no key came over standard input within {INPUT_SECONDS} s")));
        }
        let read = rustix::io::read(&input, &mut part)
            .map_err(|error| invalid(format!("standard input: {error}")))?;
        if read == 0 {
            break;
        }
        text.extend(part.iter().take(read));
    }
    let text = String::from_utf8_lossy(&text);
    words::parse_key(&text).map_err(|why| invalid(format!("refused: {why}")))
}

fn tell(settings: &Settings, outcome: &Result<Option<RecoveryDone>, Fault>) -> ExitCode {
    let (text, code) = match outcome {
        Ok(done) if settings.json => (show::json(&serde_json::json!({"ok": true, "result": done})), 0),
        Ok(Some(done)) => (show::done(done), 0),
        Ok(None) => (format!("{}\n", words::ALLOWED), 0),
        Err(fault) if settings.json => {
            (show::json(&serde_json::json!({"ok": false, "fault": fault})), fault.code.exit_code())
        }
        Err(fault) => {
            // Who has hung up needs no answer.
            let _ = std::io::stderr().write_all(show::fault(fault).as_bytes());
            return ExitCode::from(fault.code.exit_code());
        }
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(if written.is_ok() { code } else { 1 })
}
