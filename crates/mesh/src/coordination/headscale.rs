//! A Headscale that people already have, by its v1 REST interface: 0.28 to 0.30. Ids are decimal strings there; an expiry
//! that is absent and Go's zero time both mean never; a key without an expiration is born expired, so one is always sent.

mod shapes;

use super::{
    Administered, BackupManifest, Capabilities, Coordination, CoordinationError, Endpoint, JoinGrant,
    JoinKey, JoinOwner, JoinRequest, MeshNode, MeshUser, NodeId, NodeName, Policy, Secret, Told, backup,
    http::{Answer, Ask, Http},
};
use allod_proto::Timestamp;
use hyper::Method;
use serde_json::{Value, json};
use shapes::{KeyMade, KeysListed, NodesListed, PolicyWritten, UserMade, UsersListed, VersionWritten};
use std::path::Path;
use zeroize::Zeroizing;

const JSON: &str = "application/json";

/// A Headscale, with a key of its administrator (`headscale apikeys create`).
#[derive(Debug)]
pub struct Headscale {
    http: Http,
    key: Secret,
}

impl Headscale {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`CoordinationError`] where TLS can't be had.
    pub fn new(endpoint: Endpoint, key: Secret) -> Result<Self, CoordinationError> {
        Ok(Self { http: Http::new(endpoint)?, key })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, CoordinationError> {
        let body = body.map(|body| (JSON, Zeroizing::new(body.to_string().into_bytes())));
        let bearer = Some(&self.key);
        self.http.ask(Ask { method, path, bearer, accept: JSON, if_match: None, body }).await
    }

    async fn user_id(&self, name: &str) -> Result<String, CoordinationError> {
        // Asked for all and looked for here: to one that doesn't know the filter, everybody would be an answer.
        let users = self.users().await?;
        users.into_iter().find(|user| user.name == name).map(|user| user.id).ok_or_else(|| {
            CoordinationError::NotFound { says: format!("the user `{}`", crate::tailscaled::plain(name, 80)) }
        })
    }

    async fn mint(&self, request: JoinRequest, now: Timestamp) -> Result<JoinGrant, CoordinationError> {
        let expires = now.plus(request.lasts);
        // Since 0.28 it is one or the other.
        let (whose, owner): (_, Value) = match &request.owner {
            JoinOwner::Tags(tags) if tags.is_empty() => {
                return Err(CoordinationError::Word { what: "the tags of a key", word: String::new() });
            }
            JoinOwner::Tags(tags) => ("aclTags", tags.iter().map(ToString::to_string).collect()),
            JoinOwner::User(name) => ("user", self.user_id(name).await?.into()),
        };
        let body = json!({
            "reusable": request.reusable,
            "ephemeral": request.ephemeral,
            "expiration": shapes::written(expires)?,
            (whose): owner,
        });
        let made: KeyMade = self.ask(Method::POST, "/api/v1/preauthkey", Some(body)).await?.read()?;
        made.meant(&request, expires)
    }
}

impl Coordination for Headscale {
    fn capabilities(&self) -> Capabilities {
        Capabilities { driver: "headscale", creates_users: true, guards_policy: false, backs_up_whole: false }
    }

