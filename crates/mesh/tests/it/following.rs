//! A listener stays with the machine's addresses, through everything that a daemon and its interface do.

use crate::local_api::{Daemon, Reply, status};
use allod_mesh::{
    Answer, Connection, FollowingListener, Interfaces, Listener, Mesh, MeshError, MeshStatus, Peer,
    StaticMesh, StaticSettings, TailscaledMesh, TailscaledSettings,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch, time::timeout};

/// Longer than any machine is busy; reached only when something is wrong.
const EVER: Duration = Duration::from_secs(60);

async fn driver(daemon: &Daemon) -> Arc<dyn Mesh> {
    let mut settings = TailscaledSettings::at(daemon.socket());
    settings.mode = StaticSettings::loopback().mode;
    Arc::new(TailscaledMesh::start(settings).await.unwrap())
}

async fn until(mesh: &Arc<dyn Mesh>, is_so: impl FnMut(&MeshStatus) -> bool) {
    timeout(EVER, mesh.watch().wait_for(is_so)).await.unwrap().unwrap();
}

/// Keeps connecting, without asking the mesh, until somebody accepts.
async fn knock(at: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(at).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn meet(listener: &mut FollowingListener, at: SocketAddr) -> (TcpStream, Connection) {
    timeout(EVER, async { tokio::join!(knock(at), listener.accept()) }).await.unwrap()
}

#[tokio::test]
async fn an_address_that_is_not_the_machines_is_not_waited_for() {
    let daemon = Daemon::start(&["127.0.0.1"], &[]);
    let mut settings = TailscaledSettings::at(daemon.socket());
    settings.only = Some("100.64.0.9".parse().unwrap());
    settings.mode = StaticSettings::loopback().mode;
    let mesh = Arc::new(TailscaledMesh::start(settings).await.unwrap());
    let opened = timeout(EVER, FollowingListener::open(mesh, 0)).await.unwrap();
    assert!(matches!(opened, Err(MeshError::NotOwn { .. })), "{opened:?}");
}

/// How often a future asked to be polled again.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_driver_that_never_tells_of_a_change_does_not_keep_its_listener_busy() {
    let mesh = Arc::new(StaticMesh::start(StaticSettings::loopback()).unwrap());
    let mut listener = FollowingListener::open(mesh, 0).await.unwrap();
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(Arc::clone(&counted));
    let mut accepting = std::pin::pin!(listener.accept());
    assert!(accepting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(counted.0.load(Ordering::Relaxed), 0);
}

/// A mesh whose status is told late, as where a daemon answers to one question before it does to the other.
struct Late {
    mesh: StaticMesh,
    told: watch::Receiver<MeshStatus>,
    listens: AtomicUsize,
}

impl Mesh for Late {
    fn status(&self) -> Answer<'_, MeshStatus> {
        self.mesh.status()
    }
    fn listen(&self, port: u16) -> Answer<'_, Listener> {
        self.listens.fetch_add(1, Ordering::Relaxed);
        self.mesh.listen(port)
    }
    fn whois(&self, peer: SocketAddr) -> Answer<'_, Option<Peer>> {
        self.mesh.whois(peer)
    }
    fn connect(&self, to: SocketAddr) -> Answer<'_, Connection> {
        self.mesh.connect(to)
    }
    fn watch(&self) -> watch::Receiver<MeshStatus> {
        self.told.clone()
    }
}

#[tokio::test]
async fn a_listener_that_is_already_where_the_mesh_says_is_left_alone_until_the_mesh_says_otherwise() {
    let mesh = StaticMesh::start(StaticSettings::loopback()).unwrap();
    let there = mesh.status().await.unwrap();
    let away = MeshStatus { addresses: Vec::new(), up: false, ..there.clone() };
    let (tell, told) = watch::channel(away.clone());
    let mesh = Arc::new(Late { mesh, told, listens: AtomicUsize::new(0) });
    let mut listener = FollowingListener::open(Arc::clone(&mesh) as Arc<dyn Mesh>, 0).await.unwrap();
    let at = listener.addresses()[0];

    tell.send_replace(there.clone());
    let _met = meet(&mut listener, at).await;
    assert_eq!(mesh.listens.load(Ordering::Relaxed), 1);

    // What it was first bound under is forgotten: the machine leaves for good this time.
    tell.send_replace(away);
    let bound_anew = async {
        while mesh.listens.load(Ordering::Relaxed) < 2 {
            meet(&mut listener, at).await;
        }
    };
    timeout(EVER, bound_anew).await.unwrap();
}

