//! The connection ends after byte n of a reply, or of a request, for every n: the client tries again by itself, and what
//! was asked is done once. The short form takes a stride; `ALLOD_LONG=1` takes every byte.

use crate::{crowd::short_or_long, processes::eventually, world::World};
use allod_apps::seal::seal;
use allod_proto::{
    AppRef, Digest, SecretName, UnitName,
    command::Call,
    messages::{
        app::{AppDeploy, AppReleases, AppRollback, AppScale},
        audit::AuditShow,
        keys::{KeysAdd, KeysList},
        ops::OpsList,
        secrets::{SealedSecret, SecretsList, SecretsSet},
        server::ServerStatus,
    },
    operation::OperationState,
};
use allod_rpc::client::{Client, Forgetful, Peer};
use allod_signing::KeySigner;
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Replies,
}

/// Stands between client and agent. The next connection is cut after so many bytes one way; all others are left alone.
struct Relay {
    at: SocketAddr,
    cut: Arc<Mutex<Option<(Way, usize)>>>,
    /// How many bytes went each way on the last connection.
    seen: Arc<Mutex<(usize, usize)>>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    async fn before(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, seen) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new((0, 0))));
        let (cutting, seeing) = (Arc::clone(&cut), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (cut, seen) = (cutting.lock().unwrap().take(), Arc::clone(&seeing));
                tokio::spawn(async move {
                    *seen.lock().unwrap() = (0, 0);
                    let Ok(agent) = TcpStream::connect(agent).await else { return };
                    pass(client, agent, cut, &seen).await;
                });
            }
        });
        Self { at, cut, seen, task }
    }

    fn cut(&self, way: Way, after: usize) {
        *self.cut.lock().unwrap() = Some((way, after));
    }

    fn was_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }
}

