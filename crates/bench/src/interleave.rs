//! A B C, B C A, C A B: the machine is not as fast in one moment as in the next, so contenders take turns, each round
//! begins with another one, and ratios are taken within a round.

use crate::{progress::Progress, report::Report, stop};
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// What one turn gave: a number for each of its metrics.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// One of those who take turns.
pub(crate) struct Contender<'a> {
    name: String,
    turn: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, turn: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self { name: name.into(), turn: Box::new(turn) }
    }
}

/// The numbers of one contender for one metric, one a round.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) who: String,
    pub(crate) values: Vec<f64>,
}

/// What all turns gave.
pub(crate) struct Samples(Vec<(String, Vec<Sample>)>);

impl Samples {
    /// One metric of everybody who has it.
    pub(crate) fn series(&self, metric: &str) -> Vec<Series> {
        let of = |(who, samples): &(String, Vec<Sample>)| {
            let values: Vec<f64> = samples.iter().filter_map(|sample| sample.get(metric).copied()).collect();
            (!values.is_empty()).then(|| Series { who: who.clone(), values })
        };
        self.0.iter().filter_map(of).collect()
    }
}

/// Lets everybody take a turn in each round. Who fails once takes no further turn and has no numbers: that is said loudly
/// and stands in the result.
pub(crate) fn interleave(
    progress: &Progress,
    report: &mut Report,
    what: &str,
    rounds: usize,
    mut contenders: Vec<Contender<'_>>,
) -> Result<Samples> {
    let mut samples: Vec<(String, Vec<Sample>)> =
        contenders.iter().map(|contender| (contender.name.clone(), Vec::new())).collect();
    let mut failed = BTreeSet::new();
    let count = contenders.len();
    for round in 0..rounds {
        progress.step(what, round, rounds);
        for turn in 0..count {
            stop::check()?;
            let who = (round + turn) % count;
            let (Some(contender), Some((name, taken))) = (contenders.get_mut(who), samples.get_mut(who))
            else {
                continue;
            };
            if failed.contains(&who) {
                continue;
            }
            match (contender.turn)() {
                Ok(sample) => taken.push(sample),
                Err(error) if stop::is(&error) => return Err(error),
                Err(error) => {
                    progress.say(&format!("FAILED: {what}: {name}: {error:#}"));
                    report.failed(what, name, &error);
                    taken.clear();
                    failed.insert(who);
                }
            }
        }
    }
    if failed.len() == count { bail!("{what}: everybody failed") } else { Ok(Samples(samples)) }
}

/// The middle of these numbers and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Median, least and greatest; nothing of nothing.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let median = match sorted.len() % 2 {
        0 => f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper),
        _ => upper,
    };
    Some(Spread { median, low: *sorted.first()?, high: *sorted.last()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn nothing_has_no_middle() {
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn the_middle_of_an_even_count_lies_between_two() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, low: 1.0, high: 9.0 }));
        assert_eq!(spread(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
    }

    fn report() -> Report {
        let row = crate::rows::Row { name: "t", what: "test", goal: "none", run: |_, _| Ok(()) };
        Report::new(&row, crate::machine::Machine::look(), true)
    }

    #[test]
    fn who_fails_has_no_numbers_and_the_others_go_on() {
        let mut report = report();
        let mut turns = 0;
        let fails = Contender::new("fails", || {
            turns += 1;
            if turns == 2 { bail!("no answer") } else { Ok(Sample::from([("x", 1.0)])) }
        });
        let works = Contender::new("works", || Ok(Sample::from([("x", 2.0)])));
        let taken = interleave(&Progress::silent(), &mut report, "test", 4, vec![fails, works]).unwrap();
        let series = taken.series("x");
        assert_eq!(series.len(), 1);
        assert_eq!((series[0].who.as_str(), series[0].values.len()), ("works", 4));
        assert_eq!(turns, 2);
        assert!(report.to_json().unwrap().contains("test: fails: no answer"));
    }

    #[test]
    fn where_everybody_fails_nothing_was_measured() {
        let fails = Contender::new("fails", || bail!("no answer"));
        assert!(interleave(&Progress::silent(), &mut report(), "test", 2, vec![fails]).is_err());
    }

    #[test]
    fn each_round_begins_with_another() {
        let order = RefCell::new(String::new());
        let turn = |name: &'static str| {
            let order = &order;
            Contender::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(Sample::from([("x", 1.0)]))
            })
        };
        let both = vec![turn("a"), turn("b")];
        let taken = interleave(&Progress::silent(), &mut report(), "test", 3, both).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        assert_eq!(taken.series("x").len(), 2);
        assert!(taken.series("y").is_empty());
    }
}
