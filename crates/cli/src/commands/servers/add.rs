//! `allod servers add`: resolve, check the address, look for it on the mesh, ask who is there, have a person compare the identity, make a signed
//! call, pin, and only then save. What fails saves nothing.

use super::probe::{Claims, check_address, claims, signed_status, step};
use crate::{
    failure::Failure,
    inventory::{Inventory, InventoryError, Server, is_name, with_port},
    mesh::check_peer,
    session::{Session, resolve},
};
use allod_proto::{FaultCode, Fingerprint};
use clap::Args;
use std::net::IpAddr;

/// `allod servers add`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod servers add 100.64.0.7 --name web1\n  \
    allod servers add web1 --address 100.64.0.7 --identity SHA256:…")]
pub(super) struct Add {
    /// The server's host on the mesh; with --address, the name it gets here
    #[arg(value_name = "NAME|HOST")]
    host: String,
    /// Its address on the mesh, with the port if it isn't 9844
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Option<String>,
    /// Its identity, as the server itself shows it; without this flag a person compares
    #[arg(long, value_name = "SHA256:…")]
    identity: Option<Fingerprint>,
    /// What it is called here; otherwise what it calls itself
    #[arg(long)]
    name: Option<String>,
    /// Allow an address that isn't one of the mesh, on an encrypted network of your own
    #[arg(long)]
    outside_mesh: bool,
}

/// Runs it.
pub(super) async fn run(session: &Session, add: Add) -> Result<(), Failure> {
    let written = with_port(add.address.as_deref().unwrap_or(&add.host));
    let address = step("look up the address", resolve(&written).await)?;
    step("check the address", check_address(address, add.outside_mesh))?;
    let known = if add.outside_mesh { Ok(()) } else { check_peer(&session.settings, address).await };
    step("look for it on the mesh", known)?;
    let claims = step("ask who is there", claims(address).await)?;
    let name = step("choose a name", choose_name(session, &add, &claims))?;
    step("compare the identity", compare(session, &add, &claims, &name))?;
    let mut server = Server {
        name,
        address: written,
        identity: claims.identity,
        record_key: None,
        recipient: None,
        key: session.globals.key.clone().map(|key| std::path::absolute(&key).unwrap_or(key)),
    };
    let status = step(
        "make a signed call",
        async {
            let mut client = session.connect_to(&server, address).await?;
            signed_status(&server, &mut client).await
        }
        .await,
    )?;
    server.record_key = Some(status.record_key.clone());
    server.recipient = Some(status.recipient.clone());
    step("save", save(session, &server))?;
    session.output.document(&serde_json::json!({ "server": server }), |style| {
        format!(
            "{} {} is known: {} at {}\n",
            style.good("✓"),
            server.name,
            server.identity,
            crate::render::safe(&server.address)
        )
    })
}

fn choose_name(session: &Session, add: &Add, claims: &Claims) -> Result<String, Failure> {
    let host = crate::keys::host_of(&with_port(&add.host)).to_owned();
    let own_name = is_name(&claims.name).then(|| claims.name.clone());
    let name = match (&add.name, &add.address) {
        (Some(name), _) => name.clone(),
        (None, Some(_)) => add.host.clone(),
        // A host name that a person typed says more than what the server calls itself.
        (None, None) if host.parse::<IpAddr>().is_err() && is_name(&host) => host,
        (None, None) => own_name.unwrap_or(host),
    };
    if !is_name(&name) {
        return Err(InventoryError::Name(name).into());
    }
    let inventory = session.inventory()?;
    if let Some(same) = inventory.servers().iter().find(|server| server.identity == claims.identity) {
        return Err(InventoryError::Taken(same.name.clone()).into());
    }
    match inventory.server(&name) {
        Ok(_) => Err(InventoryError::Taken(name).into()),
        Err(_) => Ok(name),
    }
}

fn compare(session: &Session, add: &Add, claims: &Claims, name: &str) -> Result<(), Failure> {
    match &add.identity {
        Some(expected) if *expected == claims.identity => Ok(()),
        Some(expected) => Err(Failure::new(
            FaultCode::Untrusted,
            format!("the server's identity is {}, expected {expected}", claims.identity),
        )
        .hint("someone else may answer at that address; nothing was sent that could harm you")),
        None => {
            session.output.note(&format!("{name} claims the identity {}", claims.identity));
            session
                .output
                .note("Compare it with the one that the server itself printed when it was installed.");
            session.ask_yes("Is it the same?", "--identity SHA256:…")
        }
    }
}

fn save(session: &Session, server: &Server) -> Result<(), Failure> {
    Inventory::change(&session.settings.config, |servers| {
        // Another program may have added it in the meantime.
        if servers.iter().any(|known| known.name == server.name || known.identity == server.identity) {
            return Err(InventoryError::Taken(server.name.clone()).into());
        }
        servers.push(server.clone());
        Ok(())
    })
}
