//! The load on a proxy: `wrk` and `h2load`, run once, and what they say read from their text. An answer that is not the
//! expected one fails the run: a proxy that errs quickly must not look fast.

use crate::{
    peer::Peer,
    process::{output, pinned},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

/// What a load generator counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counted {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Keeps so many connections busy with GET for this long, each with one request at a time.
pub(crate) fn wrk(
    program: &Peer,
    processor: usize,
    url: &str,
    connections: usize,
    how_long: Duration,
) -> Result<Counted> {
    let mut command = pinned(&program.program, processor);
    command.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{}s", how_long.as_secs())]);
    command.args(["--latency", "--timeout", "30s", url]);
    let said = output("wrk", command)?;
    read_wrk(&said).with_context(|| format!("wrk said: {said}"))
}

fn read_wrk(text: &str) -> Result<Counted> {
    for line in text.lines().map(str::trim) {
        ensure!(!line.starts_with("Non-2xx"), "not every answer was a good one: {line}");
        ensure!(!line.starts_with("Socket errors"), "connections failed: {line}");
    }
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    let requests =
        text.lines().find_map(|line| line.trim().split_once(" requests in ")).context("no count")?.0;
    let requests: f64 = requests.parse()?;
    ensure!(requests > 0.0, "not one answer came");
    Ok(Counted {
        requests,
        per_second: after("Requests/sec:").context("no rate")?.parse()?,
        p50_ms: milliseconds(after("50%").context("no median")?)?,
        p99_ms: milliseconds(after("99%").context("no p99")?)?,
    })
}

/// `12.3us`, `1.2ms`, `3s`, `1.50m`.
fn milliseconds(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.strip_prefix(digits) {
        Some("us") => 0.001,
        Some("ms") => 1.0,
        Some("s") => 1_000.0,
        Some("m") => 60_000.0,
        _ => bail!("no time: {text:?}"),
    };
    Ok(digits.parse::<f64>()? * scale)
}

/// How `h2load` speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Http1,
    /// With so many requests at a time on each connection.
    Http2(u32),
}

/// So many requests in all, spread over so many connections over TLS. `log` is a file for `h2load`'s own log, from
/// which the percentiles are taken.
pub(crate) fn h2load(
    program: &Peer,
    processor: usize,
    url: &str,
    speech: Speech,
    connections: usize,
    requests: usize,
    log: &std::path::Path,
) -> Result<Counted> {
    let mut command = pinned(&program.program, processor);
    command.args(["-t", "1", "-c", &connections.to_string(), "-n", &requests.to_string()]);
    match speech {
        Speech::Http1 => command.arg("--h1"),
        Speech::Http2(streams) => command.args(["-m", &streams.to_string()]),
    };
    if log.exists() {
        std::fs::remove_file(log)?;
    }
    command.arg("--log-file").arg(log).arg(url);
    let said = output("h2load", command)?;
    let lines = std::fs::read_to_string(log).context("h2load's log")?;
    read_h2load(&said, &lines, requests).with_context(|| format!("h2load said: {said}"))
}

fn read_h2load(text: &str, log: &str, requests: usize) -> Result<Counted> {
    ensure!(text.contains(&format!(" {requests} succeeded")), "not every answer was a good one");
    let rate = text.lines().find(|line| line.starts_with("finished in")).context("no rate")?;
    let per_second =
        rate.split(", ").nth(1).and_then(|part| part.strip_suffix(" req/s")).context("no rate")?;
    // Start, status, microseconds.
    let mut times: Vec<f64> = log
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.trim().parse::<f64>().ok())
        .map(|microseconds| microseconds / 1000.0)
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    Ok(Counted {
        requests: f64::from(u32::try_from(requests)?),
        per_second: per_second.parse()?,
        p50_ms: *at(50).context("an empty log")?,
        p99_ms: *at(99).context("an empty log")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 1s test @ http://127.0.0.1:1/1k\n  1 threads and 64 connections\n  Thread Stats   Avg\n    \
        Latency     1.00ms\n  Latency Distribution\n     50%  900.00us\n     75%    1.10ms\n     90%    1.20ms\n     \
        99%    2.50ms\n  50123 requests in 1.00s, 60.00MB read\nRequests/sec:  50100.25\nTransfer/sec:     60.00MB\n";

    #[test]
    fn answers_that_failed_are_no_measurement() {
        assert!(read_wrk(&format!("{WRK}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(read_wrk(&format!("{WRK}  Socket errors: connect 0, read 3, write 0, timeout 0\n")).is_err());
        assert!(read_wrk(&WRK.replace("50123 requests", "0 requests")).is_err());
        assert!(read_wrk("").is_err());
        let failed =
            "finished in 1.00s, 100.00 req/s, 1MB/s\nrequests: 100 total, 100 done, 99 succeeded, 1 failed";
        assert!(read_h2load(failed, "1\t200\t10\n", 100).is_err());
    }

    #[test]
    fn what_wrk_says_is_read() {
        let counted = Counted { requests: 50123.0, per_second: 50100.25, p50_ms: 0.9, p99_ms: 2.5 };
        assert_eq!(read_wrk(WRK).unwrap(), counted);
    }

    #[test]
    fn what_h2load_says_is_read() {
        let said = "finished in 500.00ms, 200.50 req/s, 1MB/s\nrequests: 100 total, 100 started, 100 done, 100 succeeded, \
                    0 failed, 0 errored, 0 timeout";
        let log: String = (1..=100).map(|n| format!("1700000000\t200\t{}\n", n * 1000)).collect();
        let counted = read_h2load(said, &log, 100).unwrap();
        assert_eq!((counted.per_second, counted.p50_ms, counted.p99_ms), (200.5, 51.0, 100.0));
    }
}
