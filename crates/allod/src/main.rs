//! The one binary. Its first argument says which program it is, or its own name: as a login shell it is the gate. Everything
//! else is the command line that a person types.

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let own = arguments.next();
    #[cfg(target_os = "linux")]
    if own.as_deref().is_some_and(is_the_gate) {
        return allod_cli::gate::shell(arguments);
    }
    let first = arguments.next();
    let is_typed = is_for_servers();
    let named = |program: &str| std::iter::once(OsString::from(format!("allod {program}"))).chain(arguments);
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("agent") => allod_agent::main(named("agent")),
        Some("executor") => allod_executor::main(named("executor")),
        Some("proxy") => allod_proxy::program::main(named("proxy")),
        Some("node") => allod_node::main(named("node")),
        Some("hub") => allod_hub::program::main(named("hub")),
        #[cfg(target_os = "linux")]
        Some("gate") if !is_typed => allod_cli::gate::main(named("gate")),
        #[cfg(target_os = "linux")]
        Some("recover") => allod_cli::recover::main(named("recover")),
        Some("shim") => allod_executor::shim::main(),
        Some("launcher") => allod_executor::shim::launcher::main(),
        _ => allod_cli::main(),
    }
}

/// By the name that a login shell has, which begins with `-` where it is one.
#[cfg(target_os = "linux")]
fn is_the_gate(own: &std::ffi::OsStr) -> bool {
    let name = std::path::Path::new(own).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix('-').unwrap_or(name) == allod_cli::gate::SHELL
}

/// Whether `allod gate` is for the servers of an inventory: callers are stopped and let in again from wherever a person is, and
/// with `--here` by root; the rest of the gate is the server's.
fn is_for_servers() -> bool {
    let words: Vec<OsString> = std::env::args_os().skip(2).collect();
    words.first().is_some_and(|word| word == "panic" || word == "resume")
        && !words.iter().any(|word| word == "--here")
}