#[tokio::test]
async fn an_address_that_comes_later_is_waited_for() {
    let daemon = Daemon::start(&[], &[]);
    daemon.says(Reply::Json(status("NeedsLogin", &[])));
    let mesh = driver(&daemon).await;
    let opening = tokio::spawn(FollowingListener::open(Arc::clone(&mesh), 0));
    until(&mesh, |status| !status.up).await;
    assert!(!opening.is_finished());
    daemon.says(Reply::Json(status("Running", &["127.0.0.1"])));
    let listener = timeout(EVER, opening).await.unwrap().unwrap().unwrap();
    assert_eq!(listener.addresses().len(), 1);
}

#[tokio::test]
async fn a_machine_that_leaves_the_mesh_is_closed_and_open_again_when_it_is_back() {
    let daemon = Daemon::start(&["127.0.0.1"], &["127.0.0.1"]);
    let mesh = driver(&daemon).await;
    let mut listener = FollowingListener::open(Arc::clone(&mesh), 0).await.unwrap();
    let at = listener.addresses()[0];
    let (mut kept, mut kept_far) = meet(&mut listener, at).await;

    daemon.says(Reply::Json(status("Stopped", &["127.0.0.1"])));
    until(&mesh, |status| status.addresses.is_empty()).await;
    let (tell, mut met) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while tell.send(listener.accept().await).is_ok() {} });
    let closed = async {
        while TcpStream::connect(at).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(EVER, closed).await.unwrap();

    daemon.says(Reply::Json(status("Running", &["127.0.0.1"])));
    let knocking = timeout(EVER, knock(at)).await.unwrap();
    // Some were accepted before the door was closed.
    let back = async { while met.recv().await.unwrap().peer() != knocking.local_addr().unwrap() {} };
    timeout(EVER, back).await.unwrap();

    // What was open before has gone on.
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    kept.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    timeout(EVER, kept_far.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"still here");
}

#[tokio::test]
async fn a_machine_that_gets_another_address_is_reached_there_and_no_longer_at_the_old_one() {
    if Interfaces::look().unwrap().having("::1".parse().unwrap()).is_none() {
        assert_ne!(std::env::var_os("ALLOD_PEERS"), Some("required".into()), "no IPv6 on loopback here");
        eprintln!("skipped: no IPv6 on loopback here, so there is no second address to change to");
        return;
    }
    let daemon = Daemon::start(&["127.0.0.1"], &["127.0.0.1", "::1"]);
    let mesh = driver(&daemon).await;
    let mut listener = FollowingListener::open(Arc::clone(&mesh), 0).await.unwrap();
    let old = listener.addresses()[0];
    daemon.says(Reply::Json(status("Running", &["::1"])));
    until(&mesh, |status| status.addresses == ["::1".parse::<std::net::IpAddr>().unwrap()]).await;
    let new = SocketAddr::new("::1".parse().unwrap(), old.port());
    let (_near, far) = meet(&mut listener, new).await;
    assert_eq!(far.local(), new);
    assert!(TcpStream::connect(old).await.is_err());
}

#[tokio::test]
async fn a_daemon_that_is_killed_and_comes_back_is_found_again() {
    let mut daemon = Daemon::start(&["127.0.0.1"], &["127.0.0.1"]);
    let mesh = driver(&daemon).await;
    until(&mesh, |status| status.up).await;
    daemon.kill();
    until(&mesh, |status| !status.up && !status.troubles.is_empty()).await;
    // Its interface is still there, as with a daemon that hangs: nothing is bound anew, and nobody is let in.
    assert!(!mesh.watch().borrow().addresses.is_empty());
    assert!(mesh.whois("127.0.0.1:4000".parse().unwrap()).await.is_err());
    daemon.begin();
    until(&mesh, |status| status.up && status.troubles.is_empty()).await;
}
