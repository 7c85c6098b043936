use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn later(milliseconds: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(milliseconds))
}

/// Pinged at `sent`, answered `trip` milliseconds later.
fn answer(paths: &mut Paths, address: SocketAddr, sent: u64, trip: u64) {
    paths.pinged(later(sent), address);
    paths.answered(later(sent + trip), address, later(sent));
}

fn with(addresses: &[SocketAddr]) -> Paths {
    let mut paths = Paths::default();
    paths.name(NOW, addresses);
    paths
}

#[test]
fn without_a_pong_the_relay_is_used() {
    let mut paths = with(&[at("192.0.2.1:1")]);
    paths.pinged(NOW, at("192.0.2.1:1"));
    assert_eq!(paths.route(NOW), Route::Relay);
}

#[test]
fn a_path_is_trusted_then_doubled_then_let_go() {
    let one = at("192.0.2.1:1");
    let mut paths = with(&[one]);
    answer(&mut paths, one, 0, 0);
    let end = u64::try_from(TRUST.as_millis()).unwrap();
    let gone = u64::try_from(LET_GO.as_millis()).unwrap();
    let routes = [0, end, end + 1, gone, gone + 1].map(|ms| paths.route(later(ms)));
    assert_eq!(
        routes,
        [Route::Direct(one), Route::Direct(one), Route::Both(one), Route::Both(one), Route::Relay]
    );
}

#[test]
fn a_path_over_which_nothing_comes_back_is_asked_at_once_and_doubled_until_it_answers() {
    let one = at("192.0.2.1:1");
    let mut paths = with(&[one]);
    answer(&mut paths, one, 0, 2);
    paths.due(later(10));
    paths.used(later(100));
    paths.heard(one);
    paths.used(later(200));
    assert_eq!(paths.due(later(1_199)).pings, [], "a second has not passed since then");
    assert_eq!(paths.due(later(1_200)).pings, [one]);
    paths.pinged(later(1_200), one);
    assert_eq!(paths.route(later(1_699)), Route::Direct(one));
    assert_eq!(paths.route(later(1_700)), Route::Both(one));
    paths.answered(later(1_800), one, later(1_200));
    assert_eq!(paths.route(later(1_800)), Route::Direct(one));
    assert_eq!(paths.due(later(2_300)).pings, [], "what was sent before the pong asks no more");
}

#[test]
fn a_path_whose_peer_sends_through_a_relay_is_asked_and_doubled_until_it_answers() {
    let one = at("192.0.2.1:1");
    let mut paths = with(&[one]);
    answer(&mut paths, one, 0, 2);
    paths.due(later(10));
    paths.heard_relayed(later(1_000));
    assert_eq!(paths.route(later(1_000)), Route::Both(one));
    assert_eq!(paths.due(later(1_000)).pings, [one]);
    answer(&mut paths, one, 1_000, 2);
    assert_eq!(paths.route(later(1_002)), Route::Direct(one));
}

#[test]
fn a_path_that_takes_long_is_given_three_times_as_long() {
    let far = at("192.0.2.1:1");
    let mut paths = with(&[far]);
    answer(&mut paths, far, 0, 400);
    paths.pinged(later(1_000), far);
    assert_eq!(paths.route(later(2_199)), Route::Direct(far));
    assert_eq!(paths.route(later(2_200)), Route::Both(far));
}

#[test]
fn a_slightly_better_path_is_not_changed_to_and_a_clearly_better_one_is() {
    let (one, two) = (at("192.0.2.1:1"), at("192.0.2.2:1"));
    let mut paths = with(&[one, two]);
    answer(&mut paths, one, 0, 20);
    answer(&mut paths, two, 0, 18);
    assert_eq!(paths.route(later(20)), Route::Direct(one));
    answer(&mut paths, two, 20, 5);
    assert_eq!(paths.route(later(25)), Route::Direct(two));
}

#[test]
fn of_equals_the_own_network_and_ipv6_come_first() {
    let all = [at("203.0.113.1:1"), at("[2001:db8::1]:1"), at("192.168.1.1:1")];
    let mut paths = with(&all);
    for address in all {
        paths.pinged(NOW, address);
    }
    for address in all {
        paths.candidates.get_mut(&address).unwrap().pong =
            Some(Pong { at: later(1), trip: Duration::from_millis(1) });
    }
    paths.choose(later(1));
    assert_eq!(paths.route(later(1)), Route::Direct(at("192.168.1.1:1")));
}

#[test]
fn a_path_that_falls_silent_is_left_for_one_that_answered_since() {
    let (old, new) = (at("192.0.2.1:1"), at("192.0.2.2:1"));
    let mut paths = with(&[old]);
    answer(&mut paths, old, 0, 1);
    assert_eq!(
        paths.heard_ping(later(2_000), new),
        [new, old],
        "both are asked when the peer shows up elsewhere"
    );
    paths.pinged(later(2_000), old);
    answer(&mut paths, new, 2_000, 30);
    assert_eq!(paths.route(later(2_030)), Route::Direct(old));
    paths.due(later(3_000));
    assert_eq!(paths.route(later(3_000)), Route::Direct(new));
}

#[test]
fn after_a_change_of_interface_nothing_is_trusted_until_it_answers() {
    let one = at("192.0.2.1:1");
    let mut paths = with(&[one]);
    answer(&mut paths, one, 0, 1);
    paths.doubt(later(100));
    assert_eq!(paths.route(later(100)), Route::Both(one));
    assert_eq!(paths.search(later(100)), Probe { pings: vec![one], call: true });
    answer(&mut paths, one, 100, 1);
    assert_eq!(paths.route(later(101)), Route::Direct(one));
}

#[test]
fn candidates_are_bounded_and_those_that_answered_stay() {
    let good = at("192.0.2.1:1");
    let mut paths = with(&[]);
    paths.heard_ping(NOW, good);
    answer(&mut paths, good, 0, 1);
    for port in 1..1_000 {
        paths.heard_ping(later(2), SocketAddr::new(at("203.0.113.1:1").ip(), port));
    }
    assert_eq!(paths.candidates.len(), MOST);
    assert_eq!(paths.route(later(2)), Route::Direct(good));
}

#[test]
fn what_is_not_heard_of_again_is_forgotten() {
    let mut paths = with(&[at("192.0.2.1:1")]);
    paths.called(NOW, &[at("203.0.113.1:1")]);
    paths.due(later(120_001));
    assert_eq!(paths.candidates.keys().copied().collect::<Vec<_>>(), [at("192.0.2.1:1")]);
}

proptest! {
    #[test]
    fn a_path_is_trusted_only_while_its_pong_is_young(
        steps in proptest::collection::vec((0..5_u8, 0..4_u8, 0..3_000_u64), 1..60)
    ) {
        let mut paths = with(&[]);
        let mut now = NOW;
        let mut pongs: BTreeMap<SocketAddr, Timestamp> = BTreeMap::new();
        for (what, which, wait) in steps {
            now = now.plus(Duration::from_millis(wait));
            let address = SocketAddr::from(([192, 0, 2, which], 1));
            match what {
                0 => drop(paths.heard_ping(now, address)),
                1 => paths.pinged(now, address),
                2 => {
                    if paths.candidates.contains_key(&address) {
                        paths.answered(now, address, now);
                        pongs.insert(address, now);
                    }
                }
                3 => drop(paths.due(now)),
                _ => paths.name(now, &[address]),
            }
            if let Route::Direct(at) = paths.route(now) {
                prop_assert!(now.since(pongs[&at]) <= TRUST);
            }
            prop_assert!(paths.candidates.len() <= MOST);
        }
    }
}
