//! A daemon that is slow, silent, broken or lying lets nobody in and holds nothing up.

use crate::local_api::{Daemon, Reply, status};
use allod_mesh::{Mesh, MeshError, StaticSettings, TailscaledMesh, TailscaledSettings, Trouble};
use serde_json::json;
use std::net::SocketAddr;

const PEER: &str = "127.0.0.1:4000";

async fn driver(daemon: &Daemon) -> TailscaledMesh {
    let mut settings = TailscaledSettings::at(daemon.socket());
    settings.mode = StaticSettings::loopback().mode;
    TailscaledMesh::start(settings).await.unwrap()
}

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

fn garbage() -> Vec<Reply> {
    let head = |rest: &str| Reply::Raw(format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes());
    vec![
        Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Reply::Raw(Vec::new()),
        Reply::Raw(vec![0; 4096]),
        head("content-length: 999999\r\n\r\n{}"),
        head("content-length: 5\r\n\r\nnull\n"),
        head(&format!("x: {}\r\n\r\n", "y".repeat(200_000))),
        head("content-length: 4\r\ncontent-length: 2\r\n\r\n{}{}"),
        Reply::Json(json!([])),
        Reply::Refusal(403, "status access denied\u{1b}[2J\n"),
        Reply::Refusal(500, "server has no local backend"),
        Reply::Refusal(302, "elsewhere"),
        Reply::Endless,
    ]
}

#[tokio::test]
async fn an_answer_about_a_peer_that_makes_no_sense_lets_nobody_in() {
    let daemon = Daemon::start(&["127.0.0.1"], &["127.0.0.1"]);
    let mesh = driver(&daemon).await;
    for reply in garbage() {
        let said = format!("{reply:?}");
        daemon.script.lock().unwrap().whois = Some(reply);
        let answer = mesh.whois(peer()).await;
        assert!(!matches!(answer, Ok(Some(_))), "{}: {answer:?}", &said[..said.len().min(80)]);
        assert!(mesh.connect(peer()).await.is_err());
    }
}

#[tokio::test]
async fn a_status_that_makes_no_sense_is_a_trouble_with_a_fix_and_no_listener() {
    let daemon = Daemon::start(&["127.0.0.1"], &[]);
    for reply in garbage() {
        let said = format!("{reply:?}");
        daemon.says(reply);
        let mesh = driver(&daemon).await;
        let status = mesh.status().await.unwrap();
        assert!(!status.up && status.addresses.is_empty(), "{status:?}");
        let [trouble] = status.troubles.as_slice() else { panic!("{status:?}") };
        assert!(trouble.is_grave() && !trouble.fix().is_empty(), "{trouble:?}");
        assert!(!trouble.to_string().contains('\u{1b}'), "{trouble}");
        let refused = mesh.listen(0).await;
        assert!(
            matches!(refused, Err(MeshError::Trouble(_))),
            "{}: {refused:?}",
            &said[..said.len().min(80)]
        );
    }
}

#[tokio::test]
async fn a_silent_daemon_is_given_up_after_a_while() {
    let daemon = Daemon::start(&["127.0.0.1"], &["127.0.0.1"]);
    let mesh = driver(&daemon).await;
    daemon.script.lock().unwrap().whois = Some(Reply::Silence);
    let answer = mesh.whois(peer()).await;
    assert!(matches!(&answer, Err(MeshError::Trouble(Trouble::NoDaemon { .. }))), "{answer:?}");
}

#[tokio::test]
async fn a_daemon_that_claims_every_address_listens_on_none() {
    for lie in ["0.0.0.0", "::", "192.0.2.1", "8.8.8.8", "fe80::1"] {
        let daemon = Daemon::start(&[lie], &[]);
        let mesh = driver(&daemon).await;
        assert!(mesh.listen(0).await.is_err(), "{lie}");
        let troubles = mesh.status().await.unwrap().troubles;
        assert_eq!(troubles, [Trouble::ForeignAddress { address: lie.parse().unwrap() }]);
    }
}

#[tokio::test]
async fn loopback_is_no_mesh_address_outside_development() {
    let daemon = Daemon::start(&["127.0.0.1"], &["127.0.0.1"]);
    let mesh = TailscaledMesh::start(TailscaledSettings::at(daemon.socket())).await.unwrap();
    assert!(mesh.listen(0).await.is_err());
    let connected = mesh.connect(peer()).await;
    assert!(matches!(connected, Err(MeshError::NotAPeer { .. })), "{connected:?}");
    let mut settings = TailscaledSettings::at(daemon.socket());
    settings.only = Some("127.0.0.1".parse().unwrap());
    assert!(matches!(TailscaledMesh::start(settings).await, Err(MeshError::Refused(_))));
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_is_refused_by_name() {
    let daemon = Daemon::start(&["127.0.0.1"], &[]);
    let mut settings = TailscaledSettings::at(daemon.socket());
    settings.only = Some("100.64.0.9".parse().unwrap());
    settings.mode = StaticSettings::loopback().mode;
    let mesh = TailscaledMesh::start(settings).await.unwrap();
    let refused = mesh.listen(0).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "100.64.0.9 is not this machine's address on the mesh, which has 127.0.0.1"
    );
    assert!(!refused.may_pass());
}

#[tokio::test]
async fn in_userspace_networking_mode_it_is_said_that_listening_can_not_work() {
    let daemon = Daemon::start(&[], &[]);
    let mut said = status("Running", &["127.0.0.1"]);
    said["TUN"] = json!(false);
    daemon.says(Reply::Json(said));
    let mesh = driver(&daemon).await;
    let refused = mesh.listen(0).await;
    assert!(matches!(&refused, Err(MeshError::Trouble(Trouble::NoInterface))), "{refused:?}");
}

#[tokio::test]
async fn no_daemon_at_all_is_a_trouble_that_names_the_socket() {
    let daemon = Daemon::start(&[], &[]);
    let socket = daemon.socket();
    drop(daemon);
    let mesh = TailscaledMesh::start(TailscaledSettings::at(socket.clone())).await.unwrap();
    let status = mesh.status().await.unwrap();
    assert!(status.troubles[0].to_string().contains(socket.to_str().unwrap()), "{status:?}");
    assert!(status.troubles[0].fix().contains("systemctl"));
    assert!(mesh.whois(peer()).await.is_err());
    assert!(!TailscaledMesh::answers(&socket).await);
}

#[tokio::test]
async fn it_is_asked_by_its_name_and_without_an_origin() {
    let daemon = Daemon::start(&["127.0.0.1"], &["::1"]);
    let mesh = driver(&daemon).await;
    assert!(mesh.whois("[::1]:4000".parse().unwrap()).await.unwrap().is_some());
    let heads = std::mem::take(&mut daemon.script.lock().unwrap().heads);
    assert!(
        heads.iter().any(|head| head.starts_with("GET /localapi/v0/whois?addr=%5B::1%5D:4000 ")),
        "{heads:?}"
    );
    for head in heads {
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\r\nhost: local-tailscaled.sock\r\n"), "{head}");
        assert!(!head.contains("\r\norigin:") && !head.contains("\r\nreferer:"), "{head}");
    }
}
