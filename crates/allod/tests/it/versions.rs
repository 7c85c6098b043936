//! What clients of the protocol version before this one send is answered as it was.

use crate::{
    wire::{Draft, send},
    world::World,
};
use allod_proto::{Request, headers, messages::server::ServerStatus};
use allod_rpc::client::hello;

const REQUESTS: &str = include_str!("../../../proto/tests/golden/v1/requests.jsonl");

#[tokio::test]
async fn what_version_1_asked_is_still_answered_in_version_1() {
    let world = World::up().await;
    let greeting = hello(world.management).await.unwrap();
    assert_eq!((greeting.oldest, greeting.newest), (1, 2));
    for line in REQUESTS.lines() {
        let request = Request::parse(line.as_bytes()).unwrap();
        let name = request.command.name().as_str();
        let reply = if matches!(name, "hello" | "server_info") {
            send(world.management, "POST", headers::RPC_PATH, &[], line.as_bytes()).await
        } else if matches!(name, "audit.follow" | "app.chunk") {
            // One goes on for ever, the other comes by PUT.
            continue;
        } else {
            let mut draft = Draft::new(&world.identity, &greeting.epoch, ServerStatus {});
            draft.body = line.as_bytes().to_vec();
            draft.sign(&world.owner()).send(world.management).await
        };
        assert_eq!(reply.body.v, 1, "{name}: {reply:?}");
        assert!(
            !matches!(reply.code(), "malformed" | "version" | "refused" | "internal"),
            "{name}: {reply:?}"
        );
        assert_eq!(reply.body.id.as_ref(), Some(&request.id), "{name}: {reply:?}");
    }
}
