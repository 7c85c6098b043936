//! F2: a whole process of the command line, from its start to its end, beside a cold `ssh host true`.

use super::{Row, f1::milliseconds};
use crate::{
    bench::Bench,
    cpu,
    interleave::{Contender, Sample, interleave},
    process::run_short,
    report::{Better, Figure, Goal, OURS, Report},
    server::Server,
    sshd::Sshd,
};
use anyhow::Result;
use std::process::Command;

pub(crate) const ROW: Row = Row {
    name: "f2",
    what: "one-shot `allod servers status`",
    goal: ">= 20 times faster than a cold `ssh host true`, <= 15 ms of processor time",
    run,
};

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let sshd = Sshd::start(bench, report)?;
    let server = Server::start(bench, "server")?;
    let count = bench.much(20, 5);
    let ours = Contender::new(OURS, || each(count, "allod", || server.allod(&["servers", "status"])));
    let theirs = Contender::new("ssh, cold", || each(count, "ssh", || sshd.command("cold", &["true"])));
    let samples =
        interleave(&bench.progress, report, "f2: one process", bench.rounds(11), vec![ours, theirs])?;
    let (time, cpu) = (samples.series("time"), samples.series("cpu"));
    report.add(Figure::compare("start to end", "ms", Better::Lower, &time, Some(Goal::Ratio(20.0))));
    report.add(Figure::compare("processor time", "ms", Better::Lower, &cpu, Some(Goal::AtMost(15.0))));
    report.note("The command line verifies the reply and the record's head, and writes down, unsynced, what it has seen of the server.");
    Ok(())
}

fn each(count: u32, name: &str, command: impl Fn() -> Command) -> Result<Sample> {
    let before = cpu::used_by_ended_children()?;
    let mut total = 0.0;
    for _ in 0..count {
        total += milliseconds(run_short(name, command())?);
    }
    let used = milliseconds(cpu::used_by_ended_children()?.saturating_sub(before));
    Ok(Sample::from([("time", total / f64::from(count)), ("cpu", used / f64::from(count))]))
}
