//! Agents by the hundred in this process: each has an address, an identity and the real door of `allod-rpc`, which verifies what
//! is asked and signs what is answered. What they answer is fixed, and they share one record: measured is who asks.

use crate::bench::write;
use allod_audit::{Entry, Record, Settings};
use allod_proto::{Command, Epoch, Fault, FaultCode, Fingerprint, Timestamp, record::SignedHead};
use allod_rpc::server::{Answer, Chunk, Doorway, Incoming, Keys, ListenerLimits, Service};
use allod_signing::{EnrolledKeys, KeySigner, Revoked, Signer, Verified, Window};
use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, runtime::Runtime};

/// They answer until it is dropped.
pub(crate) struct Farm {
    runtime: Runtime,
    folder: PathBuf,
    record_key: Fingerprint,
    agents: Vec<Agent>,
}

struct Agent {
    name: String,
    port: u16,
    identity: Fingerprint,
}

impl Farm {
    /// So many of them, with one person as their owner; the person's home is in the folder.
    pub(crate) fn start(folder: &Path, count: usize) -> Result<Self> {
        let owner = KeySigner::generate(seed(0, 0), "owner");
        std::fs::create_dir_all(folder.join(".ssh"))?;
        let key = folder.join(".ssh/id_ed25519");
        write(&key, &owner.to_openssh())?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        let enrolled = EnrolledKeys::parse(&format!("role=owner {} owner", owner.public_key().to_openssh()));
        let record_signer = Arc::new(KeySigner::generate(seed(1, 0), "record"));
        let record_key = record_signer.fingerprint();
        let clock: allod_audit::Clock = Arc::new(|| (now(), 1_000));
        let (record, _) = Record::open(Settings::new(folder.join("record"), clock), record_signer)?;
        record.append(Entry::note("bench", "begun"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let agents = (0..count).map(|number| {
            let identity = KeySigner::generate(seed(2, u16::try_from(number)?), "agent");
            let fingerprint = identity.fingerprint();
            let name = format!("agent-{number}");
            let agent = Door {
                keys: Arc::new(Keys {
                    audience: fingerprint.clone(),
                    enrolled: enrolled.clone(),
                    revoked: Revoked::default(),
                }),
                identity,
                window: Mutex::new(Window::new(Epoch::from_random([7; 16]), 1_000, 1_000)),
                record: record.clone(),
                record_key: record_key.clone(),
                name: name.clone(),
            };
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let port = listener.local_addr()?.port();
            runtime.spawn(answer(Arc::new(agent), listener));
            Ok(Agent { name, port, identity: fingerprint })
        });
        let agents = agents.collect::<Result<_>>()?;
        Ok(Self { runtime, folder: folder.to_owned(), record_key, agents })
    }

    /// A home for a client that knows the first so many of them: what `ALLOD_HOME` names.
    pub(crate) fn home(&self, count: usize) -> Result<PathBuf> {
        let home = self.folder.join(format!("home-{count}"));
        std::fs::create_dir_all(&home)?;
        let mut text = "format = 1\n".to_owned();
        for agent in self.agents.get(..count).context("so many agents there are not")? {
            let Agent { name, port, identity } = agent;
            let record_key = &self.record_key;
            write!(
                text,
                "\n[[server]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\nidentity = \"{identity}\"\nrecord_key = \"{record_key}\"\n"
            )?;
        }
        write(&home.join("servers.toml"), &text)?;
        Ok(home)
    }

    /// The home of the owner's key: what `HOME` names.
    pub(crate) fn owner(&self) -> &Path {
        &self.folder
    }

    /// Ends all of them.
    pub(crate) fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// A key that is another for each number, and nobody's outside of this run's loopback.
fn seed(kind: u8, number: u16) -> [u8; 32] {
    let [high, low] = number.to_be_bytes();
    let mut seed = [kind; 32];
    seed.iter_mut().zip([b'b', high, low]).for_each(|(byte, value)| *byte = value);
    seed
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the client that is measured reads the real clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

async fn answer(agent: Arc<Door>, listener: TcpListener) {
    let doorway = Arc::new(Doorway::new(agent, ListenerLimits::default()));
    while let Ok((stream, peer)) = listener.accept().await {
        let doorway = Arc::clone(&doorway);
        tokio::spawn(async move { doorway.serve(doorway.room().await, stream, peer.ip()).await });
    }
}

struct Door {
    identity: KeySigner,
    keys: Arc<Keys>,
    window: Mutex<Window>,
    record: Record,
    record_key: Fingerprint,
    name: String,
}

impl Door {
    fn status(&self) -> Result<Value> {
        let head = self.record.head().map_err(|error| anyhow!("{error}"))?.head;
        Ok(json!({
            "name": self.name, "version": "0.1.0", "started_at": now(), "now": now(), "architecture": "x86_64",
            "record": head, "record_key": self.record_key, "recipient": "age1bench",
            "isolation": [{"what": "own uid per app", "on": true}],
            "disk_free": 5_u64 << 30, "disk_total": 20_u64 << 30, "load_hundredths": 25,
            "proxy": {"generation": 1, "listen": [], "requests": 0, "in_flight": 0, "own_errors": 0},
            "apps": [{"app": "blog/production", "state": "healthy", "routes": ["example.com"], "units":
                [{"unit": "web", "kind": "process", "wanted": 2, "instances": []}]}],
        }))
    }
}

impl Service for Door {
    fn identity(&self) -> &dyn Signer {
        &self.identity
    }
    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }
    fn window(&self) -> &Mutex<Window> {
        &self.window
    }
    fn now(&self) -> Timestamp {
        now()
    }
    #[expect(clippy::expect_used, reason = "without a record no agent answers, so nothing is measured")]
    fn head(&self) -> SignedHead {
        self.record.head().expect("the record's head can be signed")
    }
    fn probe(&self, command: &Command) -> Result<Value, Fault> {
        let identity = self.identity.fingerprint();
        let epoch = self.window.lock().unwrap_or_else(PoisonError::into_inner).epoch().clone();
        Ok(match command {
            Command::Hello(_) => {
                json!({"oldest": 1, "newest": 1, "version": "0.1.0", "identity": identity, "epoch": epoch})
            }
            _ => json!({"name": self.name, "address": "x", "version": "0.1.0", "identity": identity}),
        })
    }
    async fn call(&self, incoming: Incoming) -> Answer {
        match &incoming.request.command {
            Command::ServerStatus(_) => match self.status() {
                Ok(status) => Answer::Reply(status),
                Err(error) => Answer::Fault(Fault::new(FaultCode::Internal, error.to_string())),
            },
            other => Answer::Fault(Fault::new(FaultCode::NotAllowed, format!("not {}", other.name()))),
        }
    }
    fn may(&self, _verified: &Verified, _command: &Command) -> Result<(), Fault> {
        Ok(())
    }
    async fn chunk(&self, _chunk: Chunk) -> Result<Value, Fault> {
        Err(Fault::new(FaultCode::NotAllowed, "nothing is kept here"))
    }
    fn refused(&self, _source: &str, _reason: &'static str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_agents_share_a_key() {
        let all: BTreeSet<_> = (0..2_000).map(|number| seed(2, number)).collect();
        assert_eq!(all.len(), 2_000);
    }

    #[test]
    fn a_home_for_more_agents_than_there_are_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let farm = Farm::start(folder.path(), 2).unwrap();
        assert!(farm.home(3).is_err());
        let home = farm.home(2).unwrap();
        let text = std::fs::read_to_string(home.join("servers.toml")).unwrap();
        assert_eq!(text.matches("[[server]]").count(), 2);
        farm.end();
    }
}
