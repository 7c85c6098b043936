//! How an app stands, for people: what is wanted beside what there is.

use crate::{
    commands::fleet::Asked,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
        time::{local, span},
    },
};
use allod_proto::{
    Timestamp,
    messages::app::{AppState, AppStatus, InstanceState, InstanceStatus, UnitStatus},
    operation::OperationState,
};

/// One part a server.
pub(super) fn text(answers: &[Asked<AppStatus>], now: Timestamp, style: Style) -> String {
    let mut text = String::new();
    for Asked { server, outcome } in answers {
        if !text.is_empty() {
            text.push('\n');
        }
        match outcome {
            Ok(status) => one(&mut text, &server.name, status, now, style),
            Err(_) => text.push_str(&format!("{}  {}\n", style.bold(&server.name), style.bad("no answer"))),
        }
    }
    text
}

fn one(text: &mut String, server: &str, status: &AppStatus, now: Timestamp, style: Style) {
    let release = status.release.as_ref().map(|release| {
        let version =
            release.version.as_deref().map(|version| format!(" ({})", safe(version))).unwrap_or_default();
        format!("release {}{version} by {}, {}", release.id, safe(&release.by), local(release.made_at))
    });
    let release = release.unwrap_or_else(|| "no release yet".to_owned());
    let name = style.bold(&format!("{} on {server}", status.app));
    text.push_str(&format!("{name}  {}  {release}\n", state(status.state, style)));
    if !status.routes.is_empty() {
        text.push_str(&format!("routes: {}\n", safe(&status.routes.join(", "))));
    }
    text.push_str(&units(&status.units, style));
    let instances = instances(&status.units, now);
    if !instances.is_empty() {
        text.push_str(&instances.render(style));
    }
    for note in notes(status) {
        text.push_str(&format!("{} {}\n", style.warn("note:"), safe(&note)));
    }
}

fn state(state: AppState, style: Style) -> String {
    match state {
        AppState::Healthy => style.good("healthy"),
        AppState::Degraded => style.warn("degraded"),
        AppState::Down => style.bad("down"),
        AppState::Stopped => style.dim("stopped"),
        AppState::New => style.dim("new"),
    }
}

fn units(units: &[UnitStatus], style: Style) -> String {
    let mut table = Table::new(&["unit", "kind", "wanted", "healthy"]);
    for unit in units {
        let healthy =
            unit.instances.iter().filter(|instance| instance.state == InstanceState::Healthy).count();
        let enough = u32::try_from(healthy).is_ok_and(|healthy| healthy >= unit.wanted);
        let (wanted, healthy) = match unit.kind.as_str() {
            "static" => (Cell::default(), Cell::default()),
            _ => {
                let tone = if enough { Tone::Good } else { Tone::Bad };
                (unit.wanted.to_string().into(), Cell::toned(tone, healthy.to_string()))
            }
        };
        table.row(vec![unit.unit.as_str().into(), (&unit.kind).into(), wanted, healthy]);
    }
    if table.is_empty() { String::new() } else { table.render(style) }
}

fn instances(units: &[UnitStatus], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["instance", "state", "release", "address", "pid", "up", "restarts", "last exit"]);
    for instance in units.iter().flat_map(|unit| &unit.instances) {
        table.row(row(instance, now));
    }
    table
}

fn row(instance: &InstanceStatus, now: Timestamp) -> Vec<Cell> {
    let state = match instance.state {
        InstanceState::Starting => Cell::toned(Tone::Warn, "starting"),
        InstanceState::Healthy => Cell::toned(Tone::Good, "healthy"),
        InstanceState::Unhealthy => Cell::toned(Tone::Bad, "unhealthy"),
        InstanceState::Draining => Cell::toned(Tone::Dim, "draining"),
        InstanceState::Exited => Cell::toned(Tone::Bad, "exited"),
    };
    let exited = instance.state == InstanceState::Exited;
    let up = if exited { String::new() } else { span(now.since(instance.started_at)) };
    let restarts = if instance.restarts == 0 { Tone::Dim } else { Tone::Warn };
    vec![
        instance.id.as_str().into(),
        state,
        instance.release.as_str().into(),
        instance.address.clone().unwrap_or_default().into(),
        instance.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
        up.into(),
        Cell::toned(restarts, instance.restarts.to_string()),
        instance.exit.clone().unwrap_or_default().into(),
    ]
}

fn notes(status: &AppStatus) -> Vec<String> {
    let running = status.operation.as_ref().filter(|operation| operation.state == OperationState::Running);
    let operation = running.map(|operation| {
        let id = &operation.id;
        format!("{} by {} is in progress: allod ops attach {id}", operation.command, operation.by)
    });
    let pending =
        status.secrets_pending.then(|| "secrets changed since: `allod restart` brings them".to_owned());
    operation.into_iter().chain(pending).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wanted_stands_beside_what_there_is() {
        let status: AppStatus = serde_json::from_value(json!({
            "app": "shop/production", "state": "degraded", "routes": ["shop.example.com"], "secrets_pending": true,
            "units": [{"unit": "web", "kind": "process", "wanted": 2, "instances": [
                {"id": "web-0011aabb", "release": "aaaaaaaaaaaa", "address": "127.0.0.1:20001", "pid": 7,
                 "started_at": 1000, "state": "healthy"},
                {"id": "web-0011aabc", "release": "aaaaaaaaaaaa", "started_at": 1000, "state": "exited",
                 "exit": "signal 9\u{1b}[2J", "restarts": 3}]}],
            "operation": {"id": "op-0123456789ab", "app": "shop/production", "command": "app.restart", "by": "ana",
                "started_at": 1, "state": "running"}
        }))
        .unwrap();
        let mut text = String::new();
        one(&mut text, "web1", &status, Timestamp(61_000), Style::new(false));
        insta::assert_snapshot!(text, @r"
        shop/production on web1  degraded  no release yet
        routes: shop.example.com
        unit  kind     wanted  healthy
        web   process  2       1
        instance      state    release       address          pid  up     restarts  last exit
        web-0011aabb  healthy  aaaaaaaaaaaa  127.0.0.1:20001  7    1 min  0
        web-0011aabc  exited   aaaaaaaaaaaa                               3         signal 9\u{1b}[2J
        note: app.restart by ana is in progress: allod ops attach op-0123456789ab
        note: secrets changed since: `allod restart` brings them
        ");
    }
}
