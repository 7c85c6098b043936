//! What the executor can tell without an agent: each finding with its fix, worst first.

use crate::{Executor, actions, apps::AppRecord};
use allod_proto::{
    Role,
    executor::{Action, Done, Instance},
    messages::server::{Finding, FindingLevel},
};
use std::{sync::Arc, time::Duration};

/// How long an agent that lives never says nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// An owner's key that ends within this is no way back in.
const LASTING: Duration = Duration::from_secs(14 * 24 * 3600);

/// Looks at everything.
pub(super) async fn look(executor: &Arc<Executor>) -> Vec<Finding> {
    let mut findings = vec![
        agent(executor),
        keys(executor),
        disk(executor),
        clock(executor),
        apps(executor),
        record(executor).await,
    ];
    findings.sort_by_key(|finding| finding.level);
    findings
}

fn finding(about: &str, level: FindingLevel, message: String, fix: Option<&str>) -> Finding {
    Finding { about: about.to_owned(), level, message, fix: fix.map(str::to_owned) }
}

fn good(about: &str, message: String) -> Finding {
    finding(about, FindingLevel::Good, message, None)
}

fn agent(executor: &Executor) -> Finding {
    let now = executor.now();
    let fix = Some("restart");
    match *executor.agent() {
        None => finding("agent", FindingLevel::Bad, "no agent is attached".to_owned(), fix),
        Some(agent) if now.since(agent.asked_at) > SILENCE => {
            let seconds = now.since(agent.asked_at).as_secs();
            finding("agent", FindingLevel::Bad, format!("it has asked nothing for {seconds} s"), fix)
        }
        Some(_) => good("agent", format!("attached; the executor began {} s ago", executor.age().as_secs())),
    }
}

fn keys(executor: &Executor) -> Finding {
    let soon = executor.now().plus(LASTING);
    let mut keys = executor.keys();
    keys.refresh();
    let enrolled = keys.enrolled().entries();
    let lasting = |entry: &&allod_signing::EnrolledKey| {
        entry.grant().role == Role::Owner
            && !entry.grant().is_expired(soon)
            && !keys.revoked().has(entry.fingerprint())
    };
    let owners = enrolled.iter().filter(lasting).count();
    let complaints = keys.list().complaints;
    if owners == 0 {
        let message = "no owner's key lasts longer than 14 days".to_owned();
        return finding("keys", FindingLevel::Bad, message, Some("enrol KEY"));
    }
    if complaints.is_empty() {
        return good("keys", format!("{} enrolled, {owners} of owners", enrolled.len()));
    }
    let message = format!("lines that authorise nobody: {}", complaints.join("; "));
    finding("keys", FindingLevel::Warning, message, Some("mend or remove them, as root"))
}

fn disk(executor: &Executor) -> Finding {
    if executor.room().is_scarce() {
        let message = "full: only what frees it is begun".to_owned();
        return finding(
            "disk",
            FindingLevel::Bad,
            message,
            Some("allod servers prune, or make room as root"),
        );
    }
    match allod_store::free_bytes(&executor.layout().executor()) {
        Ok(free) => good("disk", format!("{} MiB free", free >> 20)),
        Err(error) => finding("disk", FindingLevel::Warning, error.to_string(), Some("look at it as root")),
    }
}

fn clock(executor: &Executor) -> Finding {
    match executor.clock_stepped() {
        None => good("clock", format!("{} ms since 1970", executor.now())),
        Some(by) => {
            let message = format!("was set by {} s", by.as_secs());
            finding("clock", FindingLevel::Warning, message, Some("restart"))
        }
    }
}

fn apps(executor: &Executor) -> Finding {
    let running = executor.instances().all();
    let apps = executor.apps();
    let lacking: Vec<String> = apps.all().filter_map(|app| lacks(app, &running)).collect();
    if lacking.is_empty() {
        return good("apps", format!("{} as wanted", apps.all().count()));
    }
    let fix = "the agent starts what is wanted: is it attached?";
    finding("apps", FindingLevel::Bad, format!("not as wanted: {}", lacking.join(", ")), Some(fix))
}

fn lacks(app: &AppRecord, running: &[Instance]) -> Option<String> {
    let wanted: u32 = match app.current() {
        Some(release) if !app.stopped => app.scale_for(release).values().sum(),
        Some(_) | None => return None,
    };
    let there = running.iter().filter(|it| it.app == app.app && it.exit.is_none()).count();
    let lacks = usize::try_from(wanted).is_ok_and(|wanted| there < wanted);
    lacks.then(|| format!("{} ({there} of {wanted} run)", app.app))
}

async fn record(executor: &Arc<Executor>) -> Finding {
    let bad = |message: String| {
        finding(
            "record",
            FindingLevel::Bad,
            message,
            Some("compare with the heads that clients and the hub have seen"),
        )
    };
    // It reads all of it: one at a time, whoever asks how often.
    let Ok(_only) = executor.checking().try_lock() else {
        return finding(
            "record",
            FindingLevel::Warning,
            "is being checked already".to_owned(),
            Some("ask again"),
        );
    };
    match actions::carry_out(executor, Action::RecordVerify {}).await {
        Ok(Done::Verified(verified)) => match verified.found {
            None => good("record", format!("{} lines, unbroken", verified.lines)),
            Some(found) => bad(found),
        },
        Ok(_) => bad("it was not checked".to_owned()),
        Err(fault) => bad(fault.message),
    }
}
