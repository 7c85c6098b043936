//! What was done under which id: a changing command that comes again with the same id by the same key is done once.
//! Rebuilt from the record at start, so that nothing acknowledged is forgotten by a crash.

use allod_audit::{Entry, Line};
use allod_proto::{Digest, Fault, FaultCode, Fingerprint, Timestamp, limits::COMMAND_ID_MEMORY};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// How many ids are remembered at most; a key that makes more than this in a day is told to wait.
const CAPACITY: usize = 200_000;

type Key = (Fingerprint, String);

#[derive(Debug, Clone)]
struct Remembered {
    body: Digest,
    at: Timestamp,
    intent: u64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    InFlight,
    Done(Value),
}

/// The ids of the last 24 hours.
#[derive(Debug, Default)]
pub struct Memory {
    ids: HashMap<Key, Remembered>,
    by_intent: BTreeMap<u64, Key>,
}

/// What is known of an id.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// Never seen: go on.
    New,
    /// Done before, with this reply.
    Done(Value),
}

impl Memory {
    /// What is known of this id.
    ///
    /// # Errors
    /// `Conflict` when the same id was used for another request, `Busy` while the first is still in flight.
    pub fn look(&self, key: &Fingerprint, id: &str, body: &Digest) -> Result<Seen, Fault> {
        let Some(remembered) = self.ids.get(&(key.clone(), id.to_owned())) else { return Ok(Seen::New) };
        if remembered.body != *body {
            return Err(Fault::new(FaultCode::Conflict, "this id was used for another request")
                .hint("make a new id for each new request"));
        }
        match &remembered.state {
            State::InFlight => Err(Fault::new(FaultCode::Busy, "this very request is being done")),
            State::Done(reply) => Ok(Seen::Done(reply.clone())),
        }
    }

    /// An id is about to be used.
    ///
    /// # Errors
    /// `TooMany` when the memory is full.
    pub fn begin(
        &mut self,
        key: &Fingerprint,
        id: &str,
        body: Digest,
        intent: u64,
        now: Timestamp,
    ) -> Result<(), Fault> {
        self.forget(now);
        if self.ids.len() >= CAPACITY {
            return Err(
                Fault::new(FaultCode::TooMany, "too many changes within a day").hint("try again in an hour")
            );
        }
        let name = (key.clone(), id.to_owned());
        self.by_intent.insert(intent, name.clone());
        self.ids.insert(name, Remembered { body, at: now, intent, state: State::InFlight });
        Ok(())
    }

    /// What was begun is done and answered with this; `None` when it failed, so that it may be tried again.
    pub fn end(&mut self, intent: u64, reply: Option<Value>) {
        let Some(name) = self.by_intent.get(&intent).cloned() else { return };
        match reply {
            Some(reply) => {
                if let Some(remembered) = self.ids.get_mut(&name) {
                    remembered.state = State::Done(reply);
                }
            }
            None => {
                let is_done = |it: &Remembered| matches!(it.state, State::Done(_));
                if !self.ids.get(&name).is_some_and(is_done) {
                    self.ids.remove(&name);
                    self.by_intent.remove(&intent);
                }
            }
        }
    }

    /// Takes in one line of the record, at start.
    pub fn replay(&mut self, line: &Line) {
        match &line.entry {
            Entry::Intent(intent) => {
                let body = intent.signed.as_deref().and_then(|signed| signed.lines().last()?.parse().ok());
                if let (Some(key), Some(body)) = (&intent.who.key, body) {
                    let _ = self.begin(key, &intent.request, body, line.seq, line.at);
                }
            }
            Entry::Outcome(outcome) => self.end(outcome.intent, outcome.reply.clone()),
            Entry::Start(_) | Entry::Read(_) | Entry::Refusals(_) | Entry::Note(_) => {}
        }
    }

    /// What is in flight after a replay was in flight when the program ended: it may be tried again.
    pub fn end_replay(&mut self) {
        let in_flight: Vec<_> = self
            .ids
            .iter()
            .filter(|(_, remembered)| matches!(remembered.state, State::InFlight))
            .map(|(name, remembered)| (name.clone(), remembered.intent))
            .collect();
        for (name, intent) in in_flight {
            self.ids.remove(&name);
            self.by_intent.remove(&intent);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((intent, name)) =
            self.by_intent.first_key_value().map(|(intent, name)| (*intent, name.clone()))
        {
            let old = self
                .ids
                .get(&name)
                .is_none_or(|it| now.since(it.at) > COMMAND_ID_MEMORY && it.intent == intent);
            if !old {
                return;
            }
            self.by_intent.remove(&intent);
            self.ids.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Fingerprint {
        Fingerprint::new(format!("SHA256:{}", "a".repeat(43))).unwrap()
    }

    #[test]
    fn the_same_id_for_another_request_is_refused() {
        let mut memory = Memory::default();
        memory.begin(&key(), "one", Digest::of("a"), 1, Timestamp(0)).unwrap();
        assert_eq!(memory.look(&key(), "one", &Digest::of("b")).unwrap_err().code, FaultCode::Conflict);
        assert_eq!(memory.look(&key(), "one", &Digest::of("a")).unwrap_err().code, FaultCode::Busy);
    }

    #[test]
    fn what_was_done_is_answered_again_and_what_failed_may_be_tried_again() {
        let mut memory = Memory::default();
        memory.begin(&key(), "done", Digest::of("a"), 1, Timestamp(0)).unwrap();
        memory.end(1, Some(Value::from(7)));
        assert_eq!(memory.look(&key(), "done", &Digest::of("a")).unwrap(), Seen::Done(Value::from(7)));
        memory.begin(&key(), "failed", Digest::of("a"), 2, Timestamp(0)).unwrap();
        memory.end(2, None);
        assert_eq!(memory.look(&key(), "failed", &Digest::of("a")).unwrap(), Seen::New);
    }

    #[test]
    fn an_id_is_forgotten_after_a_day_and_not_before() {
        let mut memory = Memory::default();
        memory.begin(&key(), "one", Digest::of("a"), 1, Timestamp(0)).unwrap();
        memory.end(1, Some(Value::Null));
        let day = Timestamp(0).plus(COMMAND_ID_MEMORY);
        memory.begin(&key(), "two", Digest::of("a"), 2, day).unwrap();
        assert_eq!(memory.look(&key(), "one", &Digest::of("a")).unwrap(), Seen::Done(Value::Null));
        memory.begin(&key(), "three", Digest::of("a"), 3, Timestamp(day.0 + 1)).unwrap();
        assert_eq!(memory.look(&key(), "one", &Digest::of("a")).unwrap(), Seen::New);
    }
}
