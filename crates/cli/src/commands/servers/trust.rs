//! `allod servers trust`: a person's decision to accept a server anew: its identity after a reinstall, or its record as
//! it is now. Both identities are shown.

use super::probe::{claims, signed_status, step};
use crate::{
    failure::Failure,
    inventory::{Inventory, Server},
    session::Session,
};
use allod_proto::{FaultCode, Fingerprint};
use allod_rpc::client::Forgetful;
use clap::Args;
use clap_complete::engine::ArgValueCandidates;

/// `allod servers trust`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod servers trust web1")]
pub(super) struct Trust {
    /// Which
    #[arg(add = ArgValueCandidates::new(crate::commands::completions::server_names))]
    name: String,
    /// Its identity now, as the server itself shows it; without this flag a person compares
    #[arg(long, value_name = "SHA256:…")]
    identity: Option<Fingerprint>,
}

/// Runs it.
pub(super) async fn run(session: &Session, trust: Trust) -> Result<(), Failure> {
    let pinned = session.server(&trust.name)?;
    let address = step("look up the address", session.resolve(&pinned.address).await)?;
    let claims = step("ask who is there", claims(session, address).await)?;
    step("compare the identity", compare(session, &trust, &pinned, &claims.identity))?;
    let mut server =
        Server { identity: claims.identity, record_key: None, recipient: None, ..pinned.clone() };
    let (status, head) = step(
        "make a signed call",
        async {
            let mut client = session.connect_with(&server, address, Box::new(Forgetful::default())).await?;
            let status = signed_status(&server, &mut client).await?;
            let head = client.head().cloned();
            Ok::<_, Failure>((status, head))
        }
        .await,
    )?;
    server.record_key = Some(status.record_key);
    server.recipient = Some(status.recipient);
    step("save", save(session, &pinned, &server))?;
    let known = session.known();
    known.forget(&server.identity)?;
    if let Some(head) = head {
        known.change(&server.identity, |known| {
            known.head = Some(head.head);
            known.head_at = Some(head.at);
        })?;
    }
    session.output.document(&serde_json::json!({ "server": server, "was": pinned }), |style| {
        format!("{} {} is trusted as {}\n", style.good("✓"), server.name, server.identity)
    })
}

fn compare(session: &Session, trust: &Trust, pinned: &Server, now: &Fingerprint) -> Result<(), Failure> {
    let same = pinned.identity == *now;
    session.output.note(&format!("pinned identity: {}", pinned.identity));
    session.output.note(&format!("identity now:    {now}{}", if same { " (the same)" } else { "" }));
    let remembered = session.known().load(&pinned.identity).ok().and_then(|known| known.head);
    if let Some(head) = remembered {
        session.output.note(&format!("its record was seen up to line {} ({})", head.seq, head.hash));
    }
    match &trust.identity {
        Some(expected) if expected == now => Ok(()),
        Some(expected) => Err(Failure::new(
            FaultCode::Untrusted,
            format!("the server's identity is {now}, expected {expected}"),
        )),
        None => session
            .ask_yes("Trust it as it is now, and forget what was seen of its record?", "--identity SHA256:…"),
    }
}

fn save(session: &Session, pinned: &Server, server: &Server) -> Result<(), Failure> {
    Inventory::change(&session.settings.config, |servers| {
        let slot =
            servers.iter_mut().find(|known| known.name == server.name && known.identity == pinned.identity);
        let Some(slot) = slot else {
            return Err(Failure::new(FaultCode::Conflict, "somebody changed this server in the meantime"));
        };
        *slot = server.clone();
        Ok(())
    })
}
