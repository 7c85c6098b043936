//! How much of what costs nobody anything goes into the record line by line: reads, changes that were denied, lives of
//! the agent, counts of strangers. Beyond a rate they are counted for each who makes them, in one line a minute. So the record grows no
//! faster than this, whoever asks and whatever the agent says.

use allod_audit::Counted;
use allod_proto::{Fingerprint, Timestamp};
use std::collections::BTreeMap;

const MINUTE: u64 = 60_000;
/// Lines a minute for one key, or name, from one source.
const ONE: u64 = 300;
/// Lines a minute for all.
const ALL: u64 = 1200;
/// Readers that are told apart within a minute.
const ASKERS: usize = 64;

/// One who makes lines, as far as the record tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reader {
    pub(crate) key: Option<Fingerprint>,
    pub(crate) name: String,
    pub(crate) source: Option<String>,
}

impl Reader {
    /// The agent itself, for what it says on its own.
    pub(crate) fn agent(what: &str) -> Self {
        Self { key: None, name: format!("the agent: {what}"), source: None }
    }
}

/// The lines of one minute.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    minute: u64,
    written: u64,
    readers: BTreeMap<Reader, Lines>,
    past: Vec<Counted>,
}

#[derive(Debug, Default)]
struct Lines {
    written: u64,
    counted: u64,
}

impl Rate {
    /// Whether `reader` may have a line of its own. If not, it has been counted. `scarce` is when there is no room for any.
    pub(crate) fn admit(&mut self, reader: Reader, count: u64, scarce: bool, now: Timestamp) -> bool {
        self.pass(now);
        let known = self.readers.len() < ASKERS || self.readers.contains_key(&reader);
        let reader = if known { reader } else { Reader { key: None, name: "many".to_owned(), source: None } };
        let lines = self.readers.entry(reader).or_default();
        if scarce || lines.written >= ONE || self.written >= ALL {
            lines.counted = lines.counted.saturating_add(count);
            return false;
        }
        lines.written = lines.written.saturating_add(1);
        self.written = self.written.saturating_add(1);
        true
    }

    /// The counts of minutes that are over.
    pub(crate) fn past(&mut self, now: Timestamp) -> Vec<Counted> {
        self.pass(now);
        std::mem::take(&mut self.past)
    }

    /// All counts, also of the minute that is not over: at the end of a life.
    pub(crate) fn all(&mut self) -> Vec<Counted> {
        self.end_minute();
        std::mem::take(&mut self.past)
    }

    fn pass(&mut self, now: Timestamp) {
        let minute = now.0 / MINUTE;
        if minute != self.minute {
            self.end_minute();
            self.minute = minute;
        }
    }

    fn end_minute(&mut self) {
        let from_minute = Timestamp(self.minute.saturating_mul(MINUTE));
        self.written = 0;
        let readers = std::mem::take(&mut self.readers);
        for (reader, lines) in readers.into_iter().filter(|(_, lines)| lines.counted > 0) {
            let Reader { key, name, source } = reader;
            self.past.push(Counted { from_minute, key, name, source, count: lines.counted });
        }
        // Nobody may have asked for them in a long time.
        let surplus = self.past.len().saturating_sub(ASKERS.saturating_mul(2));
        self.past.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(name: &str) -> Reader {
        Reader { key: None, name: name.to_owned(), source: Some("100.64.0.7".to_owned()) }
    }

    fn admitted(rate: &mut Rate, name: &str, times: u64, now: u64) -> u64 {
        let admitted = (0..times).filter(|_| rate.admit(reader(name), 1, false, Timestamp(now)));
        u64::try_from(admitted.count()).unwrap()
    }

    #[test]
    fn a_flood_of_one_is_counted_in_one_line_and_others_still_have_lines() {
        let mut rate = Rate::default();
        assert_eq!(admitted(&mut rate, "eve", 10_000, 5), ONE);
        assert_eq!(admitted(&mut rate, "ann", 10, 6), 10);
        assert_eq!(rate.past(Timestamp(59_999)), []);
        let past = rate.past(Timestamp(60_000));
        assert_eq!(past.len(), 1);
        assert_eq!(
            (past[0].name.as_str(), past[0].count, past[0].from_minute),
            ("eve", 10_000 - ONE, Timestamp(0))
        );
        assert_eq!(admitted(&mut rate, "eve", 1, 60_001), 1, "a minute later");
        assert_eq!(rate.all(), []);
    }

    #[test]
    fn however_many_names_an_agent_makes_up_the_record_grows_no_faster() {
        let mut rate = Rate::default();
        let mut lines = 0;
        for number in 0..5000 {
            lines += admitted(&mut rate, &format!("made-up-{number}"), 10, 5);
        }
        let counted = rate.all();
        assert!(lines <= ALL && counted.len() <= ASKERS + 1, "{lines} {}", counted.len());
        assert_eq!(lines + counted.iter().map(|counted| counted.count).sum::<u64>(), 50_000, "none is lost");
    }

    #[test]
    fn where_there_is_no_room_everything_is_counted() {
        let mut rate = Rate::default();
        assert!(!rate.admit(reader("ann"), 3, true, Timestamp(5)));
        assert_eq!(rate.all().first().map(|counted| counted.count), Some(3));
    }
}
