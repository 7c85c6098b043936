use allod_proto::{
    Command, CommandName, FaultCode, Kind, Request,
    command::{Call, Frame, ReplyBody, StreamItem},
    messages::{app, audit, keys, ops, secrets, server},
};
use serde_json::Value;
use std::collections::BTreeSet;

const REQUESTS: &str = include_str!("../golden/v1/requests.jsonl");
const REPLIES: &str = include_str!("../golden/v1/replies.jsonl");
const FRAMES: &str = include_str!("../golden/v1/frames.jsonl");
/// The commands there were.
const COMMANDS: usize = 34;

/// A reply is one of this command, and nothing of it is lost on reading.
fn reads<C: Call>(result: &Value) {
    let reply: C::Reply = serde_json::from_value(result.clone()).unwrap();
    let again = serde_json::to_value(reply).unwrap();
    for (name, value) in result.as_object().unwrap() {
        assert_eq!(&again[name], value, "{} of {}", name, C::NAME);
    }
}

fn read(command: &str, result: &Value) {
    match command {
        "hello" => reads::<server::Hello>(result),
        "server_info" => reads::<server::ServerInfo>(result),
        "server.status" => reads::<server::ServerStatus>(result),
        "server.doctor" => reads::<server::ServerDoctor>(result),
        "server.prune" => reads::<server::ServerPrune>(result),
        "app.missing" => reads::<app::AppMissing>(result),
        "app.chunk" => reads::<app::AppChunk>(result),
        "app.preflight" => drop(serde_json::from_value::<app::AppPreflightReply>(result.clone()).unwrap()),
        "app.deploy" => reads::<app::AppDeploy>(result),
        "app.rollback" => reads::<app::AppRollback>(result),
        "app.scale" => reads::<app::AppScale>(result),
        "app.start" => reads::<app::AppStart>(result),
        "app.stop" => reads::<app::AppStop>(result),
        "app.restart" => reads::<app::AppRestart>(result),
        "app.remove" => reads::<app::AppRemove>(result),
        "app.status" => reads::<app::AppStatusGet>(result),
        "app.releases" => reads::<app::AppReleases>(result),
        "secrets.set" => reads::<secrets::SecretsSet>(result),
        "secrets.list" => reads::<secrets::SecretsList>(result),
        "secrets.remove" => reads::<secrets::SecretsRemove>(result),
        "secrets.export" => reads::<secrets::SecretsExport>(result),
        "ops.list" => reads::<ops::OpsList>(result),
        "ops.cancel" => reads::<ops::OpsCancel>(result),
        "keys.list" => reads::<keys::KeysList>(result),
        "keys.add" => reads::<keys::KeysAdd>(result),
        "keys.revoke" => reads::<keys::KeysRevoke>(result),
        "keys.rotate" => reads::<keys::KeysRotate>(result),
        "keys.can" => reads::<keys::KeysCan>(result),
        "audit.show" => reads::<audit::AuditShow>(result),
        "audit.verify" => reads::<audit::AuditVerify>(result),
        "audit.stats" => reads::<audit::AuditStats>(result),
        other => panic!("what does {other} answer?"),
    }
}

#[test]
fn every_request_of_version_1_is_understood() {
    let mut seen = BTreeSet::new();
    for line in REQUESTS.lines() {
        let request = Request::parse(line.as_bytes()).unwrap_or_else(|fault| panic!("{line}: {fault:?}"));
        assert_eq!(request.v, 1);
        seen.insert(request.command.name());
        // Written again in the same version it means the same.
        assert_eq!(Request::parse(&request.to_body()).unwrap(), request);
    }
    assert_eq!(seen.len(), COMMANDS);
    assert!(matches!(
        Request::parse(REQUESTS.lines().last().unwrap().as_bytes()).unwrap().command,
        Command::ServerStatus(_)
    ));
}

#[test]
fn every_reply_of_a_server_of_version_1_is_understood() {
    let mut seen = BTreeSet::new();
    for line in REPLIES.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let command = line["command"].as_str().unwrap();
        let reply: ReplyBody = serde_json::from_value(line["reply"].clone()).unwrap();
        match (&reply.result, &reply.fault) {
            (Some(result), None) => read(command, result),
            (None, Some(fault)) => assert_eq!(fault.code, FaultCode::Clock),
            _ => panic!("neither or both: {line}"),
        }
        seen.extend(CommandName::from_wire(command));
    }
    // What runs of named commands print is a stream that version 1 did not have.
    let had = |name: &&CommandName| name.kind() == Kind::Stream && **name != CommandName::CommandOutput;
    let streams = CommandName::ALL.iter().filter(had).count();
    assert_eq!(seen.len(), COMMANDS - streams);
}

#[test]
fn every_frame_of_a_server_of_version_1_is_understood() {
    for line in FRAMES.lines() {
        let frame: Frame = serde_json::from_str(line).unwrap();
        let item: StreamItem = serde_json::from_str(&frame.payload).unwrap();
        assert_eq!(frame.last, matches!(item, StreamItem::End {}), "{line}");
    }
}
