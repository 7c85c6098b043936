//! What a figure was measured on. Load is taken before and after: other work on the machine shows there.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::fs;

/// One machine at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    processor: String,
    pub(crate) cores: usize,
    memory_mib: u64,
    load_before: String,
    load_after: String,
    measured_at_unix_seconds: u64,
}

impl Machine {
    pub(crate) fn look() -> Self {
        Self {
            kernel: first_line("/proc/sys/kernel/osrelease"),
            processor: field("/proc/cpuinfo", "model name"),
            cores: cores(),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .split(' ')
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            load_before: load(),
            load_after: String::new(),
            measured_at_unix_seconds: now(),
        }
    }

    pub(crate) fn look_again(&mut self) {
        self.load_after = load();
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, {} MiB, Linux {}; load {} before, {} after",
            self.processor, self.cores, self.memory_mib, self.kernel, self.load_before, self.load_after
        )
    }
}

/// How many processors this program may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a result says when it was measured")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn load() -> String {
    first_line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn first_line(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// Thousands of connections take as many descriptors, in the programs that are started too: they inherit the limit.
pub(crate) fn raise_file_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("the limit of open files")
}
