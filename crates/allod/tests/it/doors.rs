//! One suite for both doors: every command, well formed and not, by those who may and those who may not, is answered over
//! the local socket as it is over HTTP.

use crate::{
    processes::PATIENCE,
    wire::{Draft, Signed, random_word},
    world::World,
};
use allod_proto::{CommandName, Digest, Epoch, Kind, headers};
use allod_rpc::client::hello;
use allod_signing::KeySigner;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// Parameters for each command, good and bad. Exhaustive: a new command must be thought of here.
fn cases(name: CommandName) -> Vec<Value> {
    let (app, absent) = (json!({"app": "worker/production"}), json!({"app": "nobody/production"}));
    let with = |value: &Value, more: Value| {
        let mut value = value.clone();
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    let digest = Digest::of("x").to_string();
    match name {
        CommandName::Hello
        | CommandName::ServerInfo
        | CommandName::ServerStatus
        | CommandName::ServerDoctor
        | CommandName::KeysList
        | CommandName::AuditVerify
        | CommandName::AuditStats => vec![json!({})],
        CommandName::ServerRotateIdentity => {
            vec![json!({}), json!({"from": format!("SHA256:{}", "A".repeat(43))})]
        }
        CommandName::ServerPrune => vec![json!({}), app],
        CommandName::AppMissing => {
            vec![with(&app, json!({"chunks": [digest]})), with(&app, json!({"chunks": ["x"]}))]
        }
        CommandName::AppChunk => vec![with(&app, json!({"chunk": digest}))],
        CommandName::AppPreflight => vec![with(&app, json!({}))],
        CommandName::AppDeploy => vec![with(&app, json!({"manifest": digest}))],
        CommandName::AppRollback => {
            vec![with(&app, json!({"from": "000000000000"})), with(&absent, json!({"from": "000000000000"}))]
        }
        CommandName::AppScale => vec![
            with(&app, json!({"unit": "web", "instances": 65})),
            with(&absent, json!({"unit": "web", "instances": 1})),
        ],
        CommandName::AppStart
        | CommandName::AppStop
        | CommandName::AppRestart
        | CommandName::AppRemove
        | CommandName::AppStatus
        | CommandName::AppReleases
        | CommandName::SecretsList => vec![absent, json!({"app": "../etc"})],
        CommandName::AppLogs => vec![app, absent],
        CommandName::SecretsSet => {
            vec![with(&app, json!({"secrets": [{"name": "TOKEN", "sealed": "eA=="}]}))]
        }
        CommandName::SecretsRemove => vec![with(&app, json!({"name": "TOKEN"}))],
        CommandName::SecretsExport => vec![with(&app, json!({"recipient": "age1nonsense"}))],
        CommandName::OpsList => vec![json!({}), app],
        CommandName::OpsAttach | CommandName::OpsCancel => vec![json!({"operation": "op-000000000000"})],
        CommandName::KeysAdd => vec![json!({"line": "role=king ssh-ed25519 AAAA"}), json!({"line": ""})],
        CommandName::KeysRevoke => vec![json!({"fingerprint": format!("SHA256:{}", "A".repeat(43))})],
        CommandName::KeysRotate => {
            vec![json!({"old": format!("SHA256:{}", "A".repeat(43)), "new": "ssh-ed25519 AAAA"})]
        }
        CommandName::KeysCan => vec![json!({}), json!({"fingerprint": format!("SHA256:{}", "A".repeat(43))})],
        CommandName::CommandRun => {
            vec![json!({"name": "nothing"}), json!({"name": "a b; c", "params": {"x": "-y"}})]
        }
        CommandName::CommandOutput | CommandName::CommandCancel => vec![json!({"run": "run-000000000000"})],
        CommandName::CommandRuns => vec![json!({})],
        // The registry's moment is not the same in two answers unless nothing was ever declared.
        CommandName::CommandList => vec![json!({}), json!({"all": true})],
        CommandName::CommandHistory | CommandName::CommandRemove => vec![json!({"name": "nothing"})],
        CommandName::CommandAdd => vec![json!({"name": "x", "text": "exec = 1"}), json!({"name": "X"})],
        CommandName::CommandApprove => vec![json!({"approval": {}, "signature": ""})],
        CommandName::GatePanic => vec![json!({}), json!({"held": "yes"})],
        CommandName::AuditShow => vec![json!({"from": 1, "limit": 3}), json!({"from": 1, "limit": -1})],
        CommandName::AuditFollow => vec![json!({"after": 0})],
    }
}

struct Doors {
    world: World,
    epoch: Epoch,
}

impl Doors {
    fn sign(&self, key: &KeySigner, name: CommandName, params: &Value) -> Signed {
        let body = json!({"v": 1, "id": random_word(), "command": name.as_str(), "params": params});
        let draft = Draft {
            body: serde_json::to_vec(&body).unwrap(),
            ..Draft::new(&self.world.identity, &self.epoch, allod_proto::messages::server::Hello {})
        };
        draft.sign(key)
    }

    /// What the HTTP door answers: of a stream, the first payload.
    async fn over_http(&self, signed: &Signed, is_stream: bool) -> Value {
        if !is_stream {
            return shape(serde_json::to_value(signed.send(self.world.management).await.body).unwrap());
        }
        let mut stream = BufReader::new(tokio::net::TcpStream::connect(self.world.management).await.unwrap());
        let head: String =
            signed.head.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (path, length) = (headers::RPC_PATH, signed.draft.body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n"
        );
        stream.write_all(&[head.as_bytes(), &signed.draft.body].concat()).await.unwrap();
        loop {
            // Headers and sizes of pieces are lines, too; frames and replies are objects.
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
            assert!(read > 0, "no answer to {:?}", signed.draft);
            let Ok(Value::Object(value)) = serde_json::from_str(line.trim()) else { continue };
            return match value.get("payload") {
                Some(payload) => shape(serde_json::from_str(payload.as_str().unwrap()).unwrap()),
                None => shape(Value::Object(value)),
            };
        }
    }

    /// What the local socket answers to the same signature.
    async fn over_socket(&self, signed: &Signed) -> Value {
        let signed: Value = json!({
            "signed": signed.head.headers().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "body": String::from_utf8(signed.draft.body.clone()).unwrap(),
        });
        shape(self.line(&signed).await)
    }

    async fn line(&self, line: &Value) -> Value {
        let socket = self.world.state.join("run/agent.sock");
        let mut stream = BufReader::new(UnixStream::connect(socket).await.unwrap());
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut answer)).await.unwrap().unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?} to {line}"))
    }
}

