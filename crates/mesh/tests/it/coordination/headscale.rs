//! Headscale's language, in two ages: to 0.29 (gRPC's errors, no word for never but the zero time) and from 0.30 (problems,
//! null for never).

use super::{
    Subject,
    fake::{Asked, Fake, Key, Language, Machine, Said, State},
};
use allod_mesh::coordination::{Headscale, Secret};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Grpc,
    Problems,
}

pub(super) async fn subject(age: Age) -> Subject {
    let language: Language = match age {
        Age::Grpc => |state, asked| answer(state, asked, Age::Grpc),
        Age::Problems => |state, asked| answer(state, asked, Age::Problems),
    };
    let fake = Fake::speaking(language).await;
    let secret = Secret::new(super::fake::SECRET.to_owned());
    Subject { it: Box::new(Headscale::new(fake.endpoint(), secret).unwrap()), fake }
}

fn answer(state: &mut State, asked: &Asked, age: Age) -> Said {
    let expected = format!("Bearer {}", state.secret);
    match (asked.method.as_str(), asked.parts().as_slice()) {
        ("GET", ["version"]) => {
            return Said::json(
                200,
                &json!({"version": "v0.29.2", "commit": "abc", "go": {"version": "go1.26"}}),
            );
        }
        ("GET", ["health"]) => return Said::json(200, &json!({"status": "pass"})),
        _ if asked.headers.get("authorization") != Some(&expected) => return Said::text(401, "Unauthorized"),
        _ => {}
    }
    let absent = || refusal(age, 404, 5, "not found");
    match (asked.method.as_str(), asked.parts().as_slice()) {
        ("GET", ["api", "v1", "user"]) => {
            let users: Vec<_> = state.users.iter().map(|(id, name)| user(id, name)).collect();
            Said::json(200, &json!({"users": users}))
        }
        ("POST", ["api", "v1", "user"]) => {
            let name = asked.json()["name"].as_str().unwrap().to_owned();
            state.users.push(("2".to_owned(), name.clone()));
            Said::json(200, &json!({"user": user("2", &name)}))
        }
        ("GET", ["api", "v1", "preauthkey"]) => {
            let keys: Vec<_> = state.keys.iter().map(|key| written(key, false)).collect();
            Said::json(200, &json!({"preAuthKeys": keys}))
        }
        ("POST", ["api", "v1", "preauthkey"]) => mint(state, asked, age),
        ("POST", ["api", "v1", "preauthkey", "expire"]) => {
            let id = asked.json()["id"].as_str().unwrap_or_default().to_owned();
            match state.keys.iter_mut().find(|key| key.id == id) {
                Some(key) => key.expires = "2026-01-01T00:00:00Z".to_owned(),
                None => return absent(),
            }
            Said::json(200, &json!({}))
        }
        ("GET", ["api", "v1", "node"]) => {
            let nodes: Vec<_> = state.machines.iter().map(|it| machine(it, age)).collect();
            Said::json(200, &json!({"nodes": nodes}))
        }
        (method, ["api", "v1", "node", id, rest @ ..]) => {
            let Some(at) = state.machines.iter().position(|it| it.id == *id) else {
                // As 0.28 does where it has no better word.
                return if age == Age::Grpc { refusal(age, 500, 2, "node not found") } else { absent() };
            };
            match (method, rest) {
                ("DELETE", []) => drop(state.machines.remove(at)),
                ("POST", ["expire"]) => state.machines[at].expiry = Some("2026-01-01T00:00:00Z".to_owned()),
                ("POST", ["rename", name]) => state.machines[at].name = (*name).to_owned(),
                _ => return absent(),
            }
            Said::json(200, &json!({}))
        }
        ("GET", ["api", "v1", "policy"]) => {
            Said::json(200, &json!({"policy": state.policy, "updatedAt": "2026-11-01T00:00:00Z"}))
        }
        ("PUT", ["api", "v1", "policy"]) => {
            state.policy = asked.json()["policy"].as_str().unwrap().to_owned();
            Said::json(200, &json!({"policy": state.policy, "updatedAt": "2026-11-01T00:00:00Z"}))
        }
        _ => absent(),
    }
}

fn refusal(age: Age, status: u16, code: u8, says: &str) -> Said {
    match age {
        Age::Grpc => Said::json(status, &json!({"code": code, "message": says, "details": []})),
        Age::Problems => Said::json(status, &json!({"title": "Refused", "status": status, "detail": says})),
    }
}

fn user(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "createdAt": "2026-01-01T00:00:00Z", "displayName": "", "email": "",
           "providerId": "", "provider": "", "profilePicUrl": ""})
}

fn mint(state: &mut State, asked: &Asked, age: Age) -> Said {
    let wanted = asked.json();
    // Without one, a key is born in the year 1.
    let expires = wanted["expiration"].as_str().unwrap_or("0001-01-01T00:00:00Z").to_owned();
    if wanted["user"].is_null() == wanted["aclTags"].is_null() {
        return refusal(age, 400, 3, "pre-auth key must be tagged or owned");
    }
    let id = (state.keys.len() + 5).to_string();
    let secret = format!("hskey-auth-{id}-abcdefghijkl");
    state.keys.push(Key { id, secret, asked: wanted, expires });
    Said::json(200, &json!({"preAuthKey": written(state.keys.last().unwrap(), true)}))
}

fn written(key: &Key, shown: bool) -> Value {
    let secret = if shown { key.secret.clone() } else { format!("hskey-auth-{}-***", key.id) };
    json!({"user": null, "id": key.id, "key": secret, "reusable": key.asked["reusable"],
           "ephemeral": key.asked["ephemeral"], "used": false, "expiration": key.expires,
           "createdAt": "2026-11-01T00:00:00Z", "aclTags": key.asked["aclTags"], "moon": "new"})
}

fn machine(it: &Machine, age: Age) -> Value {
    let never = if age == Age::Grpc { json!("0001-01-01T00:00:00Z") } else { json!(null) };
    let owner =
        if it.tags.is_empty() { user("1", "ann@example.org") } else { user("2147455555", "tagged-devices") };
    let mut document = json!({
        "id": it.id, "machineKey": "mkey:00", "nodeKey": format!("nodekey:{}", it.id), "discoKey": "discokey:00",
        "ipAddresses": [format!("100.64.0.{}", it.id), format!("fd7a:115c:a1e0::{}", it.id), "10.0.0.1"],
        "name": it.name, "givenName": it.name, "user": owner, "lastSeen": "2026-11-20T10:00:00.123456789Z",
        "expiry": it.expiry.as_ref().map_or(never, |expiry| json!(expiry)), "preAuthKey": null,
        "createdAt": "2026-11-01T00:00:00Z", "registerMethod": "REGISTER_METHOD_AUTH_KEY", "online": true,
        "approvedRoutes": [], "availableRoutes": [], "subnetRoutes": [],
    });
    match age {
        Age::Grpc => {
            document["forcedTags"] = json!(it.tags);
            document["validTags"] = json!(it.tags);
            document["invalidTags"] = json!([]);
        }
        Age::Problems => document["tags"] = json!(it.tags),
    }
    document
}
