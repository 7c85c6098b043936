//! F16: how many durable lines the record takes a second, beside a bare loop of write and fdatasync on the same disk.

use super::Row;
use crate::{
    bench::Bench,
    interleave::{Contender, Sample, interleave},
    report::{Better, Figure, Goal, OURS, Report},
};
use allod_audit::{Clock, Entry, Record, Settings};
use allod_proto::Timestamp;
use allod_signing::KeySigner;
use anyhow::{Result, anyhow};
use std::{fs::File, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Instant};

pub(crate) const ROW: Row = Row {
    name: "f16",
    what: "append to the record, durable, 1 and 8 writers",
    goal: ">= 90 % of write + fdatasync; with several writers more, because they share a sync",
    run,
};

const WRITERS: usize = 8;
/// About what a line of the record has, in bytes.
const LINE: usize = 470;

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let folder = bench.folder("record")?;
    let clock: Clock = Arc::new(|| (Timestamp(1_700_000_000_000), 5));
    let signer = Arc::new(KeySigner::generate([3; 32], "record"));
    let (record, _) = Record::open(Settings::new(folder.join("record"), clock), signer)?;
    let entry = Entry::note("bench", "x".repeat(300));
    let appends = bench.much(200, 20);
    let ours = Contender::new(OURS, || {
        let one = rate(appends, || append(&record, &entry, appends))?;
        let eight = rate(appends * WRITERS, || side_by_side(&record, &entry, appends))?;
        Ok(Sample::from([("one", one), ("eight", eight)]))
    });
    let mut number = 0;
    let bare = Contender::new("write + fdatasync", || {
        number += 1;
        let rate = rate(appends, || bare(&folder.join(format!("bare-{number}")), appends))?;
        Ok(Sample::from([("one", rate), ("eight", rate)]))
    });
    let samples = interleave(&bench.progress, report, "f16: appends", bench.rounds(31), vec![ours, bare])?;
    for (metric, name, goal) in [("one", "1 writer", 0.9), ("eight", "8 writers", 2.0)] {
        let series = samples.series(metric);
        report.add(Figure::compare(name, "lines/s", Better::Higher, &series, Some(Goal::Ratio(goal))));
    }
    report.note(
        "The peer is one loop in both lines: it is what the disk allows to whoever syncs each line alone.",
    );
    Ok(())
}

fn append(record: &Record, entry: &Entry, count: usize) -> Result<()> {
    (0..count).try_for_each(|_| record.append(entry).map(|_| ()).map_err(Into::into))
}

fn side_by_side(record: &Record, entry: &Entry, count: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| append(record, entry, count))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| anyhow!("a writer failed"))?)
    })
}

/// The file exists beforehand in no way: it grows as the record's segment does.
fn bare(file: &Path, count: usize) -> Result<()> {
    let file = File::create(file)?;
    let line = [b'x'; LINE];
    for number in 0..count {
        file.write_all_at(&line, u64::try_from(number * LINE)?)?;
        file.sync_data()?;
    }
    Ok(())
}

fn rate(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().as_secs_f64())
}
