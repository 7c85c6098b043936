//! `allod node`: its flags, and what they mean.

use crate::{
    secret::{self, Found, SecretError, Source},
    settings::{Settings, Way},
};
use allod_daemon::{Clock, CommonFlags, Shutdown, raise_descriptor_limit};
use allod_meshnode::Interfaces;
use allod_proto::node::Forward;
use clap::Parser as _;
use std::{
    error::Error, ffi::OsString, io::Write as _, net::IpAddr, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

/// Own this machine's place on the mesh, and give the other programs listening and connecting over a socket
#[derive(Debug, clap::Parser)]
#[command(name = "allod node", version)]
struct Flags {
    /// The folder that everything lives under; the node's own is node/ in it
    #[arg(long, value_name = "DIR", default_value = "/var/lib/allod")]
    state: PathBuf,
    /// The folder of the socket, node.sock
    #[arg(long, value_name = "DIR", default_value = "/run/allod/node")]
    run: PathBuf,
    /// Join with the token in this file, or on stdin with -; not needed any more once the machine is on the mesh
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["coordinator", "auth_key"])]
    join: Option<PathBuf>,
    /// Join at the coordinator with this URL (Headscale), by https; without a key a person has to let the machine in
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// The key that the coordinator gave, in this file, or on stdin with -
    #[arg(long, value_name = "FILE|-", requires = "coordinator")]
    auth_key: Option<PathBuf>,
    /// The certificate authorities (PEM) that are believed when the coordinator is asked by https, instead of the system's; kept from then on
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// The name to ask for on the mesh; the machine's own without it
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Let the coordinator forget this machine as soon as it is away
    #[arg(long)]
    ephemeral: bool,
    /// Send and hear datagrams on this address only (development: 127.0.0.1)
    #[arg(long, value_name = "ADDRESS")]
    only: Option<IpAddr>,
    /// A user, besides root and the node's own, whose programs may use the socket; may be given several times
    #[arg(long, value_name = "UID")]
    client: Vec<u32>,
    /// End when for so long nobody had a connection
    #[arg(long, value_name = "SECONDS")]
    idle_end: Option<u64>,
    /// Pass a port of the mesh to an address of this machine, such as 22=127.0.0.1:22; may be given several times
    #[arg(long, value_name = "PORT=ADDRESS:PORT")]
    forward: Vec<Forward>,
    #[command(flatten)]
    common: CommonFlags,
}

/// Runs the node until it is told to end. The first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match begin(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn begin(flags: Flags) -> Result<(), Box<dyn Error>> {
    flags.common.begin()?;
    // A client and a forward are a descriptor each, and two at the other end of it.
    let _ = raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?;
    let settings = settings(flags)?;
    let clock = Clock::start();
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        crate::run(settings, Arc::new(move || clock.now()), shutdown).await.map_err(Box::<dyn Error>::from)
    });
    // A blocked disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn settings(flags: Flags) -> Result<Settings, SecretError> {
    let way = way(&flags)?;
    Ok(Settings {
        folder: flags.state.join("node"),
        run: flags.run,
        way,
        authorities: flags.authorities,
        hostname: flags.hostname,
        ephemeral: flags.ephemeral,
        interfaces: flags.only.map_or(Interfaces::System, Interfaces::Only),
        clients: flags.client,
        idle_end: flags.idle_end.map(Duration::from_secs),
        forwards: flags.forward,
    })
}

fn way(flags: &Flags) -> Result<Way, SecretError> {
    if let Some(join) = &flags.join {
        return Ok(match secret::token(&Source::of(join.clone()))? {
            Found::It(token) => Way::Token(token),
            // Its user removes it once the machine is on the mesh; the supervisor's words stay the same.
            Found::Nothing(why) => Way::Missing(why),
        });
    }
    let Some(url) = flags.coordinator.clone() else { return Ok(Way::Back) };
    let key = match &flags.auth_key {
        None => None,
        Some(place) => match secret::line(&Source::of(place.clone()))? {
            Found::It(key) => Some(key),
            Found::Nothing(why) => return Ok(Way::Missing(why)),
        },
    };
    Ok(Way::Coordinator { url, key })
}

fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let _ = writeln!(std::io::stderr(), "allod node: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Flags, clap::Error> {
        Flags::try_parse_from(std::iter::once("allod node").chain(words.iter().copied()))
    }

    #[test]
    fn two_ways_at_once_and_a_key_without_a_coordinator_are_refused() {
        assert!(read(&["--join", "a", "--coordinator", "https://h"]).is_err());
        assert!(read(&["--auth-key", "a"]).is_err());
        assert!(read(&["--forward", "22"]).is_err());
        assert!(read(&["--only", "loopback"]).is_err());
    }

    #[test]
    fn a_token_that_was_removed_after_it_was_used_is_no_mistake() {
        let flags = read(&["--join", "/nowhere/token"]).unwrap();
        assert!(matches!(way(&flags), Ok(Way::Missing(_))));
    }

    #[test]
    fn without_a_word_it_comes_back_and_its_folders_are_the_systems() {
        let settings = settings(read(&[]).unwrap()).unwrap();
        assert!(matches!(settings.way, Way::Back));
        assert_eq!(settings.folder, PathBuf::from("/var/lib/allod/node"));
        assert_eq!(settings.run, PathBuf::from("/run/allod/node"));
        assert_eq!(settings.interfaces, Interfaces::System);
    }
}
