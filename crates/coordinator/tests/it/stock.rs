//! Stock clients on this coordinator, each on a host of its own. Run by hand and in CI where `tailscaled` and `tailscale` are
//! (`scripts/setup-peers --go DIR`, `ALLOD_GO_PEERS=DIR`).

use crate::nodes::{Mesh, address, directly, echo, heard};
use allod_testkit::{
    certificate::Certificate,
    coordinator::ALL,
    lab::{HUB, Lab, Router},
    peer,
    stock::Stock,
};

/// A lab, if there are stock clients to put into it.
pub(crate) fn lab() -> Option<Lab> {
    peer::all(["tailscaled", "tailscale"])?;
    Lab::new()
}

/// A mesh behind HTTPS on the hub of a lab, and the folder of its stock clients.
pub(crate) async fn mesh(lab: &Lab) -> (Mesh, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path(), HUB);
    let mesh = lab.hub().run(async move { Mesh::start_at(HUB, ALL, Some(certificate)).await }).await;
    (mesh, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_and_a_node_of_ours_talk_both_ways_and_directly() {
    let Some(mut lab) = lab() else { return };
    let (one, other) = (lab.host(1, Router::None), lab.host(2, Router::None));
    let (mesh, folder) = mesh(&lab).await;
    let ours = mesh.join_on("ours", &one).await;
    let _echo = echo(&ours);
    let key = mesh.join_key().await;
    let stock = Stock::join("stock", &other, folder.path(), (&mesh.url(), &key)).await;
    heard(&ours, stock.address().await).await;
    stock.hears(address(&ours)).await;
    directly(&ours).await;
    stock.directly(address(&ours)).await;
}
