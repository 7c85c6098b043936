//! F1: one signed command over a warm connection, beside `ssh host true` over a shared one.

use super::Row;
use crate::{
    bench::Bench,
    interleave::{Contender, Sample, interleave, spread},
    process::run_short,
    report::{Better, Figure, Goal, OURS, Report},
    server::Server,
    sshd::Sshd,
};
use allod_proto::messages::{keys::KeysCan, server::ServerStatus};
use anyhow::{Context as _, Result};
use std::time::{Duration, Instant};

pub(crate) const ROW: Row = Row {
    name: "f1",
    what: "one signed command, warm connection, loopback",
    goal: ">= 20 times faster than `ssh host true` with ControlMaster",
    run,
};

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let sshd = Sshd::start(bench, report)?;
    let server = Server::start(bench, "server")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut client = runtime.block_on(server.connect())?;
    let asks = bench.much(200, 20);
    let ours = Contender::new(OURS, || {
        let (mut status, mut can) = (Vec::new(), Vec::new());
        for _ in 0..asks {
            let begun = Instant::now();
            runtime.block_on(client.call(ServerStatus {}))?;
            status.push(milliseconds(begun.elapsed()));
            let begun = Instant::now();
            runtime.block_on(client.call(KeysCan { fingerprint: None }))?;
            can.push(milliseconds(begun.elapsed()));
        }
        Ok(Sample::from([("status", median(&status)?), ("can", median(&can)?)]))
    });
    let logins = bench.much(20, 3);
    let theirs = Contender::new("ssh, ControlMaster", || {
        let mut times = Vec::new();
        for _ in 0..logins {
            times.push(milliseconds(run_short("ssh", sshd.command("warm", &["true"]))?));
        }
        let median = median(&times)?;
        Ok(Sample::from([("status", median), ("can", median)]))
    });
    let samples =
        interleave(&bench.progress, report, "f1: one command", bench.rounds(15), vec![ours, theirs])?;
    for (metric, name) in [("status", "`server.status`"), ("can", "`keys.can`")] {
        let goal = Some(Goal::Ratio(20.0));
        report.add(Figure::compare(name, "ms", Better::Lower, &samples.series(metric), goal));
    }
    report.note("Each reply is verified: the identity's signature, and the record's head with its own.");
    Ok(())
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(values: &[f64]) -> Result<f64> {
    Ok(spread(values).context("no values")?.median)
}
