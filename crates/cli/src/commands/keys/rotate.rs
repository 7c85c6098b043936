//! `allod keys rotate`: one key for another, with the same role, scopes and name.

use super::{
    Reach, show,
    which::{Which, public_key_line},
};
use crate::{commands::fleet::ask_all, failure::Failure, session::Session};
use allod_proto::messages::keys::{KeysList, KeysRotate};
use clap::Args;

/// `allod keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod keys rotate ana@laptop ana-new.pub --all-servers")]
pub(super) struct Rotate {
    /// The key that goes: its fingerprint, its public key file, or the name it is enrolled under
    #[arg(value_name = "OLD")]
    old: String,
    /// The key that comes: a public key file, or the key itself
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    reach: Reach,
}

/// Runs it.
pub(super) async fn run(session: &Session, rotate: Rotate) -> Result<(), Failure> {
    let which = Which::parse(&rotate.old)?;
    let new = public_key_line(&rotate.new)?;
    let servers = rotate.reach.servers(session)?;
    let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
    session.confirm(&format!(
        "Replace {} on {}? The old key stops working at once.",
        rotate.old,
        names.join(", ")
    ))?;
    let answers = ask_all(session, servers, |_, mut client| {
        let (which, new) = (which.clone(), new.clone());
        async move {
            let old = match &which {
                Which::Fingerprint(fingerprint) => fingerprint.clone(),
                Which::Name(_) => which.find(&client.call(KeysList {}).await?)?,
            };
            Ok(client.call(KeysRotate { old, new }).await?)
        }
    })
    .await;
    show(session, &answers, "rotated")
}
