#![doc = include_str!("../README.md")]

mod bench;
mod coordinators;
mod cpu;
mod crowd;
mod farm;
mod interleave;
mod load;
mod machine;
mod peer;
mod process;
mod progress;
mod proxies;
mod report;
mod rows;
mod server;
mod sshd;
mod stop;
mod tunnel;
mod upstream;

use anyhow::{Context as _, Result, bail};
use bench::Bench;
use clap::Parser;
use report::Report;
use rows::{ROWS, Row};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Measures Allod beside its peers, in the same run, as ratios
#[derive(Debug, Parser)]
#[command(name = "allod-bench", version)]
struct Flags {
    /// Rows such as f5; `all`; `list` says which there are
    #[arg(required_unless_present = "serve_coordinator", value_name = "ROW")]
    rows: Vec<String>,
    /// Few and short rounds, to see whether everything works: the figures mean little
    #[arg(long)]
    quick: bool,
    /// Where the results go, one JSON file a row
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// The binary to measure; otherwise the one beside this program
    #[arg(long, value_name = "FILE")]
    allod: Option<PathBuf>,
    /// Serve a coordinator in this folder: the one that is measured, a process of its own
    #[arg(long, value_name = "DIR", hide = true)]
    serve_coordinator: Option<PathBuf>,
}

fn main() -> ExitCode {
    match start(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if stop::is(&error) => {
            let _ =
                writeln!(std::io::stderr(), "allod-bench: stopped; everything that was started has ended");
            ExitCode::from(130)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "allod-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<()> {
    if let Some(folder) = flags.serve_coordinator {
        machine::raise_file_limit()?;
        return coordinators::serve(folder);
    }
    if flags.rows.iter().any(|row| row == "list") {
        let lines: String = ROWS.iter().map(|row| format!("{:4} {}\n", row.name, row.what)).collect();
        return print(&lines);
    }
    let rows = chosen(&flags.rows)?;
    stop::heed_signals()?;
    machine::raise_file_limit()?;
    let bench = Bench::new(flags.allod, flags.quick)?;
    std::fs::create_dir_all(&flags.out).with_context(|| format!("{} can't be made", flags.out.display()))?;
    let mut failed = Vec::new();
    for row in rows {
        match bench.measure(row) {
            Ok(report) => keep(&flags.out, row, &report)?,
            Err(error) if stop::is(&error) => return Err(error),
            Err(error) => {
                bench.progress.say(&format!("{}: NOT MEASURED: {error:#}", row.name));
                failed.push(row.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}

fn keep(folder: &Path, row: &Row, report: &Report) -> Result<()> {
    let file = folder.join(format!("{}.json", row.name));
    std::fs::write(&file, report.to_json()?)
        .with_context(|| format!("{} can't be written", file.display()))?;
    print(&report.to_markdown())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    if names.iter().any(|name| name == "all") {
        return Ok(ROWS.iter().collect());
    }
    let find = |name: &String| match ROWS.iter().find(|row| row.name == name) {
        Some(row) => Ok(row),
        None => bail!("there is no row {name:?}; `list` says which there are"),
    };
    names.iter().map(find).collect()
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("stdout")
}
