use super::*;
use crate::Signer as _;
use crate::fixtures::{NOW, epoch, head, judge, key, nonce};
use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn window() -> Window {
    Window::new(epoch(1), 100, 1000)
}

fn spend(window: &mut Window, name: &str, signed_at: Timestamp, now: Timestamp) -> Result<(), ReplayError> {
    window.spend((&key(1).fingerprint(), &nonce(name), signed_at), &epoch(1), now)
}

#[test]
fn a_request_of_another_epoch_is_refused() {
    let mut window = window();
    let key = key(1).fingerprint();
    let found = window.spend((&key, &nonce("a"), NOW), &epoch(2), NOW);
    assert_eq!(found, Err(ReplayError::StaleEpoch));
    window.renew(epoch(2));
    assert_eq!(spend(&mut window, "a", NOW, NOW), Err(ReplayError::StaleEpoch));
    assert_eq!(window.epoch(), &epoch(2));
}

#[test]
fn a_request_outside_the_window_is_refused_with_the_servers_time() {
    let clock = Err(ReplayError::Clock { server: NOW });
    for milliseconds in [60_001, 61_000, u64::MAX] {
        let span = Duration::from_millis(milliseconds);
        assert_eq!(spend(&mut window(), "a", NOW.minus(span), NOW), clock);
        assert_eq!(spend(&mut window(), "a", NOW.plus(span), NOW), clock);
    }
    for signed_at in [NOW.minus(60 * SECOND), NOW.plus(60 * SECOND), NOW] {
        assert_eq!(spend(&mut window(), "a", signed_at, NOW), Ok(()));
    }
}

#[test]
fn the_same_request_twice_is_refused() {
    let mut window = window();
    let line = format!("role=viewer {}", key(1).public_openssh());
    let verified = judge(&head(&key(1)), &line, "", NOW).unwrap();
    assert_eq!(window.admit(&verified, NOW), Ok(()));
    assert_eq!(window.admit(&verified, NOW), Err(ReplayError::Replayed));
    assert_eq!(window.admit(&verified, NOW.plus(60 * SECOND)), Err(ReplayError::Replayed));
}

#[test]
fn the_same_nonce_of_two_keys_is_two_requests() {
    let mut window = window();
    assert_eq!(spend(&mut window, "a", NOW, NOW), Ok(()));
    let other = key(2).fingerprint();
    assert_eq!(window.spend((&other, &nonce("a"), NOW), &epoch(1), NOW), Ok(()));
}

#[test]
fn a_request_dated_ahead_stays_spent_as_long_as_it_is_fresh() {
    let mut window = window();
    let ahead = NOW.plus(60 * SECOND);
    assert_eq!(spend(&mut window, "a", ahead, NOW), Ok(()));
    for seconds in [0, 59, 60, 61, 119, 120] {
        assert_eq!(spend(&mut window, "a", ahead, NOW.plus(seconds * SECOND)), Err(ReplayError::Replayed));
    }
    let after = NOW.plus(121 * SECOND);
    assert_eq!(spend(&mut window, "a", ahead, after), Err(ReplayError::Clock { server: after }));
}

#[test]
fn a_clock_set_back_makes_nothing_fresh_again() {
    let mut window = window();
    assert_eq!(spend(&mut window, "a", NOW, NOW), Ok(()));
    let later = NOW.plus(100 * SECOND);
    assert_eq!(spend(&mut window, "b", later, later), Ok(()));
    assert_eq!(window.len(), 1, "a is forgotten");
    assert_eq!(spend(&mut window, "a", NOW, NOW), Err(ReplayError::Clock { server: later }));
}

#[test]
fn a_new_epoch_sets_the_clock_free() {
    let mut window = window();
    assert_eq!(spend(&mut window, "a", NOW, NOW), Ok(()));
    window.renew(epoch(2));
    assert!(window.is_empty());
    let earlier = Timestamp(1000);
    let key = key(1).fingerprint();
    assert_eq!(window.spend((&key, &nonce("a"), earlier), &epoch(2), earlier), Ok(()));
}

#[test]
fn the_same_epoch_again_forgets_nothing() {
    let mut window = window();
    assert_eq!(spend(&mut window, "a", NOW, NOW), Ok(()));
    window.renew(epoch(1));
    assert_eq!(spend(&mut window, "a", NOW, NOW), Err(ReplayError::Replayed));
}

#[test]
fn a_full_window_refuses_and_forgets_no_live_nonce() {
    let mut window = Window::new(epoch(1), 100, 3);
    for name in ["a", "b", "c"] {
        assert_eq!(spend(&mut window, name, NOW, NOW), Ok(()));
    }
    assert_eq!(spend(&mut window, "d", NOW, NOW), Err(ReplayError::Full));
    assert_eq!(spend(&mut window, "a", NOW, NOW), Err(ReplayError::Replayed));
    let later = NOW.plus(61 * SECOND);
    assert_eq!(spend(&mut window, "d", later, later), Ok(()));
}

