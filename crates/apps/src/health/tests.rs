//! When to try again and when to give up; what the Host header says.

use super::*;
use crate::fake::spec;
use allod_proto::{UnitName, routes::RoutePattern};

#[test]
fn the_time_is_up_only_after_a_try_at_its_end() {
    let mut waiting = Waiting::new(Duration::from_secs(3));
    let mut at = Duration::ZERO;
    let mut pauses = Vec::new();
    loop {
        match waiting.judge(at, &Seen::NotYet) {
            Verdict::Again(pause) => {
                pauses.push(u64::try_from(pause.as_millis()).unwrap());
                at += pause;
            }
            verdict => {
                assert_eq!((verdict, at), (Verdict::TimeIsUp, Duration::from_secs(3)));
                break;
            }
        }
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 740]);
}

#[test]
fn an_end_or_a_success_counts_whatever_the_time() {
    let late = Duration::from_secs(100);
    let mut waiting = Waiting::new(Duration::from_secs(3));
    assert_eq!(waiting.judge(Duration::ZERO, &Seen::Ended), Verdict::Ended);
    assert_eq!(waiting.judge(late, &Seen::Ended), Verdict::Ended);
    assert_eq!(waiting.judge(late, &Seen::Well), Verdict::Healthy);
}

#[test]
fn one_try_never_takes_longer_than_what_is_left() {
    let waiting = Waiting::new(Duration::from_secs(8));
    assert_eq!(waiting.try_for(Duration::ZERO), TRY);
    assert_eq!(waiting.try_for(Duration::from_secs(6)), Duration::from_secs(2));
    assert_eq!(waiting.try_for(Duration::from_secs(9)), SHORTEST_TRY);
}

#[test]
fn the_host_of_a_probe_is_one_the_app_expects() {
    let mut unit = spec().units.remove(&UnitName::new("web").unwrap()).unwrap();
    let address = "127.0.0.1:20001".parse().unwrap();
    assert_eq!(probe_host(&unit, Some("given.example"), address), "given.example");
    assert_eq!(probe_host(&unit, None, address), "shop.example.com");
    unit.routes = vec![RoutePattern::parse("*.example.com").unwrap()];
    assert_eq!(probe_host(&unit, None, address), "health.example.com");
    unit.routes = vec![RoutePattern::parse("/api").unwrap()];
    assert_eq!(probe_host(&unit, None, address), "127.0.0.1:20001");
}
