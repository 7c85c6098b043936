//! The shim as a program of its own, for the tests: a test binary can't be one.

fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("launcher") => allod_executor::shim::launcher::main(),
        _ => allod_executor::shim::main(),
    }
}
