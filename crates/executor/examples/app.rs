//! An app for the tests. Its argument says what it does: `listen`, `ready`, `dump`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an app prints, and reads its own environment"
)]

use std::{
    fmt::Write as _,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::ExitCode,
};

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("listen") => listen(),
        Some("ready") => ready(),
        Some("dump") => dump(),
        _ => None,
    };
    if done.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Listens where it was told to, says that it is ready, and waits for its end.
fn listen() -> Option<()> {
    let place = format!("{}:{}", std::env::var("HOST").ok()?, std::env::var("PORT").ok()?);
    let listener = TcpListener::bind(place).ok()?;
    ready()?;
    while listener.accept().is_ok() {}
    Some(())
}

fn ready() -> Option<()> {
    let name = std::env::var("NOTIFY_SOCKET").ok()?;
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@')?).ok()?;
    let socket = UnixDatagram::unbound().ok()?;
    socket.send_to_addr(b"STATUS=up\nREADY=1\n", &address).ok()?;
    Some(())
}

/// Prints its environment, its descriptors, and what is on the one with the secrets.
fn dump() -> Option<()> {
    for (name, value) in std::env::vars_os() {
        println!("env {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    let mut found: Vec<_> = std::fs::read_dir("/proc/self/fd").ok()?.filter_map(Result::ok).collect();
    found.sort_by_key(std::fs::DirEntry::file_name);
    for entry in found {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        println!("fd {} {}", entry.file_name().to_string_lossy(), target.display());
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    for line in status.lines().filter(|line| {
        line.starts_with("NoNewPrivs") || line.starts_with("Groups") || line.starts_with("Uid")
    }) {
        println!("status {}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Ok(descriptor) = std::env::var("ALLOD_SECRETS_FD") {
        let bytes = std::fs::read(format!("/proc/self/fd/{descriptor}")).ok()?;
        let mut hex = String::new();
        bytes.iter().try_for_each(|byte| write!(hex, "{byte:02x}")).ok()?;
        println!("secrets {hex}");
    }
    Some(())
}
