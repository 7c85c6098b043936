//! The mesh of the person's own machine, where it is one that can be asked who is on it. It says who is meant to be at an
//! address; who is there is proved by their signature alone.

use crate::{failure::Failure, settings::Settings};
use allod_mesh::{Mesh as _, MeshKind, MeshSettings, MeshStatus, TailscaledMesh, TailscaledSettings};
use allod_proto::FaultCode;
use std::net::SocketAddr;

/// What the tailscaled of this machine says.
#[derive(Debug)]
pub struct OwnMesh {
    mesh: TailscaledMesh,
    /// Whether the person's settings say that it is the mesh.
    chosen: bool,
}

impl OwnMesh {
    /// The one that the settings name; with `auto` the one that is here, if there is one.
    pub async fn of(settings: &Settings) -> Option<Self> {
        let kind = settings.mesh;
        let socket = settings.mesh_socket.clone();
        let place = MeshSettings { kind, address: None, socket }.socket().to_owned();
        let chosen = match kind {
            MeshKind::Tailscaled => true,
            MeshKind::Auto if place.exists() => false,
            MeshKind::Auto | MeshKind::Embedded | MeshKind::Loopback | MeshKind::Static => return None,
        };
        // Without an address of its own to listen on, there is nothing that could be refused.
        let mesh = TailscaledMesh::start(TailscaledSettings::at(place)).await.ok()?;
        Some(Self { mesh, chosen })
    }

    /// Whether the person said that this is the mesh, so that what it doesn't know is wrong.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// How this machine stands there.
    #[must_use]
    pub fn status(&self) -> MeshStatus {
        self.mesh.watch().borrow().clone()
    }

    /// Whether it can be told that nobody there has this address.
    pub async fn is_nobodys(&self, address: SocketAddr) -> bool {
        allod_mesh::is_mesh_address(address.ip()) && matches!(self.mesh.whois(address).await, Ok(None))
    }
}

/// Refuses an address that the mesh of the settings doesn't know.
///
/// # Errors
/// [`Failure`] when the settings name a mesh that can be asked, and it knows nobody there or doesn't answer.
pub async fn check_peer(settings: &Settings, address: SocketAddr) -> Result<(), Failure> {
    if settings.mesh != MeshKind::Tailscaled || !allod_mesh::is_mesh_address(address.ip()) {
        return Ok(());
    }
    let Some(own) = OwnMesh::of(settings).await else { return Ok(()) };
    match own.mesh.whois(address).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(nobody(address)),
        Err(error) => Err(Failure::new(FaultCode::Unreachable, error.to_string())
            .hint("`allod doctor` says what is wrong with this machine's place on the mesh")),
    }
}

fn nobody(address: SocketAddr) -> Failure {
    let message = format!("{} is nobody's on the mesh, as far as this machine knows", address.ip());
    Failure::new(FaultCode::Unreachable, message).hint(NOBODY)
}

/// What to do about an address that nobody has.
pub const NOBODY: &str = "`tailscale status` here shows who is there; on the server, `tailscale up`. \
                          The mesh's own policy may also hide the two from each other";
