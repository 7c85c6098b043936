//! F11: our node beside a stock one without an interface, in one lab, on one coordinator: what a program gets through the tunnel,
//! directly, by the relay and where datagrams are lost, what the nodes cost, and how soon one is back. With `ALLOD_BENCH_F11=loss` only
//! what is lost is measured, in a third of the time.

use super::Row;
use crate::{
    bench::Bench,
    cpu,
    interleave::{Contender, Sample, interleave},
    report::{Better, Figure, Goal, OURS, Report},
    tunnel::{Kind, Network, Tunnel},
};
use allod_testkit::peer;
use anyhow::{Context as _, Result, bail};
use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

pub(crate) const ROW: Row = Row {
    name: "f11",
    what: "embedded node: throughput, latency direct and relayed, loss, memory, start",
    goal: ">= 1 x the throughput and <= 1 x the RTT of tailscaled in userspace, <= 1/10 of its memory; <= 50 ms to an address; at loss >= 1/2",
    run,
};

const PART: &str = "ALLOD_BENCH_F11";

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    // The lab breaks off where something can't be had.
    catch_unwind(AssertUnwindSafe(|| measure(bench, report))).unwrap_or_else(|_| bail!("the lab broke off"))
}

/// Which part of it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Loss,
}

impl Part {
    fn chosen() -> Result<Self> {
        match std::env::var_os(PART).as_deref().map(std::ffi::OsStr::as_encoded_bytes) {
            None => Ok(Self::All),
            Some(b"loss") => Ok(Self::Loss),
            Some(_) => bail!("{PART} is `loss` or not there"),
        }
    }
}

fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let part = Part::chosen()?;
    let network = RefCell::new(Network::start(bench)?);
    let mut kinds = vec![(OURS, Kind::Ours, [11, 12])];
    match peer::all(["tailscaled", "tailscale"]) {
        Some(_) => kinds.push(("tailscaled", Kind::Stock, [21, 22])),
        None => report.absent("tailscaled"),
    }
    let mut contenders = Vec::new();
    for (name, kind, sites) in kinds {
        let mut tunnel = network.borrow_mut().tunnel(bench, kind, sites)?;
        let network = &network;
        contenders.push(Contender::new(name, move || match part {
            Part::All => turn(bench, &network.borrow(), &mut tunnel),
            Part::Loss => {
                network.borrow().directly(&tunnel)?;
                Ok(Sample::from(lossy(bench, &network.borrow(), &tunnel)?))
            }
        }));
    }
    let samples = interleave(&bench.progress, report, "f11: tunnel", bench.rounds(5), contenders)?;
    for (metric, name, unit, better, goal) in [
        ("rate", "upload, direct", "MiB/s", Better::Higher, Some(Goal::Ratio(1.0))),
        ("cost", "upload, direct: processor time of both nodes for a MiB", "ms", Better::Lower, None),
        ("loss5", "upload, 0.5 % of the datagrams lost", "MiB/s", Better::Higher, Some(Goal::Ratio(0.5))),
        ("loss10", "upload, 1 % of the datagrams lost", "MiB/s", Better::Higher, Some(Goal::Ratio(0.5))),
        ("median", "round trip, direct, median", "µs", Better::Lower, Some(Goal::Ratio(1.0))),
        ("p99", "round trip, direct, p99", "µs", Better::Lower, Some(Goal::Ratio(1.0))),
        ("relayed-median", "round trip, relayed, median", "µs", Better::Lower, Some(Goal::Ratio(1.0))),
        ("relayed-p99", "round trip, relayed, p99", "µs", Better::Lower, Some(Goal::Ratio(1.0))),
        ("relayed-rate", "upload, relayed", "MiB/s", Better::Higher, None),
        ("memory", "memory of a node after all this", "MiB", Better::Lower, Some(Goal::Ratio(10.0))),
        ("address", "start to address, from the stored map", "ms", Better::Lower, Some(Goal::AtMost(50.0))),
        ("first", "start to the first byte of a peer", "ms", Better::Lower, None),
    ] {
        let series = samples.series(metric);
        if !series.is_empty() {
            report.add(Figure::compare(name, unit, better, &series, goal));
        }
    }
    report.note("Four network namespaces and a hub between them, two machines with nodes of ours and two with stock ones, on our coordinator with its own relay, by https. Programs reach the stock node by SOCKS5 and ours by its socket; both pass on to loopback on the other side.");
    report.note("This kernel has no netem: datagrams are lost at random by nftables at the hub, each by itself (hosts send no larger pieces then), without delay; a round trip takes what the machine takes.");
    report.note("Coordinator, relay and both programs are in the bench's own process, on the machine's two processors with the nodes.");
    Ok(())
}

fn turn(bench: &Bench, network: &Network, tunnel: &mut Tunnel) -> Result<Sample> {
    let lasts = bench.much(Duration::from_secs(5), Duration::from_secs(1));
    let count = bench.much(4_000, 400);
    network.directly(tunnel)?;
    let direct = network.round_trips(tunnel, count)?;
    let processes: std::collections::BTreeSet<u32> = tunnel.processes().into_iter().flatten().collect();
    let before = cpu::used(&processes);
    let rate = network.upload(tunnel, lasts)?;
    let used = cpu::used(&processes).saturating_sub(before);
    let lossy = lossy(bench, network, tunnel)?;
    network.cut(tunnel)?;
    let relayed =
        network.round_trips(tunnel, count / 4).and_then(|trips| Ok((trips, network.upload(tunnel, lasts)?)));
    network.mend();
    let (relayed, relayed_rate) = relayed?;
    let [near, far] = tunnel.processes().map(|one| cpu::mebibytes(cpu::memory(&one)));
    let (address, first) = network.restart(tunnel)?;
    network.directly(tunnel)?;
    // The upload was also warmed up.
    let moved = rate * (lasts.as_secs_f64() + 1.5) / MIB;
    let mut sample = Sample::from(lossy);
    sample.extend([
        ("rate", rate / MIB),
        ("cost", used.as_secs_f64() * 1e3 / moved),
        ("median", quantile(&direct, 50)?),
        ("p99", quantile(&direct, 99)?),
        ("relayed-median", quantile(&relayed, 50)?),
        ("relayed-p99", quantile(&relayed, 99)?),
        ("relayed-rate", relayed_rate / MIB),
        ("memory", f64::midpoint(near, far)),
        ("address", address.as_secs_f64() * 1e3),
        ("first", first.as_secs_f64() * 1e3),
    ]);
    Ok(sample)
}

/// Uploads while datagrams are lost.
fn lossy(bench: &Bench, network: &Network, tunnel: &Tunnel) -> Result<[(&'static str, f64); 2]> {
    let lasts = bench.much(Duration::from_secs(10), Duration::from_secs(2));
    let mut rates = [("loss5", 0.0), ("loss10", 0.0)];
    for ((_, rate), per_mille) in rates.iter_mut().zip([5, 10]) {
        network.lose(per_mille, tunnel);
        let uploaded = network.upload(tunnel, lasts);
        network.mend();
        *rate = uploaded? / MIB;
    }
    Ok(rates)
}

const MIB: f64 = 1024.0 * 1024.0;

/// The value that so many of a hundred are below.
fn quantile(values: &[f64], percent: usize) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        bail!("nothing was measured");
    }
    let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
    sorted.get(at).copied().context("no such value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values_and_nothing_has_none() {
        assert!(quantile(&[], 50).is_err());
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 50).unwrap(), quantile(&values, 99).unwrap()), (50.0, 99.0));
        assert_eq!(quantile(&[3.0], 99).unwrap(), 3.0);
    }
}
