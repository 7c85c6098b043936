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

/// What a stock client's own resolver says of a name: whether there is one, and the text with its addresses.
async fn asked(stock: &Stock, name: &str, kind: &str) -> (bool, String) {
    let told = stock.run(&["dns", "query", name, kind]).await;
    let said = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    (said.contains("RCodeSuccess"), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_resolves_the_names_of_the_mesh_by_itself_and_no_others() {
    let Some(mut lab) = lab() else { return };
    let (one, other) = (lab.host(3, Router::None), lab.host(4, Router::None));
    let (mesh, folder) = mesh(&lab).await;
    let ours = mesh.join_on("ours", &one).await;
    let _echo = echo(&ours);
    let key = mesh.join_key().await;
    let stock = Stock::join("stock", &other, folder.path(), (&mesh.url(), &key)).await;
    // It has no interface, so nothing of its host's own names is touched.
    let accepts = stock.run(&["set", "--accept-dns=true"]).await;
    assert!(accepts.status.success(), "{}", String::from_utf8_lossy(&accepts.stderr));
    stock.hears(address(&ours)).await;
    let (is_there, said) = asked(&stock, "nobody.mesh.internal", "A").await;
    assert!(!is_there && said.contains("RCodeNameError"), "{said}");

    let node = mesh.coordinator().nodes().into_iter().find(|node| node.node.name == "ours").unwrap().node;
    // Of IPv6, it answers only where there is no IPv4.
    let (is_there, said) = asked(&stock, "ours.mesh.internal", "A").await;
    assert!(is_there && said.contains(&node.v4.to_string()), "{said}");
    for (family, at) in [("-4", node.v4.to_string()), ("-6", node.v6.to_string())] {
        let told = stock.run(&["ip", family, "ours"]).await;
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), at);
    }
    let status = stock.run(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let tailnet = &status["CurrentTailnet"];
    assert_eq!(
        (&tailnet["MagicDNSSuffix"], &tailnet["MagicDNSEnabled"]),
        (&"mesh.internal".into(), &true.into()),
        "{status}"
    );
}
