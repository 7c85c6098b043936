//! `allod app remove`: nothing is left. A person types the app's name.

use crate::{
    commands::{
        each,
        target::{Which, names},
    },
    failure::Failure,
    session::Session,
};
use allod_proto::messages::app::AppRemove;
use clap::Args;

/// `allod app remove`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod app remove --app blog/staging")]
pub(super) struct Remove {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
pub(super) async fn run(session: &Session, remove: &Remove) -> Result<(), Failure> {
    let target = remove.which.target(session)?;
    let (app, servers) = (target.app.to_string(), names(&target.servers));
    let question =
        format!("Remove {app} from {servers}, with its releases, secrets, logs and data, for good?");
    session.confirm_by_name(&question, &app)?;
    let done =
        each::change(session, &target.servers, |_| vec![AppRemove { app: target.app.clone() }]).await?;
    for server in &target.servers {
        // For completion; nothing depends on it.
        let _ =
            session.known().change(&server.identity, |known| known.apps.retain(|known| *known != target.app));
    }
    session.output.document(&serde_json::json!({"app": target.app, "servers": done}), |_| {
        format!("{app} is gone from {servers}\n")
    })
}
