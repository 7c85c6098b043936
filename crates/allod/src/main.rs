//! The one binary. Which program it is depends on its first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    allod_cli::main()
}
