//! A store's story: what is done to it step by step, what is acknowledged after each, and how it is opened. Then: wherever
//! the power goes, opening it shows what was acknowledged last, or the step that was under way, whole; and opening it
//! again shows the same.

use super::Journal;
use proptest::{
    arbitrary::any,
    collection::vec,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Acknowledged from this operation on; begun before that one.
#[derive(Debug)]
struct Step<S> {
    begun: usize,
    done: usize,
    after: S,
}

/// What happens to a store, as it is told to [`survives`].
#[derive(Debug)]
pub struct Story<S> {
    root: PathBuf,
    journal: Journal,
    steps: Vec<Step<S>>,
    failed: Option<String>,
    _folder: TempDir,
}

impl<S: PartialEq + Debug> Story<S> {
    fn begin(prepare: impl FnOnce(&Path)) -> Result<Self, String> {
        let folder = folder()?;
        let root = folder.path().canonicalize().map_err(|error| error.to_string())?;
        prepare(&root);
        let journal = Journal::begin(&root).map_err(|error| error.to_string())?;
        Ok(Self { root, journal, steps: Vec::new(), failed: None, _folder: folder })
    }

    /// Does one thing, and hears what a store that is opened from now on must show. After one that fails nothing is done
    /// any more.
    pub fn step<E: Debug>(&mut self, act: impl FnOnce(&Path) -> Result<S, E>) {
        if self.failed.is_some() {
            return;
        }
        let begun = self.journal.len();
        match act(&self.root) {
            Ok(after) => self.steps.push(Step { begun, done: self.journal.len(), after }),
            Err(error) => self.failed = Some(format!("step {}: {error:?}", self.steps.len())),
        }
    }

    /// Lets the power go before an operation, and opens what is left, twice.
    fn cut(
        &self,
        at: usize,
        choices: &[u8],
        open: &impl Fn(&Path) -> Result<S, String>,
    ) -> Result<S, String> {
        let case =
            |what: String| format!("{what}\npower cut at {at}, {choices:?}:{}", self.journal.around(at));
        let left = folder()?;
        self.journal.power_cut(at, choices, left.path()).map_err(|error| case(error.to_string()))?;
        let shown = open(left.path()).map_err(|why| case(format!("it can't be opened: {why}")))?;
        let again = open(left.path()).map_err(|why| case(format!("it can't be opened again: {why}")))?;
        if shown == again { Ok(shown) } else { Err(case(format!("opened: {shown:?}\nagain: {again:?}"))) }
    }

    fn check(
        &self,
        at: usize,
        choices: &[u8],
        first: &S,
        open: &impl Fn(&Path) -> Result<S, String>,
    ) -> Result<(), String> {
        let shown = self.cut(at, choices, open)?;
        let acknowledged =
            self.steps.iter().rev().find(|step| step.done <= at).map_or(first, |step| &step.after);
        let under_way = self.steps.iter().find(|step| step.begun < at && at < step.done);
        if shown == *acknowledged || under_way.is_some_and(|step| step.after == shown) {
            return Ok(());
        }
        Err(format!(
            "shown: {shown:?}\nacknowledged: {acknowledged:?}\nunder way: {:?}\npower cut at {at}, {choices:?}:{}",
            under_way.map(|step| &step.after),
            self.journal.around(at)
        ))
    }
}

fn folder() -> Result<TempDir, String> {
    // In memory, where there is such a place: nothing here is about the real disk.
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.map_err(|error| format!("no folder: {error}"))
}

/// Tells a story in a folder of its own, cuts the power before every operation, losing and keeping all that was not synced,
/// and in `cases` sampled ways between; each time, `open` must show what was acknowledged last, or the step under way.
///
/// # Errors
/// What it showed instead, with the operations around the cut.
pub fn survives<S: Clone + PartialEq + Debug>(
    cases: u32,
    prepare: impl FnOnce(&Path),
    tell: impl FnOnce(&mut Story<S>),
    open: impl Fn(&Path) -> Result<S, String>,
) -> Result<(), String> {
    let (story, first) = told(prepare, tell, &open)?;
    for at in 0..=story.journal.len() {
        for choices in [[0], [255]] {
            story.check(at, &choices, &first, &open)?;
        }
    }
    sampled(cases, story.journal.len(), |at, choices| story.check(at, choices, &first, &open))
}

/// The same in sampled ways only, where opening takes long.
///
/// # Errors
/// What it showed instead, with the operations around the cut.
pub fn survives_samples<S: Clone + PartialEq + Debug>(
    cases: u32,
    prepare: impl FnOnce(&Path),
    tell: impl FnOnce(&mut Story<S>),
    open: impl Fn(&Path) -> Result<S, String>,
) -> Result<(), String> {
    let (story, first) = told(prepare, tell, &open)?;
    sampled(cases, story.journal.len(), |at, choices| story.check(at, choices, &first, &open))
}

/// A story told to its end, and what is shown before it.
fn told<S: Clone + PartialEq + Debug>(
    prepare: impl FnOnce(&Path),
    tell: impl FnOnce(&mut Story<S>),
    open: &impl Fn(&Path) -> Result<S, String>,
) -> Result<(Story<S>, S), String> {
    let mut story = Story::begin(prepare)?;
    tell(&mut story);
    if let Some(failed) = story.failed.take() {
        return Err(failed);
    }
    story.journal.is_complete()?;
    let first = story.cut(0, &[255], open)?;
    Ok((story, first))
}

fn sampled(
    cases: u32,
    last: usize,
    check: impl Fn(usize, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let sampled = TestRunner::new(config).run(&(0..=last, vec(any::<u8>(), 1..24)), |(at, choices)| {
        check(at, &choices).map_err(TestCaseError::fail)
    });
    sampled.map_err(|error| error.to_string())
}

/// Tells a story, kills the program before an operation, and opens the store again while the machine stays up: what it
/// shows then must be there after a power cut too, although an earlier life wrote it and never synced it. `cases` sampled
/// ways.
///
/// # Errors
/// What was shown and is gone.
pub fn survives_kills<S: Clone + PartialEq + Debug>(
    cases: u32,
    prepare: impl Fn(&Path),
    tell: impl Fn(&mut Story<S>),
    open: impl Fn(&Path) -> Result<S, String>,
) -> Result<(), String> {
    let mut whole = Story::begin(&prepare)?;
    tell(&mut whole);
    let last = whole.journal.len();
    drop(whole);
    sampled(cases, last, |at, choices| {
        let mut story = Story::begin(&prepare)?;
        story.journal.stop_at(Some(at));
        tell(&mut story);
        let killed = story.journal.around(at);
        story.journal.stop_at(None);
        let shown = open(&story.root).map_err(|why| format!("killed at {at}: {why}{killed}"))?;
        // Half of the time everything is lost that can be.
        let choices = if at % 2 == 0 { &[0] } else { choices };
        let left = story.cut(story.journal.len(), choices, &open)?;
        if shown == left {
            return Ok(());
        }
        Err(format!("killed at {at}:{killed}\nshown then: {shown:?}\nafter a power cut: {left:?}"))
    })
}
