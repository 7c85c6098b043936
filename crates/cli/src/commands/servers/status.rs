//! `allod servers status`: all servers side by side, each with a deadline of its own.

use crate::{
    commands::fleet::{Asked, ask_all, conclude},
    failure::Failure,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
        time::{local, span},
    },
    session::Session,
};
use allod_proto::{
    FaultCode, Timestamp,
    messages::{
        app::{AppState, AppStatus, InstanceState},
        server::{ServerStatus, ServerStatusReply},
    },
};
use clap::Args;
use serde_json::{Value, json};

/// `allod servers status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod servers status\n  allod servers status --server web1 --json")]
pub(super) struct Status {}

/// Runs it.
pub(super) async fn run(session: &Session, _status: &Status) -> Result<(), Failure> {
    all_apps(session).await
}

/// All servers with all their apps; `allod status` outside an app's folder.
///
/// # Errors
/// [`Failure`] when a server does not answer.
pub async fn all_apps(session: &Session) -> Result<(), Failure> {
    let answers = ask_all(session, session.servers()?, |_, mut client| async move {
        Ok(client.call(ServerStatus {}).await?)
    })
    .await;
    for answer in &answers {
        remember_apps(session, answer);
    }
    let rows = answers.iter().map(row).collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| status_text(&answers, session.now(), style))
}

/// For completion; nothing depends on it.
fn remember_apps(session: &Session, answer: &Asked<ServerStatusReply>) {
    let Ok(status) = &answer.outcome else { return };
    let apps: Vec<_> = status.apps.iter().map(|app| app.app.clone()).collect();
    let remembered = session.known().change(&answer.server.identity, |known| known.apps = apps);
    if let Err(error) = remembered {
        session.output.note(&error.to_string());
    }
}

fn row(answer: &Asked<ServerStatusReply>) -> Value {
    match &answer.outcome {
        Ok(status) => json!({"server": answer.server.name, "ok": true, "status": status}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    }
}

/// The tables for people.
#[must_use]
pub fn status_text(answers: &[Asked<ServerStatusReply>], now: Timestamp, style: Style) -> String {
    let mut servers =
        Table::new(&["server", "state", "apps", "up", "disk free", "load", "record", "version"]);
    let mut apps =
        Table::new(&["server", "app", "state", "release", "instances", "deployed", "by", "routes"]);
    let mut notes = String::new();
    for Asked { server, outcome } in answers {
        match outcome {
            Ok(status) => {
                servers.row(server_row(&server.name, status, now));
                status.apps.iter().for_each(|app| apps.row(app_row(&server.name, app)));
                for note in server_notes(status) {
                    notes.push_str(&format!("{} {}: {}\n", style.warn("note:"), server.name, safe(&note)));
                }
            }
            Err(failure) => servers.row(vec![(&server.name).into(), dead(failure.fault.code)]),
        }
    }
    let mut text = servers.render(style);
    if !apps.is_empty() {
        text.push('\n');
        text.push_str(&apps.render(style));
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

fn dead(code: FaultCode) -> Cell {
    let word = match code {
        FaultCode::Untrusted => "not trusted",
        FaultCode::Refused => "refuses our keys",
        FaultCode::Unreachable => "unreachable",
        FaultCode::Timeout => "no answer",
        other => other.as_str(),
    };
    Cell::toned(Tone::Bad, word)
}

fn server_row(name: &str, status: &ServerStatusReply, now: Timestamp) -> Vec<Cell> {
    let count = |state: AppState| status.apps.iter().filter(|app| app.state == state).count();
    let (down, degraded) = (count(AppState::Down), count(AppState::Degraded));
    let state = match (down, degraded, &status.proxy) {
        (0, 0, Some(_)) => Cell::toned(Tone::Good, "ok"),
        (0, 0, None) => Cell::toned(Tone::Bad, "proxy doesn't answer"),
        (0, degraded, _) => Cell::toned(Tone::Warn, format!("{degraded} degraded")),
        (down, _, _) => Cell::toned(Tone::Bad, format!("{down} down")),
    };
    let tight = status.disk_total > 0 && status.disk_free < status.disk_total / 10;
    let tone = if tight { Tone::Warn } else { Tone::Plain };
    vec![
        name.into(),
        state,
        status.apps.len().to_string().into(),
        span(now.since(status.started_at)).into(),
        Cell::toned(tone, bytes(status.disk_free)),
        format!("{}.{:02}", status.load_hundredths / 100, status.load_hundredths % 100).into(),
        status.record.seq.to_string().into(),
        (&status.version).into(),
    ]
}

fn server_notes(status: &ServerStatusReply) -> Vec<String> {
    let isolation = status.isolation.iter().filter(|fact| !fact.on).map(|fact| match &fact.why {
        Some(why) => format!("{} is off: {why}", fact.what),
        None => format!("{} is off", fact.what),
    });
    let complaints = status.key_complaints.iter().map(|complaint| format!("enrolled keys: {complaint}"));
    isolation.chain(complaints).collect()
}

fn app_row(server: &str, app: &AppStatus) -> Vec<Cell> {
    let state = match app.state {
        AppState::Healthy => Cell::toned(Tone::Good, "healthy"),
        AppState::Degraded => Cell::toned(Tone::Warn, "degraded"),
        AppState::Down => Cell::toned(Tone::Bad, "down"),
        AppState::Stopped => Cell::toned(Tone::Dim, "stopped"),
        AppState::New => Cell::toned(Tone::Dim, "new"),
    };
    let instances: Vec<_> = app
        .units
        .iter()
        .map(|unit| {
            let healthy =
                unit.instances.iter().filter(|instance| instance.state == InstanceState::Healthy).count();
            if unit.kind == "static" {
                format!("{} static", unit.unit)
            } else {
                format!("{} {healthy}/{}", unit.unit, unit.wanted)
            }
        })
        .collect();
    let release = app.release.as_ref();
    let version = release.map_or_else(
        || "-".to_owned(),
        |release| release.version.clone().unwrap_or_else(|| release.id.to_string()),
    );
    vec![
        server.into(),
        app.app.to_string().into(),
        state,
        version.into(),
        instances.join(", ").into(),
        release.and_then(|release| release.served_at).map(local).unwrap_or_default().into(),
        release.map(|release| release.by.clone()).unwrap_or_default().into(),
        app.routes.join(", ").into(),
    ]
}

/// `1.5 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, size) in UNITS {
        if count >= size {
            return format!("{}.{} {unit}", count / size, count % size * 10 / size);
        }
    }
    format!("{count} B")
}

#[cfg(test)]
mod tests;
