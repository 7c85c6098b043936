//! `allod mesh`: how this machine is on the mesh, who else is there, and how each is reached.

use crate::{
    failure::Failure,
    render::{
        safe,
        table::{Cell, Table, Tone},
    },
    session::Session,
};
use allod_mesh::MeshStatus;
use allod_proto::{
    FaultCode,
    node::{NodePath, NodePeer},
};
use clap::Args;

/// `allod mesh`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod mesh\n  allod mesh --json")]
pub struct Mesh {}

/// Runs it.
///
/// # Errors
/// [`Failure`] when this machine is on no mesh of its own, or its node does not answer.
pub async fn run(session: &Session, _: Mesh) -> Result<(), Failure> {
    let own = session.own_mesh().await?;
    let status = own.settled_status().await;
    let peers = match own.node() {
        Some(node) => {
            node.peers().await.map_err(|error| Failure::new(FaultCode::Unreachable, error.to_string()))?
        }
        None => Vec::new(),
    };
    let document = serde_json::json!({
        "driver": status.driver, "up": status.up, "name": status.name, "addresses": status.addresses,
        "troubles": status.troubles.iter().map(ToString::to_string).collect::<Vec<_>>(), "peers": peers,
    });
    session.output.document(&document, |style| {
        let mut text = about(&status);
        for trouble in &status.troubles {
            let mark = if trouble.is_grave() { style.bad("✗") } else { style.warn("!") };
            text.push_str(&format!(
                "{mark} {}\n    fix: {}\n",
                safe(&trouble.to_string()),
                safe(&trouble.fix())
            ));
        }
        if !peers.is_empty() {
            let mut table = Table::new(&["name", "address", "seen", "path", "tags"]);
            peers.iter().for_each(|peer| table.row(row(peer)));
            text.push_str(&table.render(style));
        }
        text
    })
}

fn about(status: &MeshStatus) -> String {
    let addresses: Vec<_> = status.addresses.iter().map(ToString::to_string).collect();
    let name = status.name.as_deref().unwrap_or("this machine");
    let place = if addresses.is_empty() { "not on the mesh".to_owned() } else { addresses.join(", ") };
    format!("{}: {place} ({})\n", safe(name), status.driver)
}

fn row(peer: &NodePeer) -> Vec<Cell> {
    let address = peer.addresses.first().map(ToString::to_string).unwrap_or_default();
    let seen = match peer.online {
        Some(true) => Cell::toned(Tone::Good, "online"),
        Some(false) => Cell::toned(Tone::Dim, "away"),
        None => Cell::toned(Tone::Dim, "-"),
    };
    let name = peer.name.trim_end_matches('.');
    vec![name.into(), address.into(), seen, path(&peer.path), peer.tags.join(" ").into()]
}

fn path(path: &NodePath) -> Cell {
    match path {
        NodePath::Own => Cell::toned(Tone::Dim, "this machine"),
        NodePath::Idle => Cell::toned(Tone::Dim, "-"),
        NodePath::Relay => Cell::toned(Tone::Warn, "relay"),
        NodePath::Direct { to, trip_microseconds: None } => format!("direct, {to}").into(),
        NodePath::Direct { to, trip_microseconds: Some(trip) } => {
            format!("direct, {to}, {}.{} ms", trip / 1000, trip % 1000 / 100).into()
        }
    }
}
