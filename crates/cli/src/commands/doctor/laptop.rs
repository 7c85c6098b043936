//! What can be wrong on the person's own machine: the inventory, what is remembered, keys and who may read them.

use super::{bad, failed, good, warning};
use crate::{
    keys::{Agent, FileKey, KeysError, default_files},
    session::Session,
};
use allod_proto::messages::server::{Finding, FindingLevel};
use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

/// Looks at this machine.
pub(super) fn look(session: &Session) -> Vec<Finding> {
    let mut findings = vec![inventory(session)];
    findings.extend(remembered(session));
    findings.extend(keys(session));
    findings
}

/// What is wrong with this machine's place on the mesh. Of a mesh that is only here, and that nobody said is ours, it is
/// no more than a warning.
pub(super) async fn mesh(session: &Session) -> Vec<Finding> {
    let own = match session.mesh().await {
        Ok(Some(own)) => own,
        Ok(None) => return Vec::new(),
        Err(failure) => return vec![failed("mesh", &failure)],
    };
    let mut findings = allod_mesh::findings(&own.status(), session.now());
    for finding in
        findings.iter_mut().filter(|finding| !own.is_chosen() && finding.level == FindingLevel::Bad)
    {
        finding.level = FindingLevel::Warning;
    }
    findings
}

fn inventory(session: &Session) -> Finding {
    let inventory = match session.inventory() {
        Ok(inventory) => inventory,
        Err(failure) => return failed("inventory", &failure),
    };
    let path = inventory.path();
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode() & 0o777).unwrap_or(0o600);
    let place = path.display();
    if mode & 0o022 != 0 {
        let message =
            format!("{place} can be changed by others (mode {mode:04o}): they could pin another identity");
        return bad("inventory", message, format!("chmod 600 {place}"));
    }
    match inventory.servers().len() {
        0 => warning("inventory", "no servers are known yet", "allod servers add HOST"),
        count => good("inventory", format!("{count} servers in {place}")),
    }
}

fn remembered(session: &Session) -> Vec<Finding> {
    let Ok(inventory) = session.inventory() else { return Vec::new() };
    let known = session.known();
    let broken = inventory.servers().iter().filter_map(|server| {
        let error = known.load(&server.identity).err()?;
        Some(bad("memory", format!("{}: {error}", server.name), error.hint()))
    });
    let unpinned = inventory.servers().iter().filter(|server| server.record_key.is_none()).map(|server| {
        let message = format!("{}: its record key is not pinned, so its record isn't checked", server.name);
        warning("record key", message, format!("allod servers trust {}", server.name))
    });
    broken.chain(unpinned).collect()
}

fn keys(session: &Session) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut usable = 0;
    if let Some(socket) = &session.settings.agent_socket {
        match Agent::new(socket).keys() {
            Ok(keys) => {
                usable += keys.len();
                findings.push(good("ssh-agent", format!("{} keys that can sign", keys.len())));
            }
            Err(error) => findings.push(warning(
                "ssh-agent",
                error.to_string(),
                "start one (`eval $(ssh-agent)`), or unset SSH_AUTH_SOCK",
            )),
        }
    }
    let home = session.settings.home.as_deref();
    let inventory = session.inventory();
    let of_servers =
        inventory.iter().flat_map(|inventory| inventory.servers()).filter_map(|server| server.key.clone());
    let mut paths: Vec<_> = session.globals.key.clone().into_iter().chain(of_servers).collect();
    paths.extend(home.map(default_files).unwrap_or_default());
    let mut seen = BTreeSet::new();
    for path in paths.into_iter().filter(|path| seen.insert(path.clone())) {
        match FileKey::load(&path) {
            Ok(Some(file)) => {
                usable += 1;
                let kind = file.key.algorithm();
                findings.push(good("key", format!("{}: {kind} {}", path.display(), file.key.fingerprint())));
            }
            Ok(None) => {}
            Err(error @ KeysError::Exposed { .. }) => {
                findings.push(bad("key", error.to_string(), error.hint()))
            }
            Err(error) => findings.push(warning("key", error.to_string(), error.hint())),
        }
    }
    if usable == 0 {
        let fix = "ssh-keygen -t ed25519, then have an owner enrol the .pub file by `allod keys add`";
        findings.push(bad("keys", "there is no key to sign with", fix));
    }
    findings
}
