//! `allod servers rotate`: another identity key for a server, named by the old one. Everybody who pinned the old one
//! follows at their next command; requests that were signed for it are refused from then on.

use crate::{failure::Failure, known::repin, session::Session};
use allod_proto::{FaultCode, Fingerprint, messages::server::ServerRotateIdentity};
use allod_rpc::client::{self, ClientError, Dialer};
use allod_signing::follow;
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio::time::{Instant, sleep};

/// How long the server may take to come back as itself.
const BACK: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(150);

/// `allod servers rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod servers rotate web1")]
pub(super) struct Rotate {
    /// Which
    #[arg(add = ArgValueCandidates::new(crate::commands::completions::server_names))]
    name: String,
}

/// Runs it.
pub(super) async fn run(session: &Session, rotate: &Rotate) -> Result<(), Failure> {
    let server = session.server(&rotate.name)?;
    session.confirm(&format!(
        "Give {} another identity? Logins end; whoever pinned the old one follows, or compares once more.",
        server.name
    ))?;
    let address = session.resolve(&server.address).await?;
    let mut client = session.connect_to(&server, address).await?;
    let reply = client.call(ServerRotateIdentity { from: server.identity.clone() }).await?;
    let (old, new) = (&server.identity, &reply.succession.new);
    follow(std::slice::from_ref(&reply.succession), old, new)
        .map_err(|why| ClientError::BadReply(format!("the old identity does not name the new one: {why}")))?;
    repin(&session.known(), &session.settings.config, old, new)?;
    is_back(&*session.dialer(address).await?, address, new).await?;
    let document = json!({"server": server.name, "was": old, "identity": new, "at": reply.succession.at});
    session.output.document(&document, |style| {
        format!("{} {} is {new} now; it was {old}\n", style.good("✓"), server.name)
    })
}

/// Waits until the server answers as what it is now.
async fn is_back(dialer: &dyn Dialer, address: SocketAddr, new: &Fingerprint) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        if client::hello_over(dialer, address).await.is_ok_and(|hello| hello.identity == *new) {
            return Ok(());
        }
        if begin.elapsed() > BACK {
            let message =
                format!("the identity was rotated to {new}, but the server does not answer as it yet");
            return Err(Failure::new(FaultCode::Timeout, message)
                .hint("the new identity is pinned here; look again with `allod servers status`"));
        }
        sleep(LOOK_AGAIN).await;
    }
}
