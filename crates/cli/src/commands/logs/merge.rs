//! Putting lines of several servers in the order of time. A line is let go when no other server can have an earlier one:
//! each has a line waiting, or has ended, or the line has waited long enough. Within a server the order stays.

use allod_proto::messages::app::LogLine;
use std::collections::VecDeque;
use tokio::time::Instant;

/// What waits, per server.
pub(super) struct Merge {
    sources: Vec<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<(Instant, LogLine)>,
    ended: bool,
}

impl Merge {
    pub(super) fn new(sources: usize) -> Self {
        Self { sources: std::iter::repeat_with(Waiting::default).take(sources).collect() }
    }

    /// Lines of a server, none of which waits longer than `until`.
    pub(super) fn push(&mut self, at: usize, lines: Vec<LogLine>, until: Instant) {
        if let Some(source) = self.sources.get_mut(at) {
            source.lines.extend(lines.into_iter().map(|line| (until, line)));
        }
    }

    /// Nothing more comes from this server.
    pub(super) fn end(&mut self, at: usize) {
        if let Some(source) = self.sources.get_mut(at) {
            source.ended = true;
        }
    }

    pub(super) fn has_ended(&self, at: usize) -> bool {
        self.sources.get(at).is_none_or(|source| source.ended)
    }

    /// Whether nothing can go on before this server says something.
    pub(super) fn wants(&self, at: usize) -> bool {
        self.sources.get(at).is_some_and(|source| !source.ended && source.lines.is_empty())
    }

    /// Whether all have ended and everything was let go.
    pub(super) fn is_over(&self) -> bool {
        self.sources.iter().all(|source| source.ended && source.lines.is_empty())
    }

    /// When the next line has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sources.iter().filter_map(|source| source.lines.front()).map(|(until, _)| *until).min()
    }

    /// The next line that may go, and whose it is. Without `now`, lines wait for as long as it takes.
    pub(super) fn next(&mut self, now: Option<Instant>) -> Option<(usize, LogLine)> {
        let complete = !self.sources.iter().any(|source| !source.ended && source.lines.is_empty());
        let late = now.is_some_and(|now| self.due().is_some_and(|due| due <= now));
        if !complete && !late {
            return None;
        }
        let fronts =
            self.sources.iter().enumerate().filter_map(|(at, source)| Some((source.lines.front()?, at)));
        let (_, at) = fronts.min_by_key(|((_, line), at)| (line.at, *at))?;
        let (_, line) = self.sources.get_mut(at)?.lines.pop_front()?;
        Some((at, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn line(at: u64) -> LogLine {
        serde_json::from_value(serde_json::json!({
            "at": at, "instance": "web-0011aabb", "release": "aaaaaaaaaaaa", "stream": "out", "text": ""
        }))
        .unwrap()
    }

    fn lines(at: &[u64]) -> Vec<LogLine> {
        at.iter().map(|at| line(*at)).collect()
    }

    fn taken(merge: &mut Merge, now: Option<Instant>) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| merge.next(now)).map(|(at, line)| (at, line.at.0)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn no_line_goes_before_an_earlier_one_could_still_come() {
        let (mut merge, now) = (Merge::new(2), Instant::now());
        merge.push(0, lines(&[1, 5]), now);
        assert_eq!(taken(&mut merge, None), []);
        assert!(merge.wants(1) && !merge.wants(0));
        merge.push(1, lines(&[2, 3]), now);
        assert_eq!(taken(&mut merge, None), [(0, 1), (1, 2), (1, 3)]);
        merge.end(1);
        assert_eq!(taken(&mut merge, None), [(0, 5)]);
        assert!(!merge.is_over());
        merge.end(0);
        assert!(merge.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_holds_the_others_up_only_for_the_window() {
        let (mut merge, now) = (Merge::new(2), Instant::now());
        let until = now + Duration::from_millis(300);
        merge.push(0, lines(&[7]), until);
        assert_eq!(taken(&mut merge, Some(now)), []);
        assert_eq!(merge.due(), Some(until));
        assert_eq!(taken(&mut merge, Some(until)), [(0, 7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_server_is_never_held_up() {
        let mut merge = Merge::new(1);
        merge.push(0, lines(&[9, 4]), Instant::now() + Duration::from_secs(1));
        assert_eq!(taken(&mut merge, Some(Instant::now())), [(0, 9), (0, 4)]);
    }
}
