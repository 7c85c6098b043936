//! What only one kind of coordinator does, and what a hostile one might.

use super::{
    NOW, Subject,
    fake::{Asked, Fake, Said, State},
    headscale::{self, Age},
    request, tailscale,
};
use allod_mesh::coordination::{
    Coordination as _, CoordinationError, Endpoint, Headscale, JoinOwner, JoinRequest, Secret,
};
use serde_json::json;

fn driver(fake: &Fake) -> Headscale {
    Headscale::new(fake.endpoint(), Secret::new(super::fake::SECRET.to_owned())).unwrap()
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    fn elsewhere(_: &mut State, _: &Asked) -> Said {
        let mut said = Said::text(302, "");
        said.headers.push(("location", "http://127.0.0.1:1/steal".to_owned()));
        said
    }
    let fake = Fake::speaking(elsewhere).await;
    let refused = driver(&fake).nodes().await;
    assert!(matches!(refused, Err(CoordinationError::Failing { status: 302, .. })), "{refused:?}");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_unreadable_and_not_repeated() {
    fn nonsense(_: &mut State, asked: &Asked) -> Said {
        match asked.path.as_str() {
            "/api/v1/node" => Said::json(200, &json!({"nodes": [{"id": "1/../2", "ipAddresses": []}]})),
            "/api/v1/user" => Said::text(200, "<html>hskey-auth-1</html>"),
            _ => Said::json(200, &json!({"preAuthKey": {"id": 5, "key": "hskey-auth-1"}})),
        }
    }
    let fake = Fake::speaking(nonsense).await;
    let it = driver(&fake);
    assert!(matches!(it.nodes().await, Err(CoordinationError::Word { .. })));
    for refused in [it.users().await.map(drop), it.mint_join(request(), NOW).await.map(drop)] {
        let Err(CoordinationError::Unreadable { why }) = refused else { panic!("{refused:?}") };
        assert!(!why.contains("hskey-auth-1"), "{why}");
    }
}

#[tokio::test]
async fn a_key_that_is_more_than_what_was_asked_for_is_refused() {
    fn generous(_: &mut State, asked: &Asked) -> Said {
        let wanted = asked.json();
        let expires = if wanted["ephemeral"] == json!(true) {
            json!("2099-01-01T00:00:00Z")
        } else {
            wanted["expiration"].clone()
        };
        let reusable = wanted["ephemeral"] != json!(true);
        Said::json(
            200,
            &json!({"preAuthKey": {"id": "5", "key": "k", "reusable": reusable, "expiration": expires}}),
        )
    }
    let fake = Fake::speaking(generous).await;
    for ephemeral in [false, true] {
        let refused = driver(&fake).mint_join(JoinRequest { ephemeral, ..request() }, NOW).await;
        assert!(matches!(refused, Err(CoordinationError::Unreadable { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    fn endless(_: &mut State, _: &Asked) -> Said {
        Said { status: 200, headers: Vec::new(), body: vec![b' '; 17 * 1024 * 1024] }
    }
    let fake = Fake::speaking(endless).await;
    let refused = driver(&fake).nodes().await;
    assert!(matches!(refused, Err(CoordinationError::Unreadable { .. })), "{refused:?}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let fake = Fake::speaking(|_, _| Said::text(200, "")).await;
    let endpoint = fake.endpoint();
    let at = fake.address;
    drop(fake);
    // The listener goes with its task.
    while tokio::net::TcpStream::connect(at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let it = Headscale::new(endpoint, Secret::new("x".to_owned())).unwrap();
    assert!(matches!(it.nodes().await, Err(CoordinationError::Unreachable { .. })));
}

#[tokio::test]
async fn what_speaks_no_tls_gets_no_key() {
    let fake = Fake::speaking(|_, _| Said::text(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, "").unwrap();
    let endpoint = Endpoint::parse(&format!("https://{}", fake.address), false).unwrap();
    let refused = Headscale::new(endpoint.clone().with_authorities(roots), Secret::new("x".to_owned()));
    assert!(refused.is_err(), "a file without authorities");
    if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        let it = Headscale::new(endpoint, Secret::new("x".to_owned())).unwrap();
        assert!(matches!(it.nodes().await, Err(CoordinationError::Unreachable { .. })));
        assert!(fake.asked().is_empty());
    }
}

#[tokio::test]
async fn a_users_key_is_asked_for_by_the_users_number() {
    let Subject { it, fake } = headscale::subject(Age::Problems).await;
    let owner = |name: &str| JoinRequest { owner: JoinOwner::User(name.to_owned()), ..request() };
    let refused = it.mint_join(owner("bob"), NOW).await;
    assert!(matches!(refused, Err(CoordinationError::NotFound { .. })), "{refused:?}");
    it.mint_join(owner("ann@example.org"), NOW).await.unwrap();
    let last = fake.asked().pop().unwrap().json();
    assert_eq!((last["user"].clone(), last["aclTags"].is_null()), (json!("1"), true));
    // Left out, it would be born expired.
    assert_eq!(last["expiration"], json!("2026-09-21T14:23:20Z"));
}

#[tokio::test]
async fn a_policy_that_was_never_set_is_empty() {
    fn never(_: &mut State, asked: &Asked) -> Said {
        if asked.path == "/api/v1/policy" {
            return Said::json(
                500,
                &json!({"title": "Internal Server Error", "status": 500,
                "detail": "loading ACL from database", "errors": [{"message": "acl policy not found"}]}),
            );
        }
        Said::text(404, "")
    }
    let fake = Fake::speaking(never).await;
    assert_eq!(driver(&fake).policy().await.unwrap().text, "");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_once_more_when_it_is_refused() {
    let Subject { it, fake } = tailscale::subject().await;
    it.nodes().await.unwrap();
    it.nodes().await.unwrap();
    let fetched =
        |fake: &Fake| fake.asked().iter().filter(|asked| asked.path.ends_with("/oauth/token")).count();
    assert_eq!(fetched(&fake), 1);
    fake.accepts(super::fake::SECRET);
    it.nodes().await.unwrap();
    assert_eq!(fetched(&fake), 2);
    let asked = fake.asked();
    assert!(asked.iter().all(|asked| !asked.path.contains("s3cret") && !asked.query.contains("s3cret")));
}

#[tokio::test]
async fn an_oauth_client_makes_no_keys_for_users() {
    let Subject { it, fake } = tailscale::subject().await;
    let owner = JoinOwner::User("ann@example.org".to_owned());
    let refused = it.mint_join(JoinRequest { owner, ..request() }, NOW).await;
    assert!(matches!(refused, Err(CoordinationError::Unsupported { .. })), "{refused:?}");
    assert!(fake.asked().is_empty());
}