/// What must be the same: the outcome, without what is of one request or one moment only.
fn shape(mut value: Value) -> Value {
    if let Some(fault) = value.get_mut("fault").and_then(Value::as_object_mut) {
        fault.remove("request");
        return json!({"fault": fault});
    }
    match value.get("result") {
        // Of results that have times and counts in them, the fields.
        Some(result) => json!({"result": fields(result)}),
        None => json!({"item": value.as_object().unwrap().keys().collect::<Vec<_>>()}),
    }
}

fn fields(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), fields(value))).collect(),
        // What is in it may have come between the one question and the other.
        Value::Array(_) => json!("list"),
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
    }
}

#[tokio::test]
async fn every_command_is_answered_the_same_at_both_doors() {
    let world = World::up().await;
    let app = world.app("worker");
    app.write_document(
        "name = \"worker\"\n\n[units.worker]\nstart = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\"]\n\
         health = { running = \"50ms\" }\n",
    );
    app.run(&world, &["deploy"]).await.ok();
    let viewer = world.enrol("vic", 51, &["--role", "viewer"]).await;
    let narrowed = world.enrol("dee", 52, &["--role", "deployer", "--apps", "blog"]).await;
    let (owner, stranger) = (world.owner(), KeySigner::generate([53; 32], "stranger"));
    let epoch = hello(world.management).await.unwrap().epoch;
    let doors = Doors { world, epoch };
    let mut compared = 0;
    for name in CommandName::ALL {
        let mut cases = cases(*name);
        cases.push(json!({"no-such-field": 1}));
        for params in cases {
            for (who, key) in
                [("owner", &owner), ("viewer", &viewer), ("narrowed", &narrowed), ("stranger", &stranger)]
            {
                let is_stream = name.kind() == Kind::Stream;
                let there = doors.over_http(&doors.sign(key, *name, &params), is_stream).await;
                let here = doors.over_socket(&doors.sign(key, *name, &params)).await;
                assert_eq!(there, here, "{name:?} {params} by {who}");
                let code = here["fault"]["code"].as_str();
                assert_eq!(who == "stranger", code == Some("refused"), "{name:?} by {who}: {here}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

#[tokio::test]
async fn a_request_is_good_once_whichever_door_it_came_through_first() {
    let world = World::up().await;
    let owner = world.owner();
    let epoch = hello(world.management).await.unwrap().epoch;
    let doors = Doors { world, epoch };
    let signed = doors.sign(&owner, CommandName::ServerStatus, &json!({}));
    assert!(doors.over_http(&signed, false).await.get("result").is_some());
    assert_eq!(doors.over_socket(&signed).await["fault"]["code"], "replay");
    let signed = doors.sign(&owner, CommandName::ServerStatus, &json!({}));
    assert!(doors.over_socket(&signed).await.get("result").is_some());
    assert_eq!(doors.over_http(&signed, false).await["fault"]["code"], "replay");
}
