//! The driver with a real tailscaled, on hosts of the test's own, over a real Headscale where there is one.

mod coordinator;
mod lab;

use crate::spaces::{self, Lab, wait_until};
use allod_mesh::{FollowingListener, Mesh, MeshError, TailscaledMesh, TailscaledSettings, Trouble};
use allod_testkit::peer;
use lab::Tailnet;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn a_real_daemon_without_a_login_and_without_an_interface_says_both() {
    let Some([tailscaled]) = peer::all(["tailscaled"]) else { return };
    if !spaces::possible() {
        return;
    }
    let mut lab = Lab::new();
    let socket = lab.folder.path().join("sock");
    let (state, at) = (lab.folder.path().join("state"), socket.display().to_string());
    let words = ["--no-logs-no-support", "--tun=userspace-networking", "--socket", &at, "--port=0"];
    lab.start("hub", &tailscaled, &[&words[..], &["--statedir", &state.display().to_string()]].concat());
    wait_until("a socket", || socket.exists());
    let mesh = TailscaledMesh::start(TailscaledSettings::at(socket.clone())).await.unwrap();
    let mut watch = mesh.watch();
    let settled = |status: &allod_mesh::MeshStatus| {
        status.troubles.iter().any(|trouble| matches!(trouble, Trouble::NeedsLogin { .. }))
    };
    let status = tokio::time::timeout(spaces::EVER, watch.wait_for(settled)).await.unwrap().unwrap().clone();
    assert!(!status.up && status.addresses.is_empty(), "{status:?}");
    assert!(status.troubles.contains(&Trouble::NoInterface), "{status:?}");
    assert_eq!(mesh.whois("100.64.0.1:9".parse().unwrap()).await.unwrap(), None);
    assert!(TailscaledMesh::answers(&socket).await);
}

/// A door like the agent's: whom the mesh knows is answered with what it says of them.
fn door(net: &Tailnet, host: &str, socket: PathBuf) -> Vec<SocketAddr> {
    let (tell, told) = mpsc::channel();
    let _serving = net.lab.on(host, || async move {
        let mesh: Arc<dyn Mesh> =
            Arc::new(TailscaledMesh::start(TailscaledSettings::at(socket)).await.unwrap());
        let mut listener = FollowingListener::open(Arc::clone(&mesh), 9844).await.unwrap();
        tell.send(listener.addresses().to_vec()).unwrap();
        loop {
            let mut connection = listener.accept().await;
            if let Ok(Some(peer)) = mesh.whois(connection.peer()).await {
                let _ = connection.write_all(format!("{} {:?}", peer.name, peer.user).as_bytes()).await;
            }
        }
    });
    told.recv_timeout(spaces::EVER).unwrap()
}

/// Asks a door through the driver until it answers.
fn ask(net: &Tailnet, host: &str, socket: PathBuf, at: SocketAddr) -> String {
    let asking = net.lab.on(host, move || async move {
        let mesh = TailscaledMesh::start(TailscaledSettings::at(socket)).await.unwrap();
        loop {
            if let Ok(mut connection) = mesh.connect(at).await {
                let mut said = String::new();
                if connection.read_to_string(&mut said).await.is_ok() && !said.is_empty() {
                    return said;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    asking.join().unwrap()
}

/// Whether anybody answers a host that is not on the mesh.
fn is_open_from(net: &Tailnet, host: &str, at: SocketAddr) -> bool {
    let knocking = net.lab.on(host, move || async move {
        let connecting = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(at));
        matches!(connecting.await, Ok(Ok(_)))
    });
    knocking.join().unwrap()
}

#[test]
fn real_daemons_meet_nobody_else_gets_in_and_a_killed_one_is_followed() {
    let Some(mut net) = Tailnet::with(&["one", "two"]) else { return };
    net.lab.host("outside", "10.77.0.99");
    let (one, two) = (net.socket("one"), net.socket("two"));

    let doors = door(&net, "one", one.clone());
    assert!(doors.iter().all(|at| at.port() == 9844 && allod_mesh::is_mesh_address(at.ip())), "{doors:?}");
    let (v4, v6): (Vec<SocketAddr>, Vec<_>) = doors.iter().partition(|at| at.is_ipv4());
    assert!(!v4.is_empty() && !v6.is_empty(), "{doors:?}");

    // Nobody else: not by the wire's address, nor by the mesh's over the wire.
    net.lab.ip("outside", &["route", "add", "100.64.0.0/10", "via", "10.77.0.10"]);
    let wire: IpAddr = "10.77.0.10".parse().unwrap();
    for at in v4.iter().map(SocketAddr::ip).chain([wire]).map(|ip| SocketAddr::new(ip, 9844)) {
        assert!(!is_open_from(&net, "outside", at), "{at} is open from outside the mesh");
    }
    // Whom the mesh doesn't know is not connected to, whatever listens there.
    let socket = two.clone();
    let refused = net.lab.on("two", || async move {
        let mesh = TailscaledMesh::start(TailscaledSettings::at(socket)).await.unwrap();
        let mut refused = Vec::new();
        for stranger in ["10.77.0.99:22", "100.99.99.99:9844", "[fd7a:115c:a1e0::9999]:9844"] {
            refused.push(mesh.connect(stranger.parse().unwrap()).await);
        }
        refused
    });
    for refused in refused.join().unwrap() {
        assert!(matches!(refused, Err(MeshError::NotAPeer { .. })), "{refused:?}");
    }

    // Who is on the mesh, by each family; and the machine itself.
    for at in &doors {
        assert!(ask(&net, "two", two.clone(), *at).starts_with("two."), "{at}");
        assert!(ask(&net, "one", one.clone(), *at).starts_with("one."), "{at}");
    }

    // Killed and started again it has the same addresses, on another interface.
    net.lab.kill("one-tailscaled");
    net.start_daemon("one");
    assert!(ask(&net, "two", two, doors[0]).starts_with("two."));
    assert!(ask(&net, "one", one, doors[0]).starts_with("one."));
}

#[test]
fn a_real_daemon_that_is_told_to_stay_away_says_so_and_is_back_when_told() {
    let Some(net) = Tailnet::with(&["one"]) else { return };
    let socket = net.socket("one");
    let (tell, told) = mpsc::channel();
    let watching = net.lab.on("one", || async move {
        let mesh = TailscaledMesh::start(TailscaledSettings::at(socket)).await.unwrap();
        let mut watch = mesh.watch();
        watch.wait_for(|status| status.up).await.unwrap();
        tell.send(()).unwrap();
        let down =
            watch.wait_for(|status| status.troubles.contains(&Trouble::Stopped)).await.unwrap().clone();
        tell.send(()).unwrap();
        let up = watch.wait_for(|status| status.up).await.unwrap().clone();
        (down, up)
    });
    told.recv_timeout(spaces::EVER).unwrap();
    net.tailscale("one", &["down"]);
    told.recv_timeout(spaces::EVER).unwrap();
    net.tailscale("one", &["up"]);
    let (down, up) = watching.join().unwrap();
    assert!(!down.up && down.addresses.is_empty(), "{down:?}");
    assert_eq!((up.interface.unwrap().name.as_str(), up.name.as_deref()), ("ts0", Some("one.lab.internal")));
    assert_eq!(up.addresses.len(), 2);
}
