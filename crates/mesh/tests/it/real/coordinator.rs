//! The driver for Headscale with a real one: what it says is true of machines that join.

use super::lab::Tailnet;
use allod_mesh::coordination::{
    Coordination as _, CoordinationError, Endpoint, Headscale, JoinOwner, JoinRequest, NodeName, Policy,
    Secret, Tag,
};
use allod_proto::Timestamp;
use std::time::{Duration, SystemTime};

const POLICY: &str = "{\n  // everybody, for a test\n  \"tagOwners\": {\"tag:server\": []},\n  \"acls\": [{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"*:*\"]}],\n}\n";

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn request(owner: JoinOwner) -> JoinRequest {
    JoinRequest { owner, reusable: false, ephemeral: false, lasts: Duration::from_secs(600) }
}

/// Does something with the coordinator, from its own host.
fn with<T: Send + 'static>(
    net: &Tailnet,
    key: &str,
    does: impl AsyncFnOnce(Headscale) -> T + Send + 'static,
) -> T {
    let key = Secret::new(key.to_owned());
    let asking = net.lab.on("hub", move || async move {
        let endpoint = Endpoint::parse("http://10.77.0.1:8080", true).unwrap();
        does(Headscale::new(endpoint, key).unwrap()).await
    });
    asking.join().unwrap()
}

#[test]
fn a_real_headscale_is_administered_and_its_keys_let_in_as_they_say() {
    let Some(mut net) = Tailnet::with(&["one"]) else { return };
    let key = net.headscale(&["apikeys", "create"]).trim().to_owned();

    let refused = with(&net, "hskey-api-0123456789ab-nothing", async |it| it.nodes().await.map(drop));
    assert!(matches!(refused, Err(CoordinationError::NotAccepted { .. })), "{refused:?}");

    let (good, ended) = with(&net, &key, async |it| {
        assert!(it.health().await.unwrap().well);
        assert!(it.users().await.unwrap().iter().any(|user| user.name == "ops"));
        assert_eq!(it.create_user("bob").await.unwrap().name, "bob");
        assert_eq!(it.policy().await.unwrap().text, "", "none was set yet");
        it.set_policy(&Policy { text: POLICY.to_owned(), version: None }).await.unwrap();
        assert_eq!(it.policy().await.unwrap().text, POLICY);
        let refused = it.set_policy(&Policy { text: "{".to_owned(), version: None }).await;
        assert!(refused.is_err(), "{refused:?}");

        let tagged = request(JoinOwner::Tags(vec![Tag::new("tag:server").unwrap()]));
        let good = it.mint_join(tagged, now()).await.unwrap();
        assert!(good.key.is_good(now()), "{good:?}");
        let ended = it.mint_join(request(JoinOwner::User("bob".to_owned())), now()).await.unwrap();
        it.revoke_join(&ended.key.id).await.unwrap();
        let listed = it.list_join().await.unwrap();
        let is_good = |id: &str| listed.iter().find(|key| key.id == id).unwrap().is_good(now());
        assert!(is_good(&good.key.id) && !is_good(&ended.key.id), "{listed:?}");
        (good.secret.expose().to_owned(), ended.secret.expose().to_owned())
    });

    net.lab.host("two", "10.77.0.20");
    net.start_daemon("two");
    assert!(!net.joins("two", &ended), "a key that was ended let somebody in");
    assert!(net.joins("two", &good));
    net.lab.host("three", "10.77.0.21");
    net.start_daemon("three");
    assert!(!net.joins("three", &good), "a key for one machine let a second one in");

    with(&net, &key, async |it| {
        let nodes = it.nodes().await.unwrap();
        let find = |name: &str| nodes.iter().find(|node| node.name == name).unwrap().clone();
        let (one, two) = (find("one"), find("two"));
        assert_eq!((one.user.as_deref(), one.online), (Some("ops"), Some(true)));
        assert_eq!((two.user, two.tags), (None, vec!["tag:server".to_owned()]));
        assert_eq!(one.addresses.len(), 2);
        it.rename_node(&two.id, &NodeName::new("web1").unwrap()).await.unwrap();
        it.expire_node(&one.id).await.unwrap();
        let nodes = it.nodes().await.unwrap();
        let expired = nodes.iter().find(|node| node.id == one.id).unwrap();
        assert!(expired.key_expiry.is_some_and(|at| at <= now()), "{expired:?}");
        assert!(nodes.iter().any(|node| node.name == "web1"));

        let folder = tempfile::tempdir().unwrap();
        let manifest = it.backup(folder.path()).await.unwrap();
        assert!(manifest.files.contains(&("nodes.json".to_owned(), nodes.len())), "{manifest:?}");

        it.delete_node(&two.id).await.unwrap();
        assert!(it.nodes().await.unwrap().iter().all(|node| node.id != two.id));
        let gone = it.delete_node(&two.id).await;
        assert!(matches!(gone, Err(CoordinationError::NotFound { .. })), "{gone:?}");
    });

    // Its own daemon, asked by the other driver, says of the machine that was expired what to do.
    let socket = net.socket("one");
    let watching = net.lab.on("one", || async move {
        let settings = allod_mesh::TailscaledSettings::at(socket);
        let mesh = allod_mesh::TailscaledMesh::start(settings).await.unwrap();
        let ended =
            |status: &allod_mesh::MeshStatus| status.troubles.contains(&allod_mesh::Trouble::KeyExpired);
        allod_mesh::Mesh::watch(&mesh).wait_for(ended).await.unwrap().clone()
    });
    let status = watching.join().unwrap();
    assert!(!status.up && status.addresses.is_empty(), "{status:?}");
}
