//! What every driver of `Coordination` keeps, whoever coordinates: the same tests over each, against a stand-in that speaks
//! its language; and what each does where its own coordinator is odd or hostile.

mod fake;
mod headscale;
mod odd;
mod tailscale;

use allod_mesh::coordination::{
    Coordination, CoordinationError, JoinOwner, JoinRequest, NodeId, NodeName, Policy, Tag,
};
use allod_proto::Timestamp;
use fake::Fake;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// A driver, and the stand-in that it administers: two machines, one of them tagged, and one user.
struct Subject {
    it: Box<dyn Coordination>,
    fake: Fake,
}

fn request() -> JoinRequest {
    JoinRequest {
        owner: JoinOwner::Tags(vec![Tag::new("tag:server").unwrap()]),
        reusable: false,
        ephemeral: false,
        lasts: Duration::from_secs(600),
    }
}

async fn a_key_of_nobodys_is_not_asked_for(subject: Subject) {
    let refused =
        subject.it.mint_join(JoinRequest { owner: JoinOwner::Tags(Vec::new()), ..request() }, NOW).await;
    assert!(matches!(refused, Err(CoordinationError::Word { .. })), "{refused:?}");
    assert!(subject.fake.asked().is_empty(), "{:?}", subject.fake.asked());
}

async fn who_is_not_accepted_is_told_so_without_the_key(subject: Subject) {
    subject.fake.accepts("another secret");
    for refused in [
        subject.it.health().await.map(drop),
        subject.it.nodes().await.map(drop),
        subject.it.mint_join(request(), NOW).await.map(drop),
        subject.it.policy().await.map(drop),
    ] {
        assert!(matches!(&refused, Err(CoordinationError::NotAccepted { .. })), "{refused:?}");
        let refused = refused.unwrap_err();
        let shown = format!("{refused:?} {refused}");
        assert!(!shown.contains(fake::SECRET), "{shown}");
    }
}

async fn a_machine_or_key_that_is_not_there_is_told_as_that(subject: Subject) {
    let gone = NodeId::new("999999").unwrap();
    let name = NodeName::new("web2").unwrap();
    for refused in [
        subject.it.expire_node(&gone).await,
        subject.it.delete_node(&gone).await,
        subject.it.rename_node(&gone, &name).await,
        subject.it.revoke_join("999999").await,
    ] {
        assert!(matches!(refused, Err(CoordinationError::NotFound { .. })), "{refused:?}");
    }
}

async fn an_id_that_is_another_path_never_leaves(subject: Subject) {
    for bad in ["../node", "1/../2", "1?force=true", "", "1 2"] {
        assert!(matches!(subject.it.revoke_join(bad).await, Err(CoordinationError::Word { .. })), "{bad}");
    }
    assert!(subject.fake.asked().is_empty());
}

async fn a_key_is_shown_once_counted_and_ended(subject: Subject) {
    let granted = subject.it.mint_join(request(), NOW).await.unwrap();
    assert!(granted.secret.expose().len() > 8);
    assert!(!format!("{granted:?}").contains(granted.secret.expose()));
    assert!(
        granted.key.is_good(NOW) && !granted.key.reusable && granted.key.tags == ["tag:server"],
        "{granted:?}"
    );
    let ends = granted.key.expires.unwrap();
    assert!(ends.distance(NOW.plus(request().lasts)) < Duration::from_secs(60), "{ends}");

    let listed = subject.it.list_join().await.unwrap();
    let found = listed.iter().find(|key| key.id == granted.key.id).unwrap();
    assert!(found.is_good(NOW) && !format!("{listed:?}").contains(granted.secret.expose()), "{listed:?}");
    subject.it.revoke_join(&granted.key.id).await.unwrap();
    let listed = subject.it.list_join().await.unwrap();
    assert!(listed.iter().all(|key| key.id != granted.key.id || !key.is_good(NOW)), "{listed:?}");
}

