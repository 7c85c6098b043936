//! F5: the proxy over HTTP/1.1, connections kept alive. The proxies have one processor, load and upstream the other.
//! Where other work shares the machine, processor time per request is the figure to trust.

use super::Row;
use crate::{
    bench::Bench,
    cpu,
    interleave::{Contender, Sample, Samples, interleave},
    load::wrk,
    machine,
    peer::Peer,
    proxies::{self, Proxy, Setting},
    report::{Better, Figure, Goal, Report},
    upstream::{FILES, Upstream},
};
use anyhow::{Result, bail};
use std::time::Duration;

pub(crate) const ROW: Row = Row {
    name: "f5",
    what: "proxy, HTTP/1.1 keep-alive, 1 KiB and 100 KiB",
    goal: "req/s and p99 as good as the best of nginx, HAProxy, kamal-proxy, Caddy",
    run,
};

/// Where the proxies run, and where load and upstream do.
pub(super) const PROXY: usize = 0;
pub(super) const LOAD: usize = 1;

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    if machine::cores() < 2 {
        bail!("two processors are needed: one for the proxies, one for the load");
    }
    let load = bench.tool(report, "wrk", &["-v"])?;
    let nginx = bench.tool(report, "nginx", &["-v"])?;
    let upstream = Upstream::start(bench, &nginx, LOAD)?;
    let setting = Setting { bench, upstream: upstream.port, processor: PROXY, tls: None };
    let candidates = proxies::candidates(bench, report);
    let mut proxies = candidates.iter().map(|one| one.start(&setting)).collect::<Result<Vec<_>>>()?;
    for (path, _) in FILES {
        for connections in [1, 64, 256] {
            let what = format!("{} KiB, {connections} connections", path.trim_matches(['/', 'k']));
            let samples = measure(bench, report, &load, &mut proxies, path, connections, &what)?;
            add(report, &what, &samples);
        }
    }
    ceiling(bench, report, &load, &upstream)
}

fn measure(
    bench: &Bench,
    report: &mut Report,
    load: &Peer,
    proxies: &mut [Proxy],
    path: &str,
    connections: usize,
    what: &str,
) -> Result<Samples> {
    let how_long = Duration::from_secs(bench.much(3, 1));
    let turn = |proxy: &mut Proxy| -> Result<Sample> {
        proxy.running.check()?;
        let url = format!("http://127.0.0.1:{}{path}", proxy.port);
        let pids = proxy.running.tree();
        let before = cpu::used(&pids);
        let counted = wrk(load, LOAD, &url, connections, how_long)?;
        let used = cpu::used(&pids).saturating_sub(before);
        Ok(Sample::from([
            ("rate", counted.per_second),
            ("p50", counted.p50_ms),
            ("p99", counted.p99_ms),
            ("cpu", used.as_secs_f64() * 1e6 / counted.requests),
            ("memory", mebibytes(cpu::memory(&pids))),
        ]))
    };
    let turn = &turn;
    let contenders =
        proxies.iter_mut().map(|proxy| Contender::new(proxy.name, move || turn(proxy))).collect();
    interleave(&bench.progress, report, &format!("f5: {what}"), bench.rounds(5), contenders)
}

/// The figures of one setting.
pub(super) fn add(report: &mut Report, what: &str, samples: &Samples) {
    let goal = Some(Goal::Ratio(1.0));
    let mut figure = |name: &str, metric: &str, unit, better, goal| {
        let series = samples.series(metric);
        report.add(Figure::compare(format!("{what}: {name}"), unit, better, &series, goal));
    };
    figure("rate", "rate", "req/s", Better::Higher, goal);
    figure("p99", "p99", "ms", Better::Lower, goal);
    figure("p50", "p50", "ms", Better::Lower, None);
    figure("processor time of the proxy", "cpu", "µs/request", Better::Lower, goal);
    figure("memory of the proxy", "memory", "MiB", Better::Lower, None);
}

/// What load and upstream do on their own: a rate close to it says nothing about a proxy.
fn ceiling(bench: &Bench, report: &mut Report, load: &Peer, upstream: &Upstream) -> Result<()> {
    for (path, _) in FILES {
        let url = format!("http://127.0.0.1:{}{path}", upstream.port);
        let counted = wrk(load, LOAD, &url, 64, Duration::from_secs(bench.much(3, 1)))?;
        report.note(format!(
            "Without a proxy, load and upstream on their one processor make {:.0} req/s of {path} over 64 connections.",
            counted.per_second
        ));
    }
    report.note("kamal-proxy always writes its access log; here it goes nowhere that is kept.");
    Ok(())
}

/// Bytes in MiB.
pub(super) fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}
