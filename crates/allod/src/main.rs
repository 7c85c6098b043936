//! The one binary. Its first argument says which program it is; everything else is the command line that a person types.

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    let named = |program: &str| std::iter::once(OsString::from(format!("allod {program}"))).chain(arguments);
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("agent") => allod_agent::main(named("agent")),
        Some("executor") => allod_executor::main(named("executor")),
        Some("proxy") => allod_proxy::program::main(named("proxy")),
        Some("node") => allod_node::main(named("node")),
        Some("hub") => allod_hub::program::main(named("hub")),
        #[cfg(target_os = "linux")]
        Some("recover") => allod_cli::recover::main(named("recover")),
        Some("shim") => allod_executor::shim::main(),
        _ => allod_cli::main(),
    }
}
