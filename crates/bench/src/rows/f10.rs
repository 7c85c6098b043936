//! F10, and what N9 asks of it: many nodes join a coordinator, one of them moves and all others are told, beside a Headscale. How
//! many: 1 000, or what `ALLOD_BENCH_NODES` says; how many join at a time: 64, or what `ALLOD_BENCH_AT_ONCE` says.

use super::{Row, f1::milliseconds};
use crate::{
    bench::Bench,
    coordinators::{Kind, a_headscale},
    cpu,
    crowd::Crowd,
    interleave::{Contender, Sample, interleave, spread},
    report::{Better, Figure, Goal, OURS, Report},
};
use anyhow::{Context as _, Result};

pub(crate) const ROW: Row = Row {
    name: "f10",
    what: "coordinator: 1 000 nodes join, one change to all",
    goal: ">= 5 times faster than Headscale, <= 1/5 of its memory; a change reaches all in <= 1 s, <= 64 KiB a node",
    run,
};

const NODES: &str = "ALLOD_BENCH_NODES";

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let count = number(NODES, bench.much(1_000, 100))?;
    let at_once = number("ALLOD_BENCH_AT_ONCE", 64)?;
    let mut kinds = vec![(OURS, Kind::Ours)];
    kinds.extend(a_headscale(bench, report).map(|peer| ("headscale", peer)));
    let contenders = kinds.iter().map(|(name, kind)| {
        let mut number = 0;
        Contender::new(*name, move || {
            number += 1;
            turn(bench, kind, &format!("{name}-{number}"), (count, at_once))
        })
    });
    let contenders = contenders.collect();
    let samples = interleave(&bench.progress, report, "f10: nodes", bench.rounds(3), contenders)?;
    for (metric, name, unit, better, goal) in [
        ("change", "a change, until the last was told", "ms", Better::Lower, Some(Goal::Ratio(5.0))),
        ("change", "the same, by itself (N9)", "ms", Better::Lower, Some(Goal::AtMost(1_000.0))),
        ("change-cpu", "a change, processor time of the coordinator", "ms", Better::Lower, None),
        ("rate", "joins, until all are in", "nodes/s", Better::Higher, Some(Goal::Ratio(5.0))),
        ("acquainted", "joins, until each has heard of all", "s", Better::Lower, Some(Goal::Ratio(5.0))),
        ("join-cpu", "joins, processor time of the coordinator for each", "ms", Better::Lower, None),
        ("anew", "streams that had to be asked for anew", "", Better::Lower, None),
        ("memory", "memory with all of them there", "MiB", Better::Lower, Some(Goal::Ratio(5.0))),
        ("node", "memory for each node", "KiB", Better::Lower, Some(Goal::Ratio(5.0))),
        ("node", "the same, by itself (N9)", "KiB", Better::Lower, Some(Goal::AtMost(64.0))),
    ] {
        let name = format!("{count} nodes: {name}");
        report.add(Figure::compare(name, unit, better, &samples.series(metric), goal));
    }
    report.note("The nodes are simulated in the bench's own process: each has a machine key, a Noise connection and a stream of maps, and decodes all that it is told. They share the machine's processors with the coordinator that is measured.");
    report.note(format!("{at_once} join at a time."));
    report.note("A coordinator that holds changes back to send several together, as Headscale does by its settings, is measured with that.");
    Ok(())
}

fn number(variable: &str, otherwise: usize) -> Result<usize> {
    let Some(text) = std::env::var_os(variable) else { return Ok(otherwise) };
    let number =
        text.to_str().and_then(|text| text.parse().ok()).filter(|number| *number >= 2 || variable != NODES);
    number.filter(|number| *number > 0).with_context(|| format!("{variable} is no number that will do"))
}

fn turn(bench: &Bench, kind: &Kind, name: &str, (count, at_once): (usize, usize)) -> Result<Sample> {
    let served = kind.start(&bench.folder(name)?)?;
    let processes = served.process.tree();
    let (empty, before) = (cpu::memory(&processes), cpu::used(&processes));
    let mut crowd = Crowd::join(served.address, &served.join_key, count, at_once)?;
    let nodes = f64::from(u32::try_from(count)?);
    let join_cpu = milliseconds(cpu::used(&processes).saturating_sub(before)) / nodes;
    let (mut times, mut costs) = (Vec::new(), Vec::new());
    for port in 1..=bench.much(9, 3) {
        let before = cpu::used(&processes);
        times.push(milliseconds(crowd.change(port)?));
        costs.push(milliseconds(cpu::used(&processes).saturating_sub(before)));
    }
    let full = cpu::memory(&processes);
    let sample = Sample::from([
        ("change", spread(&times).context("no change")?.median),
        ("change-cpu", spread(&costs).context("no change")?.median),
        ("rate", nodes / crowd.joined.as_secs_f64()),
        ("acquainted", crowd.acquainted.as_secs_f64()),
        ("join-cpu", join_cpu),
        ("anew", f64::from(u32::try_from(crowd.anew)?)),
        ("memory", cpu::mebibytes(full)),
        ("node", cpu::mebibytes(full.saturating_sub(empty)) * 1024.0 / nodes),
    ]);
    crowd.end();
    Ok(sample)
}
