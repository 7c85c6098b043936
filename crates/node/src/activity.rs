//! How many connections are open: on the socket, and those that are passed on. When there were none for a while, a node that was
//! started on demand ends.

use std::{collections::HashMap, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};
use tokio::sync::watch;

/// Connections on the socket at once.
pub(crate) const MOST: usize = 1024;
/// Of these, of one user: the others' programs must get in too.
pub(crate) const MOST_OF_ONE: usize = 768;

/// What is open now.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    open: Arc<watch::Sender<usize>>,
    by_user: Arc<Mutex<HashMap<u32, usize>>>,
}

/// One open connection; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    of: Activity,
    user: Option<u32>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(0)), by_user: Arc::default() }
    }

    /// One of a user, if there is room for it.
    pub(crate) fn of_user(&self, user: u32) -> Option<Open> {
        let mut users = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = users.values().sum();
        let theirs = users.entry(user).or_default();
        if total >= MOST || *theirs >= MOST_OF_ONE {
            return None;
        }
        *theirs = theirs.saturating_add(1);
        drop(users);
        self.count_up();
        Some(Open { of: self.clone(), user: Some(user) })
    }

    /// One of the node's own. Whoever makes these has a bound of their own.
    pub(crate) fn own(&self) -> Open {
        self.count_up();
        Open { of: self.clone(), user: None }
    }

    fn count_up(&self) {
        self.open.send_modify(|open| *open = open.saturating_add(1));
    }

    /// Resolves when nothing was open for so long.
    pub(crate) async fn has_been_idle(&self, span: Duration) {
        let mut open = self.open.subscribe();
        loop {
            // The sender is `self`'s.
            if open.wait_for(|open| *open == 0).await.is_err() {
                return;
            }
            // Any change is a use, also one that was over before it could be looked at.
            if tokio::time::timeout(span, open.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(user) = self.user {
            let mut users = self.of.by_user.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(theirs) = users.get_mut(&user) {
                *theirs = theirs.saturating_sub(1);
                if *theirs == 0 {
                    users.remove(&user);
                }
            }
        }
        self.of.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    #[test]
    fn one_user_leaves_room_for_others_and_all_together_have_a_bound() {
        let activity = Activity::new();
        let first: Vec<_> = std::iter::repeat_with(|| activity.of_user(1)).take(MOST).flatten().collect();
        assert_eq!(first.len(), MOST_OF_ONE);
        let second: Vec<_> = std::iter::repeat_with(|| activity.of_user(2)).take(MOST).flatten().collect();
        assert_eq!(first.len() + second.len(), MOST);
        assert!(activity.of_user(3).is_none());
        drop(second);
        assert!(activity.of_user(3).is_some() && activity.of_user(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_idle_while_something_is_open_nor_before_the_time_is_up() {
        let activity = Activity::new();
        let open = activity.of_user(1).unwrap();
        let long = SPAN * 100;
        assert!(tokio::time::timeout(long, activity.has_been_idle(SPAN)).await.is_err());
        drop(open);
        let short = SPAN - Duration::from_secs(1);
        assert!(tokio::time::timeout(short, activity.has_been_idle(SPAN)).await.is_err());
        assert!(tokio::time::timeout(long, activity.has_been_idle(SPAN)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn each_use_begins_the_time_anew() {
        let activity = Activity::new();
        let idle = activity.has_been_idle(SPAN);
        let using = async {
            for _ in 0..10 {
                tokio::time::sleep(SPAN / 2).await;
                drop(activity.own());
            }
        };
        let begun = tokio::time::Instant::now();
        tokio::join!(idle, using);
        assert_eq!(begun.elapsed(), SPAN * 6);
    }
}
