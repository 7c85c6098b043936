//! Who may call, and exactly what.

use crate::agent::Agent;
use allod_commands::{
    Permit, Registry,
    authorize::{list as list_allowed, list_named},
};
use allod_proto::{
    Fault, FaultCode, Role,
    command::Scope,
    messages::keys::{Allowed, KeyEntry, KeysCan, KeysCanReply, KeysListReply},
};
use allod_signing::{EnrolledKey, Grant};

pub(super) fn list(agent: &Agent) -> KeysListReply {
    let keys = agent.keys.get();
    let entry = |key: &EnrolledKey| KeyEntry {
        fingerprint: key.fingerprint().clone(),
        name: key.name().to_owned(),
        algorithm: key.public().algorithm().to_owned(),
        role: key.grant().role,
        line: key.to_line(),
    };
    KeysListReply {
        keys: keys.enrolled.entries().iter().map(entry).collect(),
        complaints: complaints(agent),
        revoked: keys.revoked.lines().collect(),
    }
}

/// Lines of the enrolled keys that authorise nobody.
pub(super) fn complaints(agent: &Agent) -> Vec<String> {
    let keys = agent.keys.get();
    keys.enrolled.complaints().iter().map(|it| format!("line {}: {}", it.line, it.message)).collect()
}

pub(super) async fn can(agent: &Agent, permit: &Permit, params: &KeysCan) -> Result<KeysCanReply, Fault> {
    let caller = permit.caller();
    let (_, registry) = super::named::registry(agent).await?;
    let own = params.fingerprint.is_none() || params.fingerprint.as_ref() == caller.key();
    if own {
        let grant = Grant {
            role: caller.role(),
            apps: caller.apps().map(<[_]>::to_vec),
            commands: caller.commands().map(<[_]>::to_vec),
            from: None,
            expires: None,
        };
        return Ok(describe(caller.key().cloned(), caller.name(), &grant, &registry));
    }
    if caller.role() < Role::Operator || caller.apps().is_some() {
        return Err(Fault::new(FaultCode::NotAllowed, "what another key may do is for operators to see")
            .hint("without a key, `allod can` shows what your own key may do"));
    }
    let keys = agent.keys.get();
    let wanted = params.fingerprint.as_ref().and_then(|fingerprint| keys.enrolled.find(fingerprint));
    let entry = wanted.filter(|entry| !keys.revoked.has(entry.fingerprint())).ok_or_else(|| {
        Fault::new(FaultCode::NotFound, "this key is not enrolled, so it may do nothing")
            .hint("`allod keys list`")
    })?;
    Ok(describe(Some(entry.fingerprint().clone()), entry.name(), entry.grant(), &registry))
}

fn describe(
    fingerprint: Option<allod_proto::Fingerprint>,
    name: &str,
    grant: &Grant,
    registry: &Registry,
) -> KeysCanReply {
    let allowed = |command: allod_proto::CommandName| Allowed {
        command: command.as_str().to_owned(),
        scoped: grant.apps.is_some() && command.scope() == Scope::App,
    };
    KeysCanReply {
        named: list_named(registry, fingerprint.as_ref(), name, grant),
        fingerprint,
        name: name.to_owned(),
        role: grant.role,
        apps: grant.apps.as_ref().map(|apps| apps.iter().map(ToString::to_string).collect()),
        commands: list_allowed(grant).into_iter().map(allowed).collect(),
    }
}
