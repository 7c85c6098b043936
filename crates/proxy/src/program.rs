//! `allod proxy`: flags, the listeners that were handed over or are bound here, and the end on a signal.

use crate::{
    Cidr, Limits, Order, RunError, Settings,
    hand_over::{self, Listeners},
    run,
};
use allod_daemon::{BeginError, Clock, CommonFlags, Shutdown};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    error::Error,
    ffi::OsString,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Open files that are no connections: logs, sockets, listeners, files of static sites.
const OTHER_FILES: u64 = 200;

/// The program that answers visitors
#[derive(Debug, Parser)]
#[command(name = "allod proxy", version)]
struct Flags {
    /// The table of routes, which the agent writes
    #[arg(long, value_name = "FILE")]
    routes: PathBuf,
    /// Where the control socket is bound
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    /// A listener, or a socket with several, was handed over as standard input: a restart then refuses no connection
    #[arg(long)]
    listen_stdin: bool,
    /// Listen here; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present_any = ["listen_stdin", "tls_listen"])]
    listen: Vec<SocketAddr>,
    /// Listen here for TLS; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", requires = "certificates")]
    tls_listen: Vec<SocketAddr>,
    /// The folder of certificates: NAME.pem with the chain, NAME.key; read again at SIGHUP
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,
    /// Send who comes without TLS to https, at this port
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "443", requires = "certificates")]
    redirect_to_https: Option<u16>,
    /// Where the access log goes
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// A peer, or a range of them, whose forwarded headers are believed; may be given several times
    #[arg(long, value_name = "ADDRESS[/PREFIX]")]
    trusted_hop: Vec<Cidr>,
    /// Every connection begins with a PROXY protocol header
    #[arg(long, requires = "trusted_hop")]
    proxy_protocol: bool,
    /// How long requests may go on when the program is told to end
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    end_within: u64,
    /// How long connections may go on after SIGQUIT, which says that another proxy accepts now
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    retire_within: u64,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, thiserror::Error)]
enum ProgramError {
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the runtime or its signals can't be had")]
    Runtime(#[source] io::Error),
    #[error("standard input is no listener and brings none")]
    HandedOver(#[source] io::Error),
    #[error("can't listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// Runs the proxy until it is told to end. The first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "allod proxy: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<(), ProgramError> {
    flags.common.begin()?;
    let Listeners { http, https } = listeners(&flags)?;
    // The workers have runtimes of their own; this one accepts and answers the control socket.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ProgramError::Runtime)?;
    let limits = Limits {
        connections: connections_within(raise_open_files()),
        shutdown: Duration::from_secs(flags.end_within),
        retire: Duration::from_secs(flags.retire_within),
        ..Limits::default()
    };
    let settings = Settings {
        routes: flags.routes,
        control: flags.control,
        listeners: http,
        tls_listeners: https,
        certificates: flags.certificates,
        https_redirect: flags.redirect_to_https,
        access_log: flags.access_log,
        trusted_hops: flags.trusted_hop,
        proxy_protocol: flags.proxy_protocol,
        limits,
        clock: Clock::start(),
    };
    runtime.block_on(async {
        let orders = orders_by_signal().map_err(ProgramError::Runtime)?;
        Ok(run(settings, orders).await?)
    })
}

/// Allows itself as many open files as it may have, and says how many these are.
fn raise_open_files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the bound on open files can't be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many clients may be connected, so that files never run out on the way to an instance: a client takes one, its
/// instance two.
fn connections_within(open_files: u64) -> usize {
    let most = Limits::default().connections;
    let fit = usize::try_from(open_files.saturating_sub(OTHER_FILES) / 3).unwrap_or(usize::MAX);
    if fit < most {
        tracing::warn!(open_files, connections = fit, "fewer clients than usual may connect at one time");
    }
    most.min(fit.max(1))
}

/// SIGTERM and SIGINT stop, SIGQUIT retires, SIGHUP reads the certificates again.
fn orders_by_signal() -> io::Result<mpsc::UnboundedReceiver<Order>> {
    let (give, orders) = mpsc::unbounded_channel();
    for (kind, order) in [(SignalKind::hangup(), Order::Certificates), (SignalKind::quit(), Order::Retire)] {
        let (mut signals, give) = (signal(kind)?, give.clone());
        tokio::spawn(async move { while signals.recv().await.is_some() && give.send(order).is_ok() {} });
    }
    let shutdown = Shutdown::on_signals()?;
    tokio::spawn(async move {
        shutdown.requested().await;
        // Who has ended already needs no order.
        give.send(Order::Stop).is_ok()
    });
    Ok(orders)
}

fn listeners(flags: &Flags) -> Result<Listeners, ProgramError> {
    let mut listeners = Listeners::default();
    if flags.listen_stdin {
        let given = io::stdin().as_fd().try_clone_to_owned().map_err(ProgramError::HandedOver)?;
        listeners = hand_over::unpack(given).map_err(ProgramError::HandedOver)?;
    }
    let bind = |address: &SocketAddr| {
        TcpListener::bind(address).map_err(|source| ProgramError::Listen { address: *address, source })
    };
    for address in &flags.listen {
        listeners.http.push(bind(address)?);
    }
    for address in &flags.tls_listen {
        listeners.https.push(bind(address)?);
    }
    Ok(listeners)
}

fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str]) -> Result<Flags, clap::Error> {
        let all = ["allod proxy", "--routes", "r", "--control", "c"].iter().chain(flags);
        Flags::try_parse_from(all)
    }

    #[test]
    fn a_proxy_without_a_listener_or_that_believes_anybody_is_refused() {
        assert!(read(&[]).is_err());
        assert!(read(&["--listen", "127.0.0.1:0", "--proxy-protocol"]).is_err());
        assert!(read(&["--listen", "localhost"]).is_err());
        assert!(read(&["--tls-listen", "127.0.0.1:0"]).is_err(), "TLS without certificates");
    }

    #[test]
    fn clients_never_use_up_the_files_that_instances_need() {
        assert_eq!(connections_within(1_024), 274);
        assert_eq!(connections_within(0), 1);
        assert_eq!(connections_within(u64::MAX), Limits::default().connections);
    }

    #[test]
    fn a_listener_may_be_handed_over_or_bound_or_both() {
        assert!(read(&["--listen-stdin"]).unwrap().listen_stdin);
        let flags = read(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]).unwrap();
        assert_eq!(listeners(&flags).unwrap().http.len(), 2);
    }
}