#[test]
fn one_key_cannot_starve_the_others() {
    let mut window = Window::new(epoch(1), 2, 100);
    assert_eq!(spend(&mut window, "a", NOW, NOW), Ok(()));
    assert_eq!(spend(&mut window, "b", NOW, NOW), Ok(()));
    assert_eq!(spend(&mut window, "c", NOW, NOW), Err(ReplayError::Full));
    let other = key(2).fingerprint();
    assert_eq!(window.spend((&other, &nonce("c"), NOW), &epoch(1), NOW), Ok(()));
}

#[test]
fn a_few_keys_that_fill_the_window_cannot_starve_a_quiet_one() {
    let mut window = Window::new(epoch(1), 2000, 3000);
    let all = |window: &mut Window, seed: u8, count: u32| {
        let key = key(seed).fingerprint();
        let spend = |n: &u32| window.spend((&key, &nonce(&n.to_string()), NOW), &epoch(1), NOW).is_ok();
        (0..count).filter(spend).count()
    };
    assert_eq!((all(&mut window, 1, 5000), all(&mut window, 2, 5000)), (2000, 1000));
    assert_eq!(all(&mut window, 1, 5000), 0);
    assert_eq!(all(&mut window, 3, 5000), 3, "a thousandth of all is every key's");
}

#[test]
fn nonces_by_the_million_leave_the_window_as_large_as_it_was_and_an_honest_key_inside() {
    let mut window = Window::new(epoch(1), 65_536, 262_144);
    let (loud, quiet) = (key(1).fingerprint(), key(2).fingerprint());
    let (mut admitted, mut most) = (0_u32, 0);
    // Ten minutes, a hundred thousand requests in each.
    for n in 0..1_000_000_u32 {
        let now = NOW.plus(Duration::from_micros(600 * u64::from(n)));
        let request = (&loud, &nonce(&n.to_string()), now);
        admitted += u32::from(window.spend(request, &epoch(1), now).is_ok());
        if n % 10_000 == 0 {
            let request = (&quiet, &nonce(&n.to_string()), now);
            assert_eq!(window.spend(request, &epoch(1), now), Ok(()), "after {n}");
            assert_eq!(window.spend(request, &epoch(1), now), Err(ReplayError::Replayed));
        }
        most = most.max(window.len());
    }
    assert!(most <= 65_536 + 100, "{most}");
    assert!(admitted >= 500_000, "{admitted}");
    let sizes = (window.seen.len(), window.of_key.values().sum::<usize>());
    assert_eq!(sizes, (window.len(), window.len()), "three views of the same");
}

#[test]
fn a_refused_request_spends_nothing() {
    let mut window = window();
    assert!(spend(&mut window, "a", NOW.plus(61 * SECOND), NOW).is_err());
    assert!(window.is_empty());
    assert_eq!(spend(&mut window, "a", NOW.plus(61 * SECOND), NOW.plus(SECOND)), Ok(()));
}

#[test]
fn a_nonce_read_back_from_the_record_is_spent_even_beyond_capacity() {
    let mut window = Window::new(epoch(1), 0, 0);
    window.remember(&key(1).fingerprint(), &nonce("a"), NOW);
    assert_eq!(spend(&mut window, "a", NOW, NOW), Err(ReplayError::Replayed));
    assert_eq!(window.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Clock(i64),
    Request { key: u8, name: u8, offset: i64 },
    Again(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (-90_000..90_000_i64).prop_map(Step::Clock),
        (0..2_u8, 0..3_u8, -70_000..70_000_i64).prop_map(|(key, name, offset)| Step::Request {
            key,
            name,
            offset
        }),
        (0..20_usize).prop_map(Step::Again),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever the clock does, the very same request is done once at most, and nothing is held beyond its bounds.
    #[test]
    fn no_request_is_admitted_twice(steps in steps()) {
        let keys = [key(1).fingerprint(), key(2).fingerprint()];
        let mut window = Window::new(epoch(1), 4, 6);
        let (mut now, mut latest) = (NOW, Timestamp(0));
        let mut sent: Vec<(u8, u8, Timestamp)> = Vec::new();
        let mut admitted: Vec<(u8, u8, Timestamp)> = Vec::new();
        for step in steps {
            let request = match step {
                Step::Clock(by) => {
                    now = Timestamp(now.0.saturating_add_signed(by));
                    continue;
                }
                Step::Request { key, name, offset } => (key, name, Timestamp(now.0.saturating_add_signed(offset))),
                Step::Again(index) => match sent.get(index) {
                    Some(request) => *request,
                    None => continue,
                },
            };
            latest = latest.max(now);
            let (key, name, signed_at) = request;
            let nonce = nonce(&name.to_string());
            let outcome = window.spend((&keys[usize::from(key)], &nonce, signed_at), &epoch(1), now);
            let live = |other: &&(u8, u8, Timestamp)| other.2.plus(FRESHNESS) >= latest;
            let used = admitted.iter().filter(live).any(|other| (other.0, other.1) == (key, name));
            if outcome.is_ok() {
                assert!(!admitted.contains(&request), "admitted twice");
                assert!(!used, "the nonce was live");
                assert!(signed_at.distance(latest) <= FRESHNESS);
                admitted.push(request);
            } else if outcome == Err(ReplayError::Replayed) {
                assert!(used, "refused as replayed without cause");
            }
            assert!(window.len() <= 6);
            sent.push(request);
        }
    }
}
