//! A server that takes another identity keeps its place at the hub, with all that was witnessed of it; nobody else gets it.

use crate::{reports::Server, running::Running, status, verdict};
use allod_proto::{
    Fingerprint,
    messages::server::Succession,
    witness::{Verdict, WitnessReply},
};

/// A report with this chain.
async fn claims(hub: &Running, server: &Server, seq: u64, line: &str, chain: &[Succession]) -> WitnessReply {
    let mut report = server.report(hub.now(), seq, line);
    report.succession = chain.to_vec();
    let answer = hub.report(&report).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn known(hub: &Running) -> Vec<(Fingerprint, u64)> {
    let servers = status(hub).await.servers;
    let mut known: Vec<_> = servers.into_iter().map(|it| (it.identity, it.head.seq)).collect();
    known.sort();
    known
}

#[tokio::test]
async fn an_impostor_that_claims_to_be_a_successor_is_a_stranger_and_the_server_stays() {
    let hub = Running::start().await;
    let (server, thief) = (Server::new(1), Server::new(2));
    verdict(&hub, &server, 10, "ten").await;
    // Signed by the thief itself; signed for somebody else; a chain with a gap; none at all.
    let own = Succession { old: server.identity(), ..thief.rotated(2, hub.now()).1 };
    let elsewhere = Succession { new: thief.identity(), ..server.rotated(3, hub.now()).1 };
    let gap = [server.rotated(3, hub.now()).1, Server::new(4).rotated(2, hub.now()).1];
    for chain in [&[own][..], &[elsewhere], &gap, &[]] {
        claims(&hub, &thief, 3, "three", chain).await;
        let mut expected = [(server.identity(), 10), (thief.identity(), 3)];
        expected.sort();
        assert_eq!(known(&hub).await, expected, "{chain:?}");
    }
    assert_eq!(verdict(&hub, &server, 11, "eleven").await.verdict, Verdict::Witnessed);
}

#[tokio::test]
async fn a_rotated_server_keeps_its_place_and_its_head_also_over_a_restart() {
    let mut hub = Running::start().await;
    let first = Server::new(1);
    verdict(&hub, &first, 10, "ten").await;
    let (second, one) = first.rotated(2, hub.now());
    let (third, two) = second.rotated(3, hub.now());
    // It slept through the second identity.
    let reply = claims(&hub, &third, 9, "nine", &[one.clone(), two.clone()]).await;
    assert_eq!((reply.verdict, reply.highest.seq), (Verdict::GoneBack, 10), "a shorter record is noticed");
    assert_eq!(known(&hub).await, [(third.identity(), 10)]);
    hub.restart().await;
    assert_eq!(known(&hub).await, [(third.identity(), 10)]);
    // Whoever still has the first identity is a stranger now.
    verdict(&hub, &first, 20, "twenty").await;
    assert_eq!(known(&hub).await.len(), 2);
    assert!(known(&hub).await.contains(&(third.identity(), 10)));
}

#[tokio::test]
async fn a_server_that_first_reports_as_a_stranger_does_not_shake_off_what_was_witnessed() {
    let hub = Running::start().await;
    let first = Server::new(1);
    verdict(&hub, &first, 10, "ten").await;
    let (second, link) = first.rotated(2, hub.now());
    assert_eq!(claims(&hub, &second, 4, "four", &[]).await.verdict, Verdict::Witnessed);
    let reply = claims(&hub, &second, 5, "five", std::slice::from_ref(&link)).await;
    assert_eq!((reply.verdict, reply.highest.seq), (Verdict::GoneBack, 10));
    assert_eq!(known(&hub).await, [(second.identity(), 10)]);
}

#[tokio::test]
async fn a_server_that_first_reports_as_a_stranger_and_is_honest_is_one_again() {
    let hub = Running::start().await;
    let first = Server::new(1);
    verdict(&hub, &first, 10, "ten").await;
    let (second, link) = first.rotated(2, hub.now());
    claims(&hub, &second, 12, "twelve", &[]).await;
    let reply = claims(&hub, &second, 13, "thirteen", std::slice::from_ref(&link)).await;
    assert_eq!(reply.verdict, Verdict::Witnessed);
    assert_eq!(known(&hub).await, [(second.identity(), 13)]);
}
