//! F6: the proxy over TLS 1.3, HTTP/1.1 and HTTP/2, up to 5000 connections. Each turn starts its proxy afresh: what an
//! allocator kept from the turn before would hide what a connection costs.

use super::{
    Row,
    f5::{self, LOAD, PROXY},
};
use crate::{
    bench::Bench,
    cpu,
    interleave::{Contender, Sample, interleave},
    load::{Speech, h2load},
    machine,
    peer::Peer,
    proxies::{self, Candidate, Certificate, Setting},
    report::{Better, Figure, Goal, Report},
    stop,
    upstream::Upstream,
};
use anyhow::{Result, bail};
use std::{thread, time::Duration};

pub(crate) const ROW: Row = Row {
    name: "f6",
    what: "proxy, TLS 1.3, HTTP/1.1 and HTTP/2, 1 KiB, 100 to 5000 connections",
    goal: "req/s and p99 as good as the best of nginx, HAProxy, kamal-proxy, Caddy; memory of a connection as HAProxy's",
    run,
};

/// One load: how spoken, over how many connections, how many requests in all.
#[derive(Clone, Copy)]
struct Load {
    speech: Speech,
    connections: usize,
    requests: usize,
}

const LOADS: [Load; 7] = [
    Load { speech: Speech::Http1, connections: 100, requests: 50_000 },
    Load { speech: Speech::Http1, connections: 1_000, requests: 50_000 },
    Load { speech: Speech::Http1, connections: 5_000, requests: 50_000 },
    Load { speech: Speech::Http2(10), connections: 100, requests: 50_000 },
    Load { speech: Speech::Http2(1), connections: 1_000, requests: 50_000 },
    Load { speech: Speech::Http2(1), connections: 5_000, requests: 50_000 },
    // One request on each: what a handshake costs.
    Load { speech: Speech::Http1, connections: 1_000, requests: 1_000 },
];

impl Load {
    fn what(&self) -> String {
        let speech = match self.speech {
            Speech::Http1 => "h1".to_owned(),
            Speech::Http2(1) => "h2".to_owned(),
            Speech::Http2(streams) => format!("h2 with {streams} streams"),
        };
        match self.requests == self.connections {
            true => format!("{speech}, one request on each of {} connections", self.connections),
            false => format!("{speech}, {} connections", self.connections),
        }
    }
}

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    if machine::cores() < 2 {
        bail!("two processors are needed: one for the proxies, one for the load");
    }
    let load = bench.tool(report, "h2load", &["--version"])?;
    let openssl = bench.tool(report, "openssl", &["version"])?;
    let nginx = bench.tool(report, "nginx", &["-v"])?;
    let upstream = Upstream::start(bench, &nginx, LOAD)?;
    let tls = Some(Certificate::make(bench, &openssl)?);
    let setting = Setting { bench, upstream: upstream.port, processor: PROXY, tls };
    let candidates = proxies::candidates(bench, report);
    for one in LOADS {
        let requests = bench.much(one.requests, one.requests.min(one.connections * 2));
        let one = Load { requests, ..one };
        let (setting, load) = (&setting, &load);
        let contenders = candidates
            .iter()
            .map(|candidate| Contender::new(candidate.name, move || turn(setting, candidate, load, one)))
            .collect();
        let samples =
            interleave(&bench.progress, report, &format!("f6: {}", one.what()), bench.rounds(3), contenders)?;
        f5::add(report, &one.what(), &samples);
        let (memory, name) =
            (samples.series("connection"), format!("{}: memory of a connection", one.what()));
        report.add(Figure::compare(name, "KiB", Better::Lower, &memory, Some(Goal::Ratio(1.0))));
    }
    report.note("Rates and processor time include the handshakes. `connection` is the growth of the proxy's memory over its idle one, divided by the connections.");
    Ok(())
}

fn turn(setting: &Setting<'_>, candidate: &Candidate, program: &Peer, load: Load) -> Result<Sample> {
    let mut proxy = candidate.start(setting)?;
    let log = setting.bench.folder("h2load")?.join("log");
    let url = format!("https://localhost:{}/1k", proxy.port);
    // Buffers and tickets that exist once are made by the first visitor.
    h2load(program, LOAD, &url, load.speech, 1, 20, &log)?;
    let pids = proxy.running.tree();
    let (idle, before) = (cpu::memory(&pids), cpu::used(&pids));
    let (counted, peak) = thread::scope(|scope| {
        let loading =
            scope.spawn(|| h2load(program, LOAD, &url, load.speech, load.connections, load.requests, &log));
        let mut peak = idle;
        while !loading.is_finished() {
            thread::sleep(stop::TICK * 10);
            peak = peak.max(cpu::memory(&pids));
        }
        (loading.join(), peak)
    });
    let Ok(counted) = counted else { bail!("the load's thread failed") };
    let counted = counted?;
    proxy.running.check()?;
    let used: Duration = cpu::used(&pids).saturating_sub(before);
    let connections = f64::from(u32::try_from(load.connections)?);
    Ok(Sample::from([
        ("rate", counted.per_second),
        ("p50", counted.p50_ms),
        ("p99", counted.p99_ms),
        ("cpu", used.as_secs_f64() * 1e6 / counted.requests),
        ("memory", f5::mebibytes(peak)),
        ("connection", f5::mebibytes(peak.saturating_sub(idle)) * 1024.0 / connections),
    ]))
}
