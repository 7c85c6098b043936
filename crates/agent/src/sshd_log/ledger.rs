//! Which logins and sessions sshd began, against what the gate told the executor: what is left over was ended by sshd or by
//! the kernel before the gate could say anything, as a request is that is too long to run a program with.

use super::line::Event;
use allod_proto::Timestamp;
use std::{collections::HashMap, net::IpAddr, time::Duration};

/// How long the gate has to tell of a session.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How long a login may ask for nothing.
const ASKS_WITHIN: Duration = Duration::from_secs(60);
/// How long a login is remembered after its last session.
const MEMORY: Duration = Duration::from_secs(180);
/// How much earlier the gate may have told than the log was read.
const EARLIER: Duration = Duration::from_secs(10);
/// How many logins are told apart.
const LOGINS: usize = 1024;

/// Why something counts as refused.
pub(super) const FAILED: &str = "ssh: this key may not log in";
pub(super) const FORWARDING: &str = "ssh: forwarding";
pub(super) const SESSIONS: &str = "ssh: too many sessions of one login";
pub(super) const UNTOLD: &str = "ssh: a session whose request never came to the gate";
pub(super) const NOTHING: &str = "ssh: a login that asked for no command";
/// The source where sshd does not tell one.
pub(super) const SSHD: &str = "sshd";

/// All logins that are remembered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    logins: HashMap<(IpAddr, u16), Login>,
}

#[derive(Debug)]
struct Login {
    first: Timestamp,
    last: Timestamp,
    /// Sessions in the order they began.
    sessions: Vec<Timestamp>,
    reported: u64,
    asked_nothing: bool,
}

/// What the executor is to be asked: how often the gate told of this login since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) from: IpAddr,
    pub(super) port: u16,
    pub(super) since: Timestamp,
    due: u64,
}

impl Ledger {
    /// Takes an event in; what counts as refused at once comes back with where it came from.
    pub(super) fn take(&mut self, event: &Event, now: Timestamp) -> Option<(String, &'static str)> {
        match event {
            Event::Failed(from) => Some((from.to_string(), FAILED)),
            Event::Forwarding => Some((SSHD.to_owned(), FORWARDING)),
            Event::Sessions => Some((SSHD.to_owned(), SESSIONS)),
            Event::Accepted(from, port) => {
                if let Some(login) = self.login(*from, *port, now) {
                    login.last = now;
                }
                None
            }
            Event::Session(from, port) => {
                if let Some(login) = self.login(*from, *port, now) {
                    login.last = now;
                    login.sessions.push(now);
                    return None;
                }
                // Too many to tell apart: none passes unseen.
                Some((from.to_string(), UNTOLD))
            }
        }
    }

    fn login(&mut self, from: IpAddr, port: u16, now: Timestamp) -> Option<&mut Login> {
        if self.logins.len() >= LOGINS && !self.logins.contains_key(&(from, port)) {
            return None;
        }
        let fresh =
            || Login { first: now, last: now, sessions: Vec::new(), reported: 0, asked_nothing: false };
        Some(self.logins.entry((from, port)).or_insert_with(fresh))
    }

    /// What there is to ask now.
    pub(super) fn questions(&self, now: Timestamp) -> Vec<Question> {
        let of = |(&(from, port), login): (&(IpAddr, u16), &Login)| {
            let due = login.sessions.iter().filter(|began| now.since(**began) >= TOLD_WITHIN).count();
            let due = u64::try_from(due).unwrap_or(u64::MAX);
            (due > login.reported).then(|| Question { from, port, since: login.first.minus(EARLIER), due })
        };
        self.logins.iter().filter_map(of).collect()
    }

    /// Takes the answer in: how many sessions the gate never told of that were not counted before.
    pub(super) fn answered(&mut self, question: Question, told: u64) -> u64 {
        let Some(login) = self.logins.get_mut(&(question.from, question.port)) else { return 0 };
        let missing = question.due.saturating_sub(told).saturating_sub(login.reported);
        login.reported = login.reported.saturating_add(missing);
        missing
    }

    /// Forgets what is over; logins that asked for nothing come back, each once.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Vec<IpAddr> {
        let mut nothing = Vec::new();
        for ((from, _), login) in &mut self.logins {
            let late = now.since(login.first) >= ASKS_WITHIN;
            if login.sessions.is_empty() && late && !login.asked_nothing {
                login.asked_nothing = true;
                nothing.push(*from);
            }
        }
        self.logins.retain(|_, login| now.since(login.last) < MEMORY);
        nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> IpAddr {
        "192.0.2.7".parse().unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_000_000 + seconds * 1000)
    }

    fn asked(ledger: &mut Ledger, now: Timestamp, told: u64) -> u64 {
        ledger.questions(now).into_iter().map(|question| ledger.answered(question, told)).sum()
    }

    #[test]
    fn x5_a_session_of_which_the_gate_never_told_is_counted_once() {
        let mut ledger = Ledger::default();
        ledger.take(&Event::Accepted(from(), 5), at(0));
        ledger.take(&Event::Session(from(), 5), at(0));
        assert_eq!(ledger.questions(at(4)), [], "the gate has its time");
        assert_eq!(asked(&mut ledger, at(5), 0), 1);
        assert_eq!(asked(&mut ledger, at(6), 0), 0);
    }

    #[test]
    fn a_session_of_which_the_gate_told_is_nothing() {
        let mut ledger = Ledger::default();
        ledger.take(&Event::Session(from(), 5), at(0));
        assert_eq!(ledger.questions(at(5))[0].since, at(0).minus(EARLIER));
        assert_eq!(asked(&mut ledger, at(5), 1), 0);
    }

    #[test]
    fn x19_of_many_sessions_of_one_login_those_are_counted_that_were_not_told_of() {
        let mut ledger = Ledger::default();
        (0..10).for_each(|_| drop(ledger.take(&Event::Session(from(), 5), at(0))));
        assert_eq!(asked(&mut ledger, at(5), 7), 3);
        // The same port again, as a stranger may choose it: what was told before covers nothing new.
        ledger.take(&Event::Session(from(), 5), at(20));
        assert_eq!(asked(&mut ledger, at(25), 7), 1);
    }

    #[test]
    fn x19_a_login_that_asks_for_nothing_is_counted_once() {
        let mut ledger = Ledger::default();
        ledger.take(&Event::Accepted(from(), 5), at(0));
        assert!(ledger.sweep(at(59)).is_empty());
        assert_eq!(ledger.sweep(at(60)), [from()]);
        assert!(ledger.sweep(at(61)).is_empty() && ledger.sweep(at(1000)).is_empty());
        assert!(ledger.logins.is_empty());
    }

    #[test]
    fn more_logins_than_can_be_told_apart_pass_no_session_unseen() {
        let mut ledger = Ledger::default();
        for port in 0..2000 {
            ledger.take(&Event::Session(from(), port), at(0));
        }
        assert_eq!(ledger.logins.len(), LOGINS);
        assert_eq!(ledger.take(&Event::Session(from(), 65_000), at(0)), Some((from().to_string(), UNTOLD)));
        assert_eq!(ledger.take(&Event::Failed(from()), at(0)).unwrap().1, FAILED);
        assert_eq!(ledger.take(&Event::Forwarding, at(0)).unwrap(), (SSHD.to_owned(), FORWARDING));
    }
}