async fn machines_are_listed_renamed_expired_and_removed(subject: Subject) {
    let nodes = subject.it.nodes().await.unwrap();
    let [laptop, server] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert!(laptop.user.is_some() && laptop.tags.is_empty() && laptop.key_expiry.is_some(), "{laptop:?}");
    assert_eq!(
        (&server.user, server.tags.as_slice(), server.key_expiry),
        (&None, &["tag:server".to_owned()][..], None)
    );
    for node in &nodes {
        assert!(node.addresses.iter().all(|ip| allod_mesh::is_mesh_address(*ip)), "{node:?}");
        assert_eq!(node.addresses.len(), 2);
    }
    let name = NodeName::new("web2").unwrap();
    subject.it.rename_node(&server.id, &name).await.unwrap();
    assert!(subject.it.nodes().await.unwrap().iter().any(|node| node.name.starts_with("web2")));
    subject.it.expire_node(&laptop.id).await.unwrap();
    let expired = subject.it.nodes().await.unwrap().into_iter().find(|node| node.id == laptop.id).unwrap();
    assert!(expired.key_expiry.is_some_and(|at| at <= NOW), "{expired:?}");
    subject.it.delete_node(&laptop.id).await.unwrap();
    assert_eq!(subject.it.nodes().await.unwrap().len(), 1);
}

async fn a_policy_is_read_and_written_as_it_is(subject: Subject) {
    let text = "{\n  // nobody, but\n  \"acls\": [],\n}\n".to_owned();
    subject.it.set_policy(&Policy { text: text.clone(), version: None }).await.unwrap();
    let policy = subject.it.policy().await.unwrap();
    assert_eq!(policy.text, text);
    assert_eq!(policy.version.is_some(), subject.it.capabilities().guards_policy);
    let stale = Policy { text: "{}".to_owned(), version: Some("\"stale\"".to_owned()) };
    let refused = subject.it.set_policy(&stale).await;
    let meant =
        matches!(refused, Err(CoordinationError::Conflict { .. } | CoordinationError::Unsupported { .. }));
    assert!(meant, "{refused:?}");
    assert_eq!(subject.it.policy().await.unwrap().text, text);
}

async fn people_are_listed(subject: Subject) {
    let users = subject.it.users().await.unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(users[0].name, "ann@example.org");
    let made = subject.it.create_user("bob").await;
    assert_eq!(made.is_ok(), subject.it.capabilities().creates_users, "{made:?}");
}

async fn a_coordinator_that_is_well_says_so(subject: Subject) {
    assert!(subject.it.health().await.unwrap().well);
}

async fn a_backup_has_no_secrets_and_says_what_is_missing(subject: Subject) {
    let granted = subject.it.mint_join(request(), NOW).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let manifest = subject.it.backup(folder.path()).await.unwrap();
    assert!(
        manifest.files.contains(&("nodes.json".to_owned(), 2)) && !manifest.missing.is_empty(),
        "{manifest:?}"
    );
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(granted.secret.expose()) && !text.contains(fake::SECRET), "{path:?}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    assert!(folder.path().join("manifest.json").exists());
}

macro_rules! every_law {
    ($($driver:ident: $make:expr;)+) => {
        $(mod $driver {
            every_law!(@laws $make;
                a_key_of_nobodys_is_not_asked_for
                who_is_not_accepted_is_told_so_without_the_key
                a_machine_or_key_that_is_not_there_is_told_as_that
                an_id_that_is_another_path_never_leaves
                a_key_is_shown_once_counted_and_ended
                machines_are_listed_renamed_expired_and_removed
                a_policy_is_read_and_written_as_it_is
                people_are_listed
                a_coordinator_that_is_well_says_so
                a_backup_has_no_secrets_and_says_what_is_missing
            );
        })+
    };
    (@laws $make:expr; $($law:ident)+) => {
        $(#[tokio::test]
        async fn $law() {
            super::$law($make.await).await;
        })+
    };
}

every_law! {
    contract_headscale_0_28: super::headscale::subject(super::headscale::Age::Grpc);
    contract_headscale_0_30: super::headscale::subject(super::headscale::Age::Problems);
    contract_tailscale: super::tailscale::subject();
}
