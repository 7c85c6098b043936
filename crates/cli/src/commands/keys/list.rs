//! `allod keys list`.

use super::show;
use crate::{commands::fleet::ask_all, failure::Failure, session::Session};
use allod_proto::messages::keys::KeysList;
use clap::Args;

/// `allod keys list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod keys list --server web1")]
pub(super) struct List {}

/// Runs it.
pub(super) async fn run(session: &Session, _list: &List) -> Result<(), Failure> {
    let answers =
        ask_all(
            session,
            session.servers()?,
            |_, mut client| async move { Ok(client.call(KeysList {}).await?) },
        )
        .await;
    show(session, &answers, "")
}
