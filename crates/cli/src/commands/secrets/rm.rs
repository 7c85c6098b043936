//! `allod secrets rm`: no release made from now on gets the secret.

use super::Bring;
use crate::{
    commands::target::{Which, names},
    failure::Failure,
    session::Session,
};
use allod_proto::{SecretName, messages::secrets::SecretsRemove};
use clap::Args;

/// `allod secrets rm`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod secrets rm OLD_TOKEN")]
pub(super) struct Rm {
    /// Its name
    name: SecretName,
    #[command(flatten)]
    bring: Bring,
    #[command(flatten)]
    which: Which,
}

/// Runs it.
pub(super) async fn run(session: &Session, rm: &Rm) -> Result<(), Failure> {
    let target = rm.which.target(session)?;
    let servers = names(&target.servers);
    session.confirm(&format!("Forget the secret {} of {} on {servers}?", rm.name, target.app))?;
    let (mut replies, mut done) = (Vec::new(), Vec::new());
    for server in &target.servers {
        let on = |failure: Failure| failure.on(&server.name);
        let mut client = session.connect(server).await?;
        let call = SecretsRemove { app: target.app.clone(), name: rm.name.clone() };
        let reply = client.call(call).await.map_err(Failure::from).map_err(on);
        replies.push(reply.map_err(|failure| failure.with("removed_on", done.clone()))?);
        done.push(server.name.clone());
    }
    rm.bring.bring(session, &target, &replies).await?;
    let value = serde_json::json!({"app": target.app, "removed": rm.name, "servers": done});
    session.output.document(&value, |_| {
        format!(
            "{} of {} is forgotten on {servers}; releases that use it keep their version\n",
            rm.name, target.app
        )
    })
}
