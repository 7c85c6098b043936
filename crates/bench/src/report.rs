//! What a row found: figures with their peers, whether goals are met, who was absent. As JSON for programs and as a
//! table for people.

use crate::{
    interleave::{Series, Spread, spread},
    machine::Machine,
    peer::Peer,
    rows::Row,
};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// The format number of the result files.
const FORMAT: u32 = 1;
/// The contender that all others are measured against.
pub(crate) const OURS: &str = "allod";

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// As time and memory.
    Lower,
    /// As requests a second.
    Higher,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// So many times better than the best peer; 1 is as good as it.
    Ratio(f64),
    /// Our own figure at most this.
    AtMost(f64),
}

/// One thing measured of several.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    better: Better,
    values: BTreeMap<String, Spread>,
    /// The best of the peers.
    against: Option<String>,
    /// How many times better than it, round by round.
    ratio: Option<Spread>,
    goal: Option<Goal>,
    met: Option<bool>,
}

impl Figure {
    /// Compares the series of [`OURS`] with the best of the others.
    pub(crate) fn compare(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        series: &[Series],
        goal: Option<Goal>,
    ) -> Self {
        let values: BTreeMap<String, Spread> =
            series.iter().filter_map(|one| Some((one.who.clone(), spread(&one.values)?))).collect();
        let ours = series.iter().find(|one| one.who == OURS);
        let best = best(series, better);
        let ratio = match (ours, best) {
            (Some(ours), Some(best)) => spread(&ratios(&ours.values, &best.values, better)),
            _ => None,
        };
        let met = goal.and_then(|goal| match goal {
            Goal::Ratio(least) => ratio.map(|ratio| ratio.median >= least),
            Goal::AtMost(most) => values.get(OURS).map(|value| value.median <= most),
        });
        Self {
            name: name.into(),
            unit,
            better,
            values,
            against: best.map(|one| one.who.clone()),
            ratio,
            goal,
            met,
        }
    }
}

/// The peer that is hardest to beat.
fn best(series: &[Series], better: Better) -> Option<&Series> {
    let median = |one: &Series| spread(&one.values).map_or(0.0, |spread| spread.median);
    let peers = series.iter().filter(|one| one.who != OURS);
    match better {
        Better::Lower => peers.min_by(|a, b| median(a).total_cmp(&median(b))),
        Better::Higher => peers.max_by(|a, b| median(a).total_cmp(&median(b))),
    }
}

fn ratios(ours: &[f64], theirs: &[f64], better: Better) -> Vec<f64> {
    let pairs = ours.iter().zip(theirs);
    let ratio = |(ours, theirs): (&f64, &f64)| match better {
        Better::Lower => theirs / ours,
        Better::Higher => ours / theirs,
    };
    pairs.map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

/// What one row found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    format: u32,
    row: &'static str,
    what: &'static str,
    goal: &'static str,
    command: String,
    /// Few and short rounds: the figures mean little.
    quick: bool,
    build: &'static str,
    machine: Machine,
    versions: BTreeMap<String, String>,
    absent: Vec<String>,
    failed: Vec<String>,
    notes: Vec<String>,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(row: &Row, machine: Machine, quick: bool) -> Self {
        Self {
            format: FORMAT,
            row: row.name,
            what: row.what,
            goal: row.goal,
            command: format!("cargo run --release -p allod-bench -- {}", row.name),
            quick,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            machine,
            versions: BTreeMap::new(),
            absent: Vec::new(),
            failed: Vec::new(),
            notes: Vec::new(),
            figures: Vec::new(),
        }
    }

    pub(crate) fn version(&mut self, name: &str, peer: &Peer) {
        self.versions.insert(name.to_owned(), peer.version.clone());
    }

    pub(crate) fn absent(&mut self, name: &str) {
        self.absent.push(name.to_owned());
    }

    /// Somebody could not do what was to be measured.
    pub(crate) fn failed(&mut self, what: &str, name: &str, error: &anyhow::Error) {
        let line = format!("{what}: {name}: {error:#}");
        self.failed.push(line.lines().next().unwrap_or_default().chars().take(300).collect());
    }

    /// What a reader of the figures has to know.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    pub(crate) fn finish(&mut self) {
        self.machine.look_again();
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A table: one line a figure.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text =
            format!("\n## {} {}\n\nGoal: {}. {}\n\n", self.row, self.what, self.goal, self.machine.line());
        if self.quick {
            text.push_str("Quick: these figures mean little.\n\n");
        }
        for absent in &self.absent {
            text.push_str(&format!("**ABSENT: {absent}**\n\n"));
        }
        text.push_str(
            "| Figure | allod | peers | times better than the best | goal |\n|---|---|---|---|---|\n",
        );
        self.figures.iter().for_each(|figure| text.push_str(&line(figure)));
        self.notes.iter().for_each(|note| text.push_str(&format!("\n{note}\n")));
        text
    }
}

fn line(figure: &Figure) -> String {
    let show =
        |spread: &Spread| format!("{} ({}..{})", short(spread.median), short(spread.low), short(spread.high));
    let ours = figure.values.get(OURS).map(show).unwrap_or_default();
    let peers: Vec<String> = figure
        .values
        .iter()
        .filter(|(who, _)| *who != OURS)
        .map(|(who, spread)| format!("{who} {}", show(spread)))
        .collect();
    let ratio = match (&figure.ratio, &figure.against) {
        (Some(ratio), Some(against)) => format!("{} of {against}", show(ratio)),
        _ => String::new(),
    };
    let goal = match (figure.goal, figure.met) {
        (Some(Goal::Ratio(least)), Some(met)) => format!(">= {}: {}", short(least), verdict(met)),
        (Some(Goal::AtMost(most)), Some(met)) => {
            format!("<= {} {}: {}", short(most), figure.unit, verdict(met))
        }
        (Some(_), None) => "not measured".to_owned(),
        (None, _) => String::new(),
    };
    format!("| {}, {} | {ours} | {} | {ratio} | {goal} |\n", figure.name, figure.unit, peers.join("; "))
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

/// Three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(who: &str, values: &[f64]) -> Series {
        Series { who: who.to_owned(), values: values.to_vec() }
    }

    #[test]
    fn without_a_peer_no_ratio_is_met() {
        let figure =
            Figure::compare("x", "ms", Better::Lower, &[series(OURS, &[1.0])], Some(Goal::Ratio(1.0)));
        assert_eq!((figure.met, figure.against), (None, None));
    }

    #[test]
    fn the_best_peer_is_the_one_that_counts() {
        let all =
            [series(OURS, &[10.0, 20.0]), series("slow", &[100.0, 100.0]), series("quick", &[5.0, 20.0])];
        let lower = Figure::compare("x", "ms", Better::Lower, &all, Some(Goal::Ratio(1.0)));
        assert_eq!(lower.against.as_deref(), Some("quick"));
        assert_eq!((lower.ratio.unwrap().median, lower.met), (0.75, Some(false)));
        let higher = Figure::compare("x", "req/s", Better::Higher, &all, Some(Goal::Ratio(0.1)));
        assert_eq!(higher.against.as_deref(), Some("slow"));
        assert_eq!(higher.met, Some(true));
    }

    #[test]
    fn a_bound_on_our_own_figure_needs_no_peer() {
        let figure =
            Figure::compare("x", "ms", Better::Lower, &[series(OURS, &[16.0])], Some(Goal::AtMost(15.0)));
        assert_eq!(figure.met, Some(false));
        assert!(line(&figure).contains("**not met**"), "{}", line(&figure));
    }
}
