//! The mesh that this machine is on by its tailscaled: no node and no coordinator of ours. Agent and hub listen on its address, bound to
//! its interface, and ask it who comes; the person who types here comes over the machine's own network.

use super::{
    super::{launcher::Paths, local_server::Client, ports, ports::Ports},
    PATIENCE, Reach, Standing, cannot,
};
use crate::{failure::Failure, mesh::MeshPlace};
use allod_mesh::{MeshKind, MeshSettings, Trouble};
use allod_proto::FaultCode;
use allod_rpc::client::Tcp;
use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
};
use tokio::time::timeout;

/// Where the machine's tailscaled answers, and which ports agent and hub have on its mesh.
#[derive(Debug, Clone)]
pub(in crate::up) struct TailscaledNetwork {
    /// Its socket, where it isn't at its usual place.
    pub(in crate::up) socket: Option<PathBuf>,
    pub(in crate::up) management: u16,
    pub(in crate::up) hub: u16,
    /// How far things are; shared with who starts the programs.
    pub(in crate::up) standing: Rc<Cell<Standing>>,
}

impl TailscaledNetwork {
    /// With the address of the last time, if there was one.
    pub(super) fn new(
        socket: Option<PathBuf>,
        (management, hub): (u16, u16),
        before: Option<IpAddr>,
    ) -> Self {
        let standing = standing(before, hub);
        Self { socket, management, hub, standing: Rc::new(Cell::new(standing)) }
    }

    /// Waits until tailscaled is on its mesh, and says where agent and hub are then.
    ///
    /// # Errors
    /// [`Failure`] that says what keeps the machine from it, and what to do.
    pub(super) async fn look(&self, paths: &Paths, ports: Ports, client: &Client) -> Result<Reach, Failure> {
        let address = self.address().await?;
        let before = self.standing.get().address;
        self.standing.set(standing(Some(address), self.hub));
        // A place of the time when this folder was on another mesh would be asked first.
        MeshPlace::forget(&client.home.join("state")).map_err(|error| cannot(&error))?;
        let remembered = Ports { mesh_address: Some(address), mesh_hub: Some(address), ..ports };
        if remembered != ports {
            ports::remember(&paths.state.join("up.json"), remembered).map_err(|error| cannot(&error))?;
        }
        if before.is_some_and(|before| before != address) {
            // The agent was started with where the hub was.
            let message = format!("this machine is {address} on its mesh now; it was another address before");
            return Err(
                Failure::new(FaultCode::Conflict, message).hint("that is noted: start `allod up` again")
            );
        }
        let management = SocketAddr::new(address, self.management);
        let hub = Some(SocketAddr::new(address, self.hub));
        Ok(Reach { management, hub, has_hub: true, dialer: Arc::new(Tcp) })
    }

    async fn address(&self) -> Result<IpAddr, Failure> {
        let settings =
            MeshSettings { kind: MeshKind::Tailscaled, address: None, socket: self.socket.clone() };
        let mesh = settings.open().await.map_err(|error| cannot(&error))?;
        let mut statuses = mesh.watch();
        let has_one = statuses.wait_for(|status| status.up && !status.addresses.is_empty());
        if let Ok(Ok(status)) = timeout(PATIENCE, has_one).await
            && let Some(address) = status.addresses.first()
        {
            return Ok(*address);
        }
        let status = mesh.watch().borrow().clone();
        Err(not_there(&status.troubles))
    }
}

fn standing(address: Option<IpAddr>, hub: u16) -> Standing {
    Standing { may_join: true, address, hub: address.map(|address| SocketAddr::new(address, hub)) }
}

fn not_there(troubles: &[Trouble]) -> Failure {
    let said: Vec<String> = troubles.iter().map(ToString::to_string).collect();
    let message = format!(
        "this machine's tailscaled is on no mesh after {} s: {}",
        PATIENCE.as_secs(),
        if said.is_empty() { "it has no address".to_owned() } else { said.join("; ") }
    );
    let failure = Failure::new(FaultCode::Unreachable, message);
    match troubles.first() {
        Some(trouble) => failure.hint(trouble.fix()),
        None => failure.hint("`tailscale status` on this machine says more"),
    }
}
