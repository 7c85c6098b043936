//! Which logins the gate has told of lately, so that a session which sshd began and the gate never told of is seen.

use allod_proto::Timestamp;
use std::{collections::VecDeque, net::IpAddr, time::Duration};

/// How many are remembered, and how long.
const MOST: usize = 4096;
const LONGEST: Duration = Duration::from_secs(300);

/// The logins that asked for something, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    logins: VecDeque<(IpAddr, u16, Timestamp)>,
}

impl Asked {
    /// Somebody who logged in from there has asked for something.
    pub(crate) fn note(&mut self, from: IpAddr, port: Option<u16>, now: Timestamp) {
        let is_old = |(_, _, at): &(IpAddr, u16, Timestamp)| now.since(*at) > LONGEST;
        while self.logins.len() >= MOST || self.logins.front().is_some_and(is_old) {
            self.logins.pop_front();
        }
        if let Some(port) = port {
            self.logins.push_back((from.to_canonical(), port, now));
        }
    }

    /// How often since then.
    pub(crate) fn count(&self, from: IpAddr, port: u16, since: Timestamp) -> u64 {
        let is_it = |login: &&(IpAddr, u16, Timestamp)| {
            login.0 == from.to_canonical() && login.1 == port && login.2 >= since
        };
        u64::try_from(self.logins.iter().filter(is_it).count()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_counted_by_address_and_port_for_a_while_and_bounded() {
        let mut asked = Asked::default();
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap());
        asked.note(here, Some(5), Timestamp(1_000));
        asked.note("::ffff:192.0.2.7".parse().unwrap(), Some(5), Timestamp(2_000));
        asked.note(here, None, Timestamp(2_000));
        assert_eq!(asked.count(here, 5, Timestamp(0)), 2);
        assert_eq!(asked.count(here, 5, Timestamp(1_500)), 1);
        assert_eq!((asked.count(here, 6, Timestamp(0)), asked.count(there, 5, Timestamp(0))), (0, 0));
        for _ in 0..2 * MOST {
            asked.note(there, Some(9), Timestamp(3_000));
        }
        assert_eq!(asked.logins.len(), MOST);
        asked.note(there, Some(9), Timestamp(3_000).plus(LONGEST * 2));
        assert_eq!(asked.logins.len(), 1);
    }
}
