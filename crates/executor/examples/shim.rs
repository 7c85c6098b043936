//! The shim as a program of its own, for the tests: a test binary can't be one.

fn main() -> std::process::ExitCode {
    allod_executor::shim::main()
}
