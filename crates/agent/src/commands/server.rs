//! The state of the server, and what is wrong with it.

use super::{app, keys};
use crate::{agent::Agent, door::DoorState, facts};
use allod_commands::Permit;
use allod_proto::{
    Fault, Role,
    executor::Looked,
    messages::{
        app::AppState,
        server::{Finding, FindingLevel, ServerDoctorReply, ServerStatusReply},
    },
};
use allod_signing::PublicKey;
use std::time::Duration;

pub(super) async fn status(agent: &Agent, permit: &Permit) -> Result<ServerStatusReply, Fault> {
    let looked = agent.look().await?;
    let apps =
        looked.apps.iter().filter(|app| permit.sees(&app.app)).map(|it| app::status_of(agent, it, &looked));
    let disk = facts::disk(&agent.attached.releases);
    let may_see_keys = permit.caller().role() >= Role::Operator && permit.caller().apps().is_none();
    Ok(ServerStatusReply {
        name: agent.settings.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: agent.started_at,
        now: agent.now(),
        architecture: std::env::consts::ARCH.to_owned(),
        record: agent.head().head,
        record_key: record_key(agent)?,
        recipient: agent.attached.recipient.clone(),
        isolation: agent.attached.isolation.clone(),
        disk_free: disk.0,
        disk_total: disk.1,
        load_hundredths: facts::load_hundredths(),
        proxy: agent.routes.proxy_status().await,
        apps: apps.collect(),
        key_complaints: if may_see_keys { keys::complaints(agent) } else { Vec::new() },
    })
}

fn record_key(agent: &Agent) -> Result<allod_proto::Fingerprint, Fault> {
    let key = PublicKey::from_openssh(&agent.attached.record_key)
        .map_err(|_| crate::executor_link::unexpected())?;
    Ok(key.fingerprint().clone())
}

pub(super) async fn doctor(agent: &Agent) -> Result<ServerDoctorReply, Fault> {
    let looked = agent.look().await?;
    let mut findings = vec![
        disk(agent),
        clock(agent),
        door(agent),
        enrolled(agent),
        proxy(agent).await,
        apps(agent, &looked),
    ];
    findings.extend(allod_mesh::findings(&agent.mesh.watch().borrow(), agent.now()));
    findings.extend(isolation(agent));
    findings.sort_by_key(|finding| finding.level);
    Ok(ServerDoctorReply { findings })
}

fn finding(about: &str, level: FindingLevel, message: String, fix: Option<&str>) -> Finding {
    Finding { about: about.to_owned(), level, message, fix: fix.map(str::to_owned) }
}

fn disk(agent: &Agent) -> Finding {
    let (free, total) = facts::disk(&agent.attached.releases);
    let percent = free.saturating_mul(100).checked_div(total).unwrap_or(0);
    let level = match percent {
        0..5 => FindingLevel::Bad,
        5..15 => FindingLevel::Warning,
        _ => FindingLevel::Good,
    };
    let fix = (level != FindingLevel::Good).then_some("allod servers prune, or remove an app");
    finding("disk", level, format!("{} MiB free, {percent} %", free >> 20), fix)
}

fn clock(agent: &Agent) -> Finding {
    match agent.clock.stepped() {
        None => finding("clock", FindingLevel::Good, "runs steadily".to_owned(), None),
        Some(step) => finding(
            "clock",
            FindingLevel::Warning,
            format!("the wall clock was set by {} s since the agent started", step.as_secs()),
            Some("restart the agent so that it follows the new time"),
        ),
    }
}

fn door(agent: &Agent) -> Finding {
    let warning = |message, fix| finding("door", FindingLevel::Warning, message, Some(fix));
    match agent.door.state(agent.now()) {
        DoorState::Good => finding("door", FindingLevel::Good, "accepts connections".to_owned(), None),
        DoorState::Failing(times) => warning(
            format!(
                "accepting connections failed {times} times, last within the hour: no open files were left"
            ),
            "raise the agent's limit of open files (LimitNOFILE), and see who connects: allod audit stats",
        ),
        DoorState::Narrow(bound) => warning(
            format!("has open files for {bound} connections only"),
            "raise the agent's limit of open files (LimitNOFILE) to 2048 or more",
        ),
    }
}

fn enrolled(agent: &Agent) -> Finding {
    let complaints = keys::complaints(agent);
    let keys = agent.keys.get();
    let soon = agent.now().plus(Duration::from_secs(14 * 24 * 3600));
    let owners = keys.enrolled.entries().iter().filter(|entry| entry.grant().role == Role::Owner);
    let lasting = owners.filter(|entry| !entry.grant().is_expired(soon)).count();
    if lasting == 0 {
        let message = "no owner's key lasts longer than 14 days".to_owned();
        return finding("keys", FindingLevel::Bad, message, Some("allod keys add KEY --role owner"));
    }
    if complaints.is_empty() {
        return finding(
            "keys",
            FindingLevel::Good,
            format!("{} enrolled", keys.enrolled.entries().len()),
            None,
        );
    }
    let message = format!("lines that authorise nobody: {}", complaints.join("; "));
    finding(
        "keys",
        FindingLevel::Warning,
        message,
        Some("mend or remove the lines in the file of enrolled keys"),
    )
}

async fn proxy(agent: &Agent) -> Finding {
    match agent.routes.proxy_status().await {
        Some(status) => {
            let message =
                format!("serves generation {} with {} in flight", status.generation, status.in_flight);
            finding("proxy", FindingLevel::Good, message, None)
        }
        None => finding(
            "proxy",
            FindingLevel::Bad,
            "does not answer on its control socket".to_owned(),
            Some("look at its log; it is started again by itself"),
        ),
    }
}

fn apps(agent: &Agent, looked: &Looked) -> Finding {
    let all: Vec<_> = looked.apps.iter().map(|it| app::status_of(agent, it, looked)).collect();
    let ill: Vec<_> = all
        .iter()
        .filter(|status| matches!(status.state, AppState::Down | AppState::Degraded))
        .map(|status| status.app.to_string())
        .collect();
    if ill.is_empty() {
        return finding("apps", FindingLevel::Good, format!("{} as wanted", all.len()), None);
    }
    finding(
        "apps",
        FindingLevel::Bad,
        format!("not as wanted: {}", ill.join(", ")),
        Some("allod logs, then allod deploy or allod rollback"),
    )
}

fn isolation(agent: &Agent) -> Vec<Finding> {
    let off = agent.attached.isolation.iter().filter(|fact| !fact.on);
    off.map(|fact| {
        let message = format!("{} is off", fact.what);
        finding("isolation", FindingLevel::Warning, message, fact.why.as_deref())
    })
    .collect()
}
