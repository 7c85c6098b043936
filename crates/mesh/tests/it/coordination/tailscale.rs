//! The language of Tailscale's API v2: OAuth tokens, keys, devices, the policy with its ETag.

use super::{
    Subject,
    fake::{Asked, Fake, Key, Said, State},
};
use allod_mesh::coordination::{OAuthClient, Secret, Tailscale};
use serde_json::{Value, json};

pub(super) const CLIENT: &str = "k123CNTRL";

pub(super) async fn subject() -> Subject {
    let fake = Fake::speaking(answer).await;
    let client = OAuthClient { id: CLIENT.to_owned(), secret: Secret::new(super::fake::SECRET.to_owned()) };
    Subject { it: Box::new(Tailscale::new(fake.endpoint(), client).unwrap()), fake }
}

pub(super) fn answer(state: &mut State, asked: &Asked) -> Said {
    let parts = asked.parts();
    if parts == ["api", "v2", "oauth", "token"] {
        return token(state, asked);
    }
    let bearer = asked.headers.get("authorization").and_then(|it| it.strip_prefix("Bearer "));
    if !bearer.is_some_and(|bearer| state.tokens.iter().any(|token| token == bearer)) {
        return Said::json(401, &json!({"message": "API token invalid"}));
    }
    let absent = || Said::json(404, &json!({"message": "not found"}));
    match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["api", "v2", "tailnet", "-", "users"]) => {
            let one =
                |(id, name): &(String, String)| json!({"id": id, "displayName": "Ann", "loginName": name});
            Said::json(200, &json!({"users": state.users.iter().map(one).collect::<Vec<_>>()}))
        }
        ("GET", ["api", "v2", "tailnet", "-", "keys"]) => {
            // No more than this is said in a list; what is no key to join with is among it.
            let mut keys: Vec<_> =
                state.keys.iter().map(|key| json!({"id": key.id, "description": "allod"})).collect();
            keys.push(json!({"id": CLIENT, "keyType": "client", "scopes": ["auth_keys"]}));
            Said::json(200, &json!({ "keys": keys }))
        }
        ("POST", ["api", "v2", "tailnet", "-", "keys"]) => mint(state, asked),
        (method, ["api", "v2", "tailnet", "-", "keys", id]) => {
            let Some(at) = state.keys.iter().position(|key| key.id == *id) else { return absent() };
            if method == "DELETE" {
                state.keys.remove(at);
                return Said::text(200, "");
            }
            Said::json(200, &written(&state.keys[at], false))
        }
        ("GET", ["api", "v2", "tailnet", "-", "devices"]) => {
            let devices: Vec<_> = state.machines.iter().map(device).collect();
            Said::json(200, &json!({ "devices": devices }))
        }
        (method, ["api", "v2", "device", id, rest @ ..]) => {
            let found = state.machines.iter().position(|it| node_id(&it.id) == *id);
            let Some(at) = found else { return absent() };
            match (method, rest) {
                ("DELETE", []) => drop(state.machines.remove(at)),
                ("POST", ["expire"]) => state.machines[at].expiry = Some("2026-01-01T00:00:00Z".to_owned()),
                ("POST", ["name"]) => {
                    state.machines[at].name = asked.json()["name"].as_str().unwrap().to_owned()
                }
                _ => return absent(),
            }
            Said::text(200, "")
        }
        (method, ["api", "v2", "tailnet", "-", "acl"]) => policy(state, asked, method),
        _ => absent(),
    }
}

fn token(state: &mut State, asked: &Asked) -> Said {
    let wanted = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={}", state.secret);
    if asked.body != wanted {
        let says = format!("no such client: {}", asked.body);
        return Said::json(401, &json!({"error": "invalid_client", "error_description": says}));
    }
    let token = format!("tskey-api-{}", state.asked.len());
    state.tokens.push(token.clone());
    Said::json(
        200,
        &json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "all"}),
    )
}

fn mint(state: &mut State, asked: &Asked) -> Said {
    let wanted = asked.json();
    let create = wanted["capabilities"]["devices"]["create"].clone();
    if create["tags"].as_array().is_none_or(Vec::is_empty) || create["preauthorized"] != json!(true) {
        return Said::json(400, &json!({"message": "tags are required"}));
    }
    // 600 s after the tests' present.
    assert_eq!(wanted["expirySeconds"], json!(600));
    let id = format!("k{}CNTRL", state.keys.len() + 5);
    let secret = format!("tskey-auth-{id}-abcdefghijkl");
    state.keys.push(Key { id, secret, asked: create, expires: "2026-09-21T14:23:20Z".to_owned() });
    Said::json(200, &written(state.keys.last().unwrap(), true))
}

fn written(key: &Key, shown: bool) -> Value {
    let mut document = json!({
        "id": key.id, "keyType": "auth", "created": "2026-09-21T14:13:20Z", "expires": key.expires,
        "revoked": "0001-01-01T00:00:00Z", "capabilities": {"devices": {"create": key.asked}}, "description": "allod",
        "invalid": false, "moon": "new",
    });
    if shown {
        document["key"] = json!(key.secret);
    }
    document
}

fn node_id(id: &str) -> String {
    format!("n{id}CNTRL")
}

fn device(it: &super::fake::Machine) -> Value {
    let name = format!("{}.tail1234.ts.net", it.name);
    json!({
        "addresses": [format!("100.64.0.{}", it.id), format!("fd7a:115c:a1e0::{}", it.id)], "id": "393735751060",
        "nodeId": node_id(&it.id), "user": "ann@example.org", "name": name, "hostname": it.name,
        "tags": if it.tags.is_empty() { json!(null) } else { json!(it.tags) }, "os": "linux",
        "keyExpiryDisabled": it.expiry.is_none(), "expires": it.expiry.as_deref().unwrap_or("2027-05-05T00:00:00Z"),
        "lastSeen": "2026-11-20T10:00:00Z", "connectedToControl": true, "authorized": true, "isExternal": false,
        "nodeKey": format!("nodekey:{}", it.id), "machineKey": "mkey:00", "clientVersion": "1.98.0",
        "clientConnectivity": {"endpoints": [], "latency": {}},
    })
}

fn policy(state: &mut State, asked: &Asked, method: &str) -> Said {
    let tag = |text: &str| format!("\"{:x}\"", text.len());
    if method == "POST" {
        if asked.headers.get("if-match").is_some_and(|wanted| *wanted != tag(&state.policy)) {
            return Said::json(412, &json!({"message": "precondition failed, invalid old hash"}));
        }
        assert_eq!(asked.headers.get("content-type").map(String::as_str), Some("application/hujson"));
        state.policy = asked.body.clone();
    }
    let mut said = Said::text(200, &state.policy);
    said.headers.push(("etag", tag(&state.policy)));
    said
}
