//! How many durable appends a second the record makes, beside a bare loop of write and fdatasync on the same disk.
//! Usage: `cargo run --release -p allod-audit --example append_rate -- FOLDER`. Rounds are interleaved.

use allod_audit::{Clock, Entry, Record, Settings};
use allod_proto::Timestamp;
use allod_signing::KeySigner;
use std::{error::Error, fs::File, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Instant};

const ROUNDS: usize = 31;
const APPENDS: usize = 200;
const THREADS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder on the disk to measure")?;
    let folder = tempfile::tempdir_in(folder)?;
    let clock: Clock = Arc::new(|| (Timestamp(1_700_000_000_000), 5));
    let signer = Arc::new(KeySigner::generate([3; 32], "record"));
    let (record, _) = Record::open(Settings::new(folder.path().join("record"), clock), signer)?;
    let entry = Entry::note("test", "x".repeat(300));
    let (mut alone, mut one, mut eight) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        alone.push(rate(APPENDS, || bare(folder.path(), round))?);
        one.push(rate(APPENDS, || append(&record, &entry, APPENDS))?);
        eight.push(rate(APPENDS * THREADS, || {
            std::thread::scope(|scope| {
                (0..THREADS).for_each(|_| drop(scope.spawn(|| append(&record, &entry, APPENDS).is_ok())));
            });
            Ok(())
        })?);
    }
    // Round by round, because the disk is not as fast in one moment as in the next.
    let ratio = |rates: &[f64]| median(rates.iter().zip(&alone).map(|(rate, bare)| rate / bare).collect());
    let (one_ratio, eight_ratio) = (ratio(&one), ratio(&eight));
    print(&format!("bare write+fdatasync   {:8.0}/s", median(alone)));
    print(&format!("record, one thread     {:8.0}/s  {one_ratio:.2} of bare", median(one)));
    print(&format!("record, {THREADS} threads      {:8.0}/s  {eight_ratio:.2} of bare", median(eight)));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn append(record: &Record, entry: &Entry, count: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        record.append(entry)?;
    }
    Ok(())
}

fn bare(folder: &Path, round: usize) -> Result<(), Box<dyn Error>> {
    let file = File::create(folder.join(format!("bare-{round}")))?;
    let line = [b'x'; 470];
    for number in 0..APPENDS {
        file.write_all_at(&line, u64::try_from(number * line.len())?)?;
        file.sync_data()?;
    }
    Ok(())
}

fn rate(count: usize, work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    work()?;
    Ok(f64::from(u32::try_from(count)?) / begun.elapsed().as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "a measurement that a person reads")]
fn print(line: &str) {
    println!("{line}");
}
