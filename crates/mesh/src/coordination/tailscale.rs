//! The network of somebody who uses Tailscale's own coordinator, by its API v2, as an OAuth client. (Headscale speaks a part
//! of it from 0.30 on.) An access token lasts an hour; it is fetched when there is none, and once more when it is refused.

mod shapes;

use super::{
    Administered, BackupManifest, Capabilities, Coordination, CoordinationError, Endpoint, JoinGrant,
    JoinKey, JoinOwner, JoinRequest, MeshNode, MeshUser, NodeId, NodeName, Policy, Secret, Told, backup,
    http::{Answer, Ask, Http},
};
use allod_proto::Timestamp;
use hyper::Method;
use serde_json::{Value, json};
use shapes::{DevicesListed, KeyWritten, KeysListed, TokenWritten, UsersListed};
use std::{path::Path, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

/// Where Tailscale's own is.
pub const ADDRESS: &str = "https://api.tailscale.com";

const JSON: &str = "application/json";
const HUJSON: &str = "application/hujson";
/// A token is given up so long before its end.
const EARLY: Duration = Duration::from_secs(60);
/// At most so many keys are asked about one by one.
const KEYS: usize = 200;

/// An OAuth client of the network's owner, with the scopes `auth_keys`, `devices:core`, `policy_file` and `users:read`.
#[derive(Debug, Clone)]
pub struct OAuthClient {
    /// Its public id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// A network that Tailscale coordinates.
#[derive(Debug)]
pub struct Tailscale {
    http: Http,
    client: OAuthClient,
    token: Mutex<Option<(Secret, Instant)>>,
}

/// What is asked of one of the network's things.
struct Wish<'a> {
    method: Method,
    path: &'a str,
    accept: &'static str,
    if_match: Option<&'a str>,
    body: Option<(&'static str, String)>,
}

impl Tailscale {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`CoordinationError`] where TLS can't be had.
    pub fn new(endpoint: Endpoint, client: OAuthClient) -> Result<Self, CoordinationError> {
        Ok(Self { http: Http::new(endpoint)?, client, token: Mutex::new(None) })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, CoordinationError> {
        let body = body.map(|body| (JSON, body.to_string()));
        self.wish(Wish { method, path, accept: JSON, if_match: None, body }).await
    }

    async fn wish(&self, wish: Wish<'_>) -> Result<Answer, CoordinationError> {
        let token = self.token(None).await?;
        match self.once(&wish, &token).await {
            // It may have been revoked before its time; a second refusal is meant.
            Err(CoordinationError::NotAccepted { .. }) => {
                let token = self.token(Some(&token)).await?;
                self.once(&wish, &token).await
            }
            done => done,
        }
    }

    async fn once(&self, wish: &Wish<'_>, token: &Secret) -> Result<Answer, CoordinationError> {
        let body = wish.body.as_ref().map(|(kind, body)| (*kind, Zeroizing::new(body.as_bytes().to_vec())));
        let (method, path, accept, if_match) = (wish.method.clone(), wish.path, wish.accept, wish.if_match);
        self.http.ask(Ask { method, path, bearer: Some(token), accept, if_match, body }).await
    }

    /// The token in hand, unless it is `spent` or nearly over; then another.
    async fn token(&self, spent: Option<&Secret>) -> Result<Secret, CoordinationError> {
        let mut held = self.token.lock().await;
        if let Some((token, until)) = held.as_ref()
            && *until > Instant::now()
            && spent != Some(token)
        {
            return Ok(token.clone());
        }
        let form = Zeroizing::new(format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            shapes::form(&self.client.id).as_str(),
            shapes::form(self.client.secret.expose()).as_str(),
        ));
        let body = Some(("application/x-www-form-urlencoded", Zeroizing::new(form.as_bytes().to_vec())));
        let path = "/api/v2/oauth/token";
        let ask = Ask { method: Method::POST, path, bearer: None, accept: JSON, if_match: None, body };
        let written: TokenWritten = self.http.ask(ask).await.map_err(|error| self.struck(error))?.read()?;
        let lasts = Duration::from_secs(written.expires_in).saturating_sub(EARLY);
        let until = Instant::now().checked_add(lasts).unwrap_or_else(Instant::now);
        *held = Some((written.access_token.clone(), until));
        Ok(written.access_token)
    }

    // There is no bearer yet, but the client's secret was sent.
    fn struck(&self, error: CoordinationError) -> CoordinationError {
        match error {
            CoordinationError::NotAccepted { says } => {
                CoordinationError::NotAccepted { says: self.client.secret.struck_from(&says) }
            }
            CoordinationError::Rejected { status, says } => {
                CoordinationError::Rejected { status, says: self.client.secret.struck_from(&says) }
            }
            CoordinationError::Failing { status, says } => {
                CoordinationError::Failing { status, says: self.client.secret.struck_from(&says) }
            }
            other => other,
        }
    }

    async fn mint(&self, request: JoinRequest, now: Timestamp) -> Result<JoinGrant, CoordinationError> {
        let JoinOwner::Tags(tags) = &request.owner else {
            return Err(CoordinationError::Unsupported {
                what: "a key for a user's machine (an OAuth client has no user)",
            });
        };
        if tags.is_empty() {
            return Err(CoordinationError::Word { what: "the tags of a key", word: String::new() });
        }
        let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
        let create = json!({
            "reusable": request.reusable,
            "ephemeral": request.ephemeral,
            // Who approves a machine does so before a key is made for it.
            "preauthorized": true,
            "tags": tags,
        });
        let body = json!({
            "capabilities": {"devices": {"create": create}},
            "expirySeconds": request.lasts.as_secs().max(1),
            "description": "allod",
        });
        let made: KeyWritten = self.ask(Method::POST, "/api/v2/tailnet/-/keys", Some(body)).await?.read()?;
        made.granted(&request, now)
    }

    async fn keys(&self) -> Result<Vec<JoinKey>, CoordinationError> {
        let listed: KeysListed =
            self.ask(Method::GET, "/api/v2/tailnet/-/keys?all=true", None).await?.read()?;
        let mut keys = Vec::new();
        for written in listed.keys.into_iter().filter(KeyWritten::may_be_auth).take(KEYS) {
            // A list may have no more than the ids.
            let whole = if written.is_whole() {
                written
            } else {
                let path = format!("/api/v2/tailnet/-/keys/{}", NodeId::new(written.id.clone())?);
                self.ask(Method::GET, &path, None).await?.read()?
            };
            keys.extend(whole.meant());
        }
        Ok(keys)
    }
}

impl Coordination for Tailscale {
    fn capabilities(&self) -> Capabilities {
        Capabilities { driver: "tailscale", creates_users: false, guards_policy: true, backs_up_whole: false }
    }

    fn health(&self) -> Told<'_, Administered> {
        Box::pin(async {
            self.ask(Method::GET, "/api/v2/tailnet/-/keys", None).await?;
            Ok(Administered { version: None, well: true })
        })
    }

    fn mint_join(&self, request: JoinRequest, now: Timestamp) -> Told<'_, JoinGrant> {
        Box::pin(self.mint(request, now))
    }

    fn revoke_join<'a>(&'a self, id: &'a str) -> Told<'a, ()> {
        Box::pin(async move {
            let path = format!("/api/v2/tailnet/-/keys/{}", NodeId::new(id)?);
            self.ask(Method::DELETE, &path, None).await.map(drop)
        })
    }

    fn list_join(&self) -> Told<'_, Vec<JoinKey>> {
        Box::pin(self.keys())
    }

    fn nodes(&self) -> Told<'_, Vec<MeshNode>> {
        Box::pin(async {
            let path = "/api/v2/tailnet/-/devices?fields=all";
            let listed: DevicesListed = self.ask(Method::GET, path, None).await?.read()?;
            listed.meant()
        })
    }

    fn expire_node<'a>(&'a self, id: &'a NodeId) -> Told<'a, ()> {
        Box::pin(async move {
            self.ask(Method::POST, &format!("/api/v2/device/{id}/expire"), None).await.map(drop)
        })
    }

    fn delete_node<'a>(&'a self, id: &'a NodeId) -> Told<'a, ()> {
        Box::pin(
            async move { self.ask(Method::DELETE, &format!("/api/v2/device/{id}"), None).await.map(drop) },
        )
    }

    fn rename_node<'a>(&'a self, id: &'a NodeId, name: &'a NodeName) -> Told<'a, ()> {
        Box::pin(async move {
            let body = Some(json!({ "name": name.as_str() }));
            self.ask(Method::POST, &format!("/api/v2/device/{id}/name"), body).await.map(drop)
        })
    }

    fn users(&self) -> Told<'_, Vec<MeshUser>> {
        Box::pin(async {
            let listed: UsersListed = self.ask(Method::GET, "/api/v2/tailnet/-/users", None).await?.read()?;
            Ok(listed.meant())
        })
    }

    fn create_user<'a>(&'a self, _name: &'a str) -> Told<'a, MeshUser> {
        Box::pin(async { Err(CoordinationError::Unsupported { what: "making a user (people are invited)" }) })
    }

    fn policy(&self) -> Told<'_, Policy> {
        Box::pin(async {
            let (method, path) = (Method::GET, "/api/v2/tailnet/-/acl");
            let answer = self.wish(Wish { method, path, accept: HUJSON, if_match: None, body: None }).await?;
            let text = std::str::from_utf8(&answer.body)
                .map_err(|_| CoordinationError::Unreadable { why: "the policy is no text".to_owned() })?;
            Ok(Policy { text: text.to_owned(), version: answer.version })
        })
    }

    fn set_policy<'a>(&'a self, policy: &'a Policy) -> Told<'a, ()> {
        Box::pin(async move {
            let (method, path, if_match) = (Method::POST, "/api/v2/tailnet/-/acl", policy.version.as_deref());
            let body = Some((HUJSON, policy.text.clone()));
            self.wish(Wish { method, path, accept: HUJSON, if_match, body }).await.map(drop)
        })
    }

    fn backup<'a>(&'a self, into: &'a Path) -> Told<'a, BackupManifest> {
        let missing = vec!["the machines' keys, which Tailscale keeps and gives to nobody".to_owned()];
        Box::pin(backup::write(self, into, missing))
    }
}