    fn health(&self) -> Told<'_, Administered> {
        Box::pin(async {
            // Needs no key, and before 0.28 isn't there.
            let version = match self.ask(Method::GET, "/version", None).await {
                Ok(answer) => answer.read::<VersionWritten>().ok().and_then(VersionWritten::meant),
                Err(CoordinationError::NotFound { .. }) => None,
                Err(error) => return Err(error),
            };
            let well = match self.ask(Method::GET, "/health", None).await {
                Ok(_) => true,
                Err(CoordinationError::Failing { .. }) => false,
                Err(error) => return Err(error),
            };
            // Whether we are accepted.
            self.ask(Method::GET, "/api/v1/user", None).await?;
            Ok(Administered { version, well })
        })
    }

    fn mint_join(&self, request: JoinRequest, now: Timestamp) -> Told<'_, JoinGrant> {
        Box::pin(self.mint(request, now))
    }

    fn revoke_join<'a>(&'a self, id: &'a str) -> Told<'a, ()> {
        Box::pin(async move {
            let id = shapes::number(id)?;
            self.ask(Method::POST, "/api/v1/preauthkey/expire", Some(json!({ "id": id }))).await.map(drop)
        })
    }

    fn list_join(&self) -> Told<'_, Vec<JoinKey>> {
        Box::pin(async {
            let listed: KeysListed = self.ask(Method::GET, "/api/v1/preauthkey", None).await?.read()?;
            Ok(listed.meant())
        })
    }

    fn nodes(&self) -> Told<'_, Vec<MeshNode>> {
        Box::pin(async {
            let listed: NodesListed = self.ask(Method::GET, "/api/v1/node", None).await?.read()?;
            listed.meant()
        })
    }

    fn expire_node<'a>(&'a self, id: &'a NodeId) -> Told<'a, ()> {
        Box::pin(async move {
            let path = format!("/api/v1/node/{}/expire", shapes::number(id.as_str())?);
            self.ask(Method::POST, &path, Some(json!({}))).await.map(drop)
        })
    }

    fn delete_node<'a>(&'a self, id: &'a NodeId) -> Told<'a, ()> {
        Box::pin(async move {
            let path = format!("/api/v1/node/{}", shapes::number(id.as_str())?);
            self.ask(Method::DELETE, &path, None).await.map(drop)
        })
    }

    fn rename_node<'a>(&'a self, id: &'a NodeId, name: &'a NodeName) -> Told<'a, ()> {
        Box::pin(async move {
            let path = format!("/api/v1/node/{}/rename/{name}", shapes::number(id.as_str())?);
            self.ask(Method::POST, &path, None).await.map(drop)
        })
    }

    fn users(&self) -> Told<'_, Vec<MeshUser>> {
        Box::pin(async {
            let listed: UsersListed = self.ask(Method::GET, "/api/v1/user", None).await?.read()?;
            Ok(listed.meant())
        })
    }

    fn create_user<'a>(&'a self, name: &'a str) -> Told<'a, MeshUser> {
        Box::pin(async move {
            let body = Some(json!({ "name": name }));
            let made: UserMade = self.ask(Method::POST, "/api/v1/user", body).await?.read()?;
            Ok(made.meant())
        })
    }

    fn policy(&self) -> Told<'_, Policy> {
        Box::pin(async {
            match self.ask(Method::GET, "/api/v1/policy", None).await {
                Ok(answer) => Ok(Policy { text: answer.read::<PolicyWritten>()?.policy, version: None }),
                // One that was never set is told as an error; which one, differs by version.
                Err(CoordinationError::NotFound { .. }) => Ok(Policy { text: String::new(), version: None }),
                Err(CoordinationError::Failing { says, .. }) if says.contains("policy not found") => {
                    Ok(Policy { text: String::new(), version: None })
                }
                Err(error) => Err(error),
            }
        })
    }

    fn set_policy<'a>(&'a self, policy: &'a Policy) -> Told<'a, ()> {
        Box::pin(async move {
            if policy.version.is_some() {
                return Err(CoordinationError::Unsupported {
                    what: "a change that depends on the present policy",
                });
            }
            let body = Some(json!({ "policy": policy.text }));
            self.ask(Method::PUT, "/api/v1/policy", body).await.map(drop)
        })
    }

    fn backup<'a>(&'a self, into: &'a Path) -> Told<'a, BackupManifest> {
        let host = &self.http.endpoint().host;
        let missing = vec![
            format!("on {host}: its database (sqlite3 db.sqlite \".backup FILE\", or stop it and copy)"),
            format!("on {host}: noise_private.key, without which every machine has to log in again"),
            format!("on {host}: derp_server_private.key, and its settings"),
        ];
        Box::pin(backup::write(self, into, missing))
    }
}
