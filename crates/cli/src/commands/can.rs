//! `allod can`: exactly what a key may do, as the server decides it.

use crate::{
    commands::{
        fleet::{Asked, ask_all, conclude},
        keys::which::Which,
    },
    failure::Failure,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
    },
    session::Session,
};
use allod_proto::{
    Role,
    messages::keys::{KeysCan, KeysCanReply, KeysList},
};
use clap::Args;
use serde_json::json;

/// `allod can`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod can --me\n  allod can ana@laptop --server web1")]
pub struct Can {
    /// Whose: a fingerprint, a public key file, or the name it is enrolled under; your own key if not given
    #[arg(value_name = "KEY", conflicts_with = "me")]
    key: Option<String>,
    /// Your own key
    #[arg(long)]
    me: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, can: Can) -> Result<(), Failure> {
    let which = can.key.as_deref().map(Which::parse).transpose()?;
    let answers = ask_all(session, session.servers()?, |_, mut client| {
        let which = which.clone();
        async move {
            let fingerprint = match which {
                Some(Which::Fingerprint(fingerprint)) => Some(fingerprint),
                Some(name @ Which::Name(_)) => Some(name.find(&client.call(KeysList {}).await?)?),
                None => None,
            };
            Ok(client.call(KeysCan { fingerprint }).await?)
        }
    })
    .await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "can": reply}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<KeysCanReply>], style: Style) -> String {
    let mut text = String::new();
    for Asked { server, outcome } in answers {
        let Ok(reply) = outcome else { continue };
        let apps = match (&reply.apps, reply.role) {
            (_, Role::Caller) => "no app".to_owned(),
            (None, _) => "all apps".to_owned(),
            (Some(apps), _) => format!("only {}", apps.join(", ")),
        };
        let key = reply.fingerprint.as_ref().map(|key| format!(" ({key})")).unwrap_or_default();
        text.push_str(&format!(
            "{}: {}{key}, {}, {}\n",
            style.bold(&server.name),
            safe(&reply.name),
            reply.role,
            safe(&apps)
        ));
        let mut table = Table::new(&["command", "for"]);
        for allowed in &reply.commands {
            let reach = if allowed.scoped { "its apps" } else { "everything" };
            table.row(vec![(&allowed.command).into(), Cell::toned(Tone::Dim, reach)]);
        }
        text.push_str(&table.render(style));
        if reply.named.is_empty() {
            continue;
        }
        let mut named = Table::new(&["named command", "does", "parameters"]);
        for runnable in &reply.named {
            let params = safe(&crate::commands::commands::params(runnable));
            named.row(vec![
                runnable.name.as_str().into(),
                safe(&runnable.summary).as_str().into(),
                params.as_str().into(),
            ]);
        }
        text.push_str(&named.render(style));
    }
    text
}
