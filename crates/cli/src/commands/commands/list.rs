//! `allod commands list`: what may be run, and by whom.

use crate::{
    commands::fleet::{Asked, ask_all, conclude},
    failure::Failure,
    render::{Style, Table, safe},
    session::Session,
};
use allod_proto::{
    messages::named::{CommandList, CommandListReply, Runnable},
    named::Definition,
};
use clap::Args;
use serde_json::json;

/// `allod commands list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod commands list --server web1")]
pub(super) struct List {}

/// Runs it.
pub(super) async fn run(session: &Session, List {}: List) -> Result<(), Failure> {
    let answers = ask_all(session, session.servers()?, |_, mut client| async move {
        Ok(client.call(CommandList {}).await?)
    })
    .await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "commands": reply}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<CommandListReply>], style: Style) -> String {
    let mut text = String::new();
    for Asked { server, outcome } in answers {
        let Ok(reply) = outcome else { continue };
        let stopped =
            if reply.registry.held { ", all callers are stopped (`allod gate resume`)" } else { "" };
        text.push_str(&format!(
            "{}: registry {}{stopped}\n",
            style.bold(&server.name),
            reply.registry.counter
        ));
        for why in &reply.registry.complaints {
            text.push_str(&format!("  {} {}\n", style.warn("not taken in:"), safe(why)));
        }
        if let Some(why) = &reply.registry.unbounded {
            text.push_str(&format!("  {} {}\n", style.warn("not bounded:"), safe(why)));
        }
        if reply.runnable.is_empty() {
            text.push_str("  nothing that you may run\n");
            continue;
        }
        let mut table = Table::new(&["command", "does", "parameters", "who"]);
        for runnable in &reply.runnable {
            let definition = reply.definitions.iter().find(|it| it.name == runnable.name);
            table.row(vec![
                runnable.name.as_str().into(),
                safe(&runnable.summary).as_str().into(),
                safe(&params(runnable)).as_str().into(),
                safe(&definition.map(who).unwrap_or_default()).as_str().into(),
            ]);
        }
        text.push_str(&table.render(style));
    }
    text
}

/// The parameters of a command in a few words.
pub(in crate::commands) fn params(runnable: &Runnable) -> String {
    let params = runnable.params.iter().map(|(name, kind)| format!("{name}={kind}"));
    params.collect::<Vec<_>>().join("; ")
}

fn who(definition: &Definition) -> String {
    let approval = if definition.approval.is_some() { ", approved" } else { "" };
    match definition.callers.as_slice() {
        [] => format!("operators{approval}"),
        callers => format!("operators, {}{approval}", callers.join(", ")),
    }
}
