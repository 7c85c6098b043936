//! F8: `allod servers status --json` over a thousand agents on loopback. No peer can be asked for this: what is reported beside
//! the goal is what one agent costs, and whether memory stays as it is when they are ten times as many.

use super::{Row, f1::milliseconds};
use crate::{
    bench::Bench,
    cpu,
    farm::Farm,
    interleave::{Contender, Sample, Series, interleave},
    process::{command, run_watched},
    report::{Better, Figure, Goal, OURS, Report},
};
use anyhow::Result;
use std::path::Path;

pub(crate) const ROW: Row = Row {
    name: "f8",
    what: "`allod servers status --json` of 1 000 agents on loopback",
    goal: "<= 1 s in all, memory flat",
    run,
};

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let many = bench.much(1_000, 100);
    let few = many / 10;
    let farm = Farm::start(&bench.folder("farm")?, many)?;
    let (home_of_many, home_of_few) = (farm.home(many)?, farm.home(few)?);
    // Of a server that was never heard of, more is written and synced.
    let first = ask(bench, farm.owner(), &home_of_many);
    if let Err(error) = &first {
        bench.progress.say(&format!("FAILED: f8: the first time: {error:#}"));
        report.failed("f8: the first time", OURS, error);
        // Each attempt leaves fewer that were never heard of.
        (0..9).try_for_each(|_| ask(bench, farm.owner(), &home_of_many).map_or(Ok(()), |_| Err(()))).ok();
    }
    ask(bench, farm.owner(), &home_of_few)?;
    let turn = || {
        let (all, tenth) =
            (ask(bench, farm.owner(), &home_of_many)?, ask(bench, farm.owner(), &home_of_few)?);
        let more = f64::from(u32::try_from(many - few)?);
        Ok(Sample::from([
            ("time", all.time),
            ("cpu", all.cpu),
            ("memory", all.memory),
            ("tenth", tenth.time),
            ("each", (all.cpu - tenth.cpu) * 1e3 / more),
            ("grows", (all.memory - tenth.memory) * 1024.0 / more),
        ]))
    };
    let contenders = vec![Contender::new(OURS, turn)];
    let samples = interleave(&bench.progress, report, "f8: status", bench.rounds(11), contenders)?;
    let mut add = |metric: &str, name: String, unit, goal| {
        report.add(Figure::compare(name, unit, Better::Lower, &samples.series(metric), goal));
    };
    add("time", format!("{many} agents, start to end"), "ms", Some(Goal::AtMost(1_000.0)));
    add("tenth", format!("{few} agents, start to end"), "ms", None);
    add("cpu", format!("{many} agents, processor time"), "ms", None);
    add("each", "processor time of one agent more".to_owned(), "µs", None);
    add("memory", format!("{many} agents, most memory"), "MiB", None);
    add("grows", "memory of one agent more".to_owned(), "KiB", None);
    if let Ok(first) = first {
        let first = Series { who: OURS.to_owned(), values: vec![first.time] };
        let name = format!("{many} agents, the first time");
        report.add(Figure::compare(name, "ms", Better::Lower, &[first], None));
    }
    report.note("All agents are in the bench's own process, which shares the machine's processors with the client that is measured; the goal is for both together. Processor time and memory are the client's alone. Memory is the kernel's high-water mark, read each millisecond until the end.");
    farm.end();
    Ok(())
}

struct Cost {
    time: f64,
    cpu: f64,
    memory: f64,
}

fn ask(bench: &Bench, owner: &Path, home: &Path) -> Result<Cost> {
    let mut asking = command(&bench.allod.program);
    asking.env("ALLOD_HOME", home).env("HOME", owner).args(["servers", "status", "--json"]);
    let before = cpu::used_by_ended_children()?;
    let (time, bytes) = run_watched("allod", asking)?;
    let cpu = milliseconds(cpu::used_by_ended_children()?.saturating_sub(before));
    Ok(Cost { time: milliseconds(time), cpu, memory: cpu::mebibytes(bytes) })
}
