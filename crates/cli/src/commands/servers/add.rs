//! `allod servers add`: resolve, check the address, look for it on the mesh, ask who is there, compare the identity with what the
//! server says over SSH, make a signed call, pin, and only then save. What fails saves nothing.

use super::{
    probe::{Claims, check_address, claims, signed_status, step},
    recovery::{self, Door},
};
use crate::{
    failure::Failure,
    inventory::{Inventory, InventoryError, Server, is_name, with_port},
    session::Session,
};
use allod_proto::{FaultCode, Fingerprint, headers::MANAGEMENT_PORT};
use clap::Args;
use std::net::{IpAddr, SocketAddr};

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
    /// Its identity, as the server itself shows it; without this flag it is read over SSH at the recovery door
    #[arg(long, value_name = "SHA256:…")]
    identity: Option<Fingerprint>,
    /// Where the recovery door is, if it isn't allod-recovery@HOST
    #[arg(long, value_name = "[USER@]HOST[:PORT]", conflicts_with = "without_recovery")]
    recovery: Option<Door>,
    /// Compare the identity by eye, and don't look whether the recovery door opens
    #[arg(long)]
    without_recovery: bool,
    /// What it is called here; otherwise what it calls itself
    #[arg(long)]
    name: Option<String>,
    /// Allow an address that isn't one of the mesh, on an encrypted network of your own
    #[arg(long)]
    outside_mesh: bool,
}

/// Runs it.
pub(super) async fn run(session: &Session, add: Add) -> Result<(), Failure> {
    let written = with_port(add.address.as_deref().unwrap_or(&add.host), MANAGEMENT_PORT);
    let address = step("look up the address", session.resolve(&written).await)?;
    step("check the address", check_address(address, add.outside_mesh))?;
    let known = if add.outside_mesh { Ok(()) } else { session.check_peer(address).await };
    step("look for it on the mesh", known)?;
    let claims = step("ask who is there", claims(session, address).await)?;
    let name = step("choose a name", choose_name(session, &add, &claims))?;
    if let Some(door) = door(&add, address) {
        let said = step("read the identity over SSH", recovery::identity(session, &door).await)?;
        step("compare the identity", expect(&said, &claims.identity, &format!("over SSH {door} says")))?;
    }
    step("compare the identity", compare(session, &add, &claims, &name, address))?;
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
    let host = crate::keys::host_of(&with_port(&add.host, MANAGEMENT_PORT)).to_owned();
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

/// Where the identity is read over SSH: where somebody says so, else wherever nothing else vouches for it.
fn door(add: &Add, address: SocketAddr) -> Option<Door> {
    let is_wanted = add.identity.is_none() && !add.without_recovery && !address.ip().is_loopback();
    let usual = || {
        Door::usual(
            crate::keys::host_of(&with_port(add.address.as_deref().unwrap_or(&add.host), MANAGEMENT_PORT)),
            address,
        )
    };
    add.recovery.clone().or_else(|| is_wanted.then(usual))
}

fn expect(said: &Fingerprint, claimed: &Fingerprint, who: &str) -> Result<(), Failure> {
    if said == claimed {
        return Ok(());
    }
    Err(Failure::new(
        FaultCode::Untrusted,
        format!("the server's identity is {claimed} on the mesh; {who} {said}"),
    )
    .hint("someone else may answer at that address; nothing was sent that could harm you"))
}

fn compare(
    session: &Session,
    add: &Add,
    claims: &Claims,
    name: &str,
    address: SocketAddr,
) -> Result<(), Failure> {
    match &add.identity {
        Some(expected) => expect(expected, &claims.identity, "expected was"),
        None if door(add, address).is_some() => Ok(()),
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
