//! Revoking a key on many servers.

use crate::{person::Person, server::Server};

#[tokio::test]
async fn where_a_key_may_still_work_is_not_overlooked() {
    let person = Person::new(1);
    let mut dead = Server::start("web2", 60, 1).await;
    for server in [&Server::start("web1", 50, 1).await, &dead] {
        let (address, identity) = (server.address.to_string(), server.identity.to_string());
        assert_eq!(person.run(&["servers", "add", &address, "--identity", &identity]).await.exit, 0);
    }
    dead.stop().await;
    let unsure = person.run(&["keys", "revoke", "ana@laptop", "--json", "--yes"]).await;
    assert_eq!(unsure.exit, 2, "two servers, and none was named: {unsure:?}");
    let unasked = person.run(&["keys", "revoke", "ana@laptop", "--all-servers"]).await;
    assert_eq!(unasked.exit, 9, "{unasked:?}");
    let partly = person.run(&["keys", "revoke", "ana@laptop", "--all-servers", "--json", "--yes"]).await;
    assert_eq!(partly.exit, 7, "{partly:?}");
    assert_eq!(partly.json()["not_reached"], serde_json::json!(["web2"]));
    assert_eq!(partly.json()["servers"][0]["ok"], true);
    let unknown = person.run(&["keys", "revoke", "nobody", "--server", "web1", "--yes"]).await;
    assert_eq!(unknown.exit, 5, "{unknown:?}");
}

#[tokio::test]
async fn a_private_key_is_never_sent() {
    let person = Person::new(1);
    let path = person.path(".ssh/id_ed25519").display().to_string();
    let ended = person.run(&["keys", "add", &path, "--role", "viewer", "--yes"]).await;
    assert_eq!(ended.exit, 2);
    assert!(ended.err.contains("stays here"), "{ended:?}");
}
