//! Our coordinator, served by whoever drives it.

use allod_coordinator::{Coordinator, RelaySettings, Settings, policy::Policy, state::JoinKeySpec};
use allod_daemon::shutdown::{Shutdown, ShutdownTrigger};
use allod_proto::Timestamp;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};
use zeroize::Zeroizing;

/// A policy by which everybody may reach everybody, as a Headscale without one has it.
pub const ALL: &str = r#"{"allow":[{"from":["*"],"to":["*"],"ports":["*"]}]}"#;

/// One in this folder, asked by plain http at `host`, with its own relay, by whose first policy everybody may reach everybody.
#[must_use]
pub fn settings(folder: PathBuf, host: IpAddr, port: u16, stun_port: u16) -> Settings {
    let relay = RelaySettings {
        region: 900,
        name: "own".to_owned(),
        host: host.to_string(),
        port,
        stun_port: Some(stun_port),
    };
    Settings {
        folder,
        url: format!("http://{host}:{port}"),
        domain: "mesh.internal".to_owned(),
        relay,
        tls: None,
        first_policy: Policy::parse(ALL).unwrap(),
    }
}

/// Ready when no process, and nothing of this one, has the folder: what a coordinator began may end a moment after it.
pub async fn is_free(folder: &Path) {
    while folder.exists() && allod_store::Lock::take(folder).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A coordinator that is served until it is told to end, or dropped with the runtime.
pub struct Serving {
    /// The coordinator.
    pub coordinator: Arc<Coordinator>,
    trigger: ShutdownTrigger,
    serving: JoinHandle<()>,
}

impl Serving {
    /// Serves it on these sockets.
    #[must_use]
    pub fn start(
        settings: Settings,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        listener: TcpListener,
        stun: UdpSocket,
    ) -> Self {
        let coordinator = Arc::new(Coordinator::open(settings, now).unwrap());
        let (trigger, shutdown) = Shutdown::by_hand();
        let served = Arc::clone(&coordinator);
        let serving = tokio::spawn(async move { served.serve(listener, Some(stun), shutdown).await });
        Self { coordinator, trigger, serving }
    }

    /// Ends coordinator, relay and STUN.
    pub async fn end(self) {
        self.trigger.shut_down();
        self.serving.await.unwrap();
    }

    /// A key for one machine.
    pub async fn join_key(&self) -> Zeroizing<String> {
        let spec = JoinKeySpec { uses: Some(1), ..JoinKeySpec::default() };
        self.coordinator.create_join_key(spec).await.unwrap().1
    }

    /// A token for one machine, which finds the coordinator at `url`.
    pub async fn token(&self, url: String) -> Zeroizing<String> {
        let key = self.join_key().await;
        self.coordinator.join_token(vec![url], key).unwrap().to_text()
    }
}