/// Both ways at once, until one ends.
async fn pass(
    mut client: TcpStream,
    mut agent: TcpStream,
    cut: Option<(Way, usize)>,
    seen: &Mutex<(usize, usize)>,
) {
    let bound = |way| cut.filter(|(cut, _)| *cut == way).map_or(usize::MAX, |(_, after)| after);
    let (client_read, client_write) = client.split();
    let (agent_read, agent_write) = agent.split();
    tokio::select! {
        () = copy(client_read, agent_write, bound(Way::Requests), |size| seen.lock().unwrap().0 += size) => {}
        () = copy(agent_read, client_write, bound(Way::Replies), |size| seen.lock().unwrap().1 += size) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut bound: usize,
    seen: impl Fn(usize),
) {
    let mut part = vec![0; 16 * 1024];
    while bound > 0 {
        let Ok(size @ 1..) = from.read(&mut part).await else { return };
        let size = size.min(bound);
        if to.write_all(&part[..size]).await.is_err() {
            return;
        }
        seen(size);
        bound -= size;
    }
}

/// A client that knows nothing yet.
struct Caller {
    owner: Arc<KeySigner>,
    world: World,
    relay: Relay,
}

impl Caller {
    async fn start() -> Self {
        let world = World::up().await;
        let relay = Relay::before(world.management).await;
        Self { owner: Arc::new(world.owner()), relay, world }
    }

    async fn ask<C: Call>(&self, at: SocketAddr, params: C) -> C::Reply {
        let peer = Peer {
            name: "web1".to_owned(),
            address: at,
            identity: self.world.identity.clone(),
            record_key: None,
        };
        let signer: Arc<KeySigner> = Arc::clone(&self.owner);
        let mut client = Client::connect(peer, signer, Box::new(Forgetful::default())).await.unwrap();
        client.call(params).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Without anybody in between.
    async fn plainly<C: Call>(&self, params: C) -> C::Reply {
        self.ask(self.world.management, params).await
    }

    /// Makes the same kind of change again and again, cut after one byte more each time, first in the replies and then in
    /// the requests. Says how often. What the client is told must be that it was done.
    async fn cut_at_every_byte<C: Call>(
        &self,
        stride: (usize, usize),
        mut next: impl AsyncFnMut() -> C,
        mut check: impl AsyncFnMut(C::Reply),
    ) -> usize {
        let mut count = 0;
        let reply = self.ask(self.relay.at, next().await).await;
        check(reply).await;
        count += 1;
        let (sent, received) = *self.relay.seen.lock().unwrap();
        assert!(sent > 500 && received > 500, "{sent} {received}");
        for (way, size) in [(Way::Replies, received), (Way::Requests, sent)] {
            for after in (0..size).step_by(short_or_long(stride.0, stride.1)) {
                let params = next().await;
                self.relay.cut(way, after);
                let reply = self.ask(self.relay.at, params).await;
                assert!(self.relay.was_cut());
                check(reply).await;
                count += 1;
            }
        }
        count
    }

    /// How often the record says that something was begun, and ended well.
    async fn recorded(&self, command: &str) -> (usize, usize) {
        let (mut from, mut lines) = (1_i64, Vec::new());
        loop {
            let page = self.plainly(AuditShow { from, limit: 10_000 }).await;
            if page.lines.is_empty() {
                break;
            }
            from += i64::try_from(page.lines.len()).unwrap();
            lines.extend(page.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            // Reading leaves lines, too.
            if u64::try_from(from).unwrap() > page.head.head.seq {
                break;
            }
        }
        let intents = lines.iter().filter(|line| line["entry"] == "intent" && line["command"] == command);
        let done = |intent: &&Value| {
            let outcome =
                lines.iter().find(|line| line["entry"] == "outcome" && line["intent"] == intent["seq"]);
            outcome.is_some_and(|outcome| outcome["result"] == "ok")
        };
        (intents.clone().count(), intents.filter(done).count())
    }

    async fn is_idle(&self) {
        eventually("no operation runs", async || {
            let all = self.plainly(OpsList::default()).await.operations;
            all.iter().all(|one| one.state != OperationState::Running).then_some(())
        })
        .await;
    }
}

fn app() -> AppRef {
    "worker".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_enrolled_once_wherever_the_connection_was_cut() {
    let caller = Caller::start().await;
    let key = KeySigner::generate([31; 32], "kim").public_openssh();
    let mut roles = ["viewer", "operator"].into_iter().cycle();
    let mut role = "";
    let done = caller
        .cut_at_every_byte(
            (73, 1),
            async || KeysAdd { line: format!("role={} {key}", roles.next().unwrap()) },
            async |reply| {
                let ours: Vec<_> = reply.keys.iter().filter(|entry| entry.name == "kim").collect();
                assert_eq!(ours.len(), 1, "{ours:?}");
                // The first answer is kept for a retry: it is of this change, and not of the one before.
                assert_ne!(ours[0].role.as_str(), role);
                role = ours[0].role.as_str();
            },
        )
        .await;
    assert!(done > 20, "{done}");
    assert_eq!(caller.recorded("keys.add").await, (done, done));
    assert_eq!(caller.plainly(KeysList::default()).await.keys.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_set_once_wherever_the_connection_was_cut() {
    let caller = Caller::start().await;
    let name = SecretName::new("TOKEN").unwrap();
    let recipient = caller.plainly(ServerStatus {}).await.recipient;
    let mut version = 0;
    let done = caller
        .cut_at_every_byte(
            (97, 1),
            async || {
                let sealed = seal(&recipient, &app(), &name, b"a value").unwrap();
                SecretsSet { app: app(), secrets: vec![SealedSecret { name: name.clone(), sealed }] }
            },
            async |reply| {
                version += 1;
                assert_eq!(reply.secrets[0].version, version, "set more than once");
            },
        )
        .await;
    assert_eq!(caller.recorded("secrets.set").await, (done, done));
    let secrets = caller.plainly(SecretsList { app: app() }).await.secrets;
    assert_eq!(secrets[0].version, u64::try_from(done).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_scaled_deployed_and_rolled_back_once_wherever_the_connection_was_cut() {
    let caller = Caller::start().await;
    let source = caller.world.app("worker");
    for version in ["v1", "v2"] {
        std::fs::write(source.folder.join("work.sh"), format!("# {version}\nexec sleep 1000\n")).unwrap();
        source.write_document(
            "name = \"worker\"\n\n[units.worker]\nstart = [\"sh\", \"work.sh\"]\nhealth = { running = \"50ms\" }\n",
        );
        source.run(&caller.world, &["deploy"]).await.ok();
    }
    let before = caller.plainly(OpsList::default()).await.operations.len();
    let unit = UnitName::new("worker").unwrap();
    let mut sizes = [2, 1].into_iter().cycle();
    let idle = async |_| caller.is_idle().await;
    let scaled = caller
        .cut_at_every_byte(
            (350, 1),
            async || AppScale { app: app(), unit: unit.clone(), instances: sizes.next().unwrap() },
            idle,
        )
        .await;
    assert_eq!(caller.recorded("app.scale").await, (scaled, scaled));

    let current = async || {
        let releases = caller.plainly(AppReleases { app: app() }).await.releases;
        releases.iter().find(|release| release.current).unwrap().id.clone()
    };
    let mut from = current().await;
    let rolled = caller
        .cut_at_every_byte(
            (450, 1),
            async || {
                from = current().await;
                AppRollback { app: app(), from: from.clone(), to: None }
            },
            async |_| caller.is_idle().await,
        )
        .await;
    assert_ne!(current().await, from, "it went to the other one, and not back again");
    assert_eq!(caller.recorded("app.rollback").await, (rolled, rolled));

    let mut manifests = manifests(&caller).await.into_iter().cycle();
    let deployed = caller
        .cut_at_every_byte(
            (450, 1),
            async || AppDeploy { app: app(), manifest: manifests.next().unwrap() },
            async |_| caller.is_idle().await,
        )
        .await;
    // The two of the beginning are there, too.
    assert_eq!(caller.recorded("app.deploy").await, (deployed + 2, deployed + 2));
    let operations = caller.plainly(OpsList::default()).await.operations;
    let begun = operations.len() - before;
    assert!(begun <= scaled + rolled + deployed, "{begun} operations");
    assert!(operations.iter().all(|one| one.state == OperationState::Done), "{operations:?}");
}

/// What was deployed, oldest first, as the record has it.
async fn manifests(caller: &Caller) -> Vec<Digest> {
    let page = caller.plainly(AuditShow { from: 1, limit: 10_000 }).await;
    let lines = page.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let deploys = lines.filter(|line| line["entry"] == "intent" && line["command"] == "app.deploy");
    deploys.map(|line| line["params"]["manifest"].as_str().unwrap().parse().unwrap()).take(2).collect()
}
