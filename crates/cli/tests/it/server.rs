//! A server behind the real door of `allod-rpc`, with a real record and canned answers.

use crate::person::owner_line;
use allod_audit::{Entry, Record, Settings};
use allod_proto::{
    Command, Digest, Epoch, Fault, FaultCode, Fingerprint, Timestamp, command::StreamItem,
    operation::OperationEvent, record::SignedHead,
};
use allod_rpc::server::{Answer, Chunk, Doorway, Incoming, Keys, ListenerLimits, Service};
use allod_signing::{EnrolledKeys, KeySigner, Revoked, Signer, Window};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::Barrier};

pub(crate) struct Door {
    identity: KeySigner,
    keys: Arc<Keys>,
    window: Mutex<Window>,
    record: Record,
    /// Lines are shown as this makes them.
    tamper: fn(String) -> String,
    events: Vec<OperationEvent>,
    name: &'static str,
    company: Company,
    _folder: tempfile::TempDir,
}

/// Once it is set, a server tells how it stands when so many have been asked, and not before.
pub(crate) type Company = Arc<OnceLock<Arc<Barrier>>>;

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the client under test reads the real clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(now.as_millis()).unwrap())
}

/// A server, and where it listens.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Fingerprint,
    pub(crate) record: Record,
    pub(crate) company: Company,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// One that knows the key with this seed as its owner.
    pub(crate) async fn start(name: &'static str, seed: u8, owner: u8) -> Self {
        Self::start_with(name, seed, owner, |line| line, Vec::new()).await
    }

    pub(crate) async fn start_with(
        name: &'static str,
        seed: u8,
        owner: u8,
        tamper: fn(String) -> String,
        events: Vec<OperationEvent>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = KeySigner::generate([seed; 32], name);
        let clock = Arc::new(|| (Timestamp(1_000_000), 1000));
        let record_key = Arc::new(KeySigner::generate([seed + 1; 32], "record"));
        let (record, _) =
            Record::open(Settings::new(folder.path().join("record"), clock), record_key).unwrap();
        for n in 0..20 {
            record.append(Entry::note("test", format!("line {n}"))).unwrap();
        }
        let audience = identity.fingerprint();
        let enrolled = EnrolledKeys::parse(&owner_line(owner));
        assert_eq!(enrolled.entries().len(), 1);
        let company = Company::default();
        let door = Arc::new(Door {
            company: Arc::clone(&company),
            keys: Arc::new(Keys { audience: audience.clone(), enrolled, revoked: Revoked::default() }),
            identity,
            window: Mutex::new(Window::new(Epoch::from_random([seed; 16]), 1000, 1000)),
            record: record.clone(),
            tamper,
            events,
            name,
            _folder: folder,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let doorway = Arc::new(Doorway::new(door, ListenerLimits::default()));
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let doorway = Arc::clone(&doorway);
                tokio::spawn(async move { doorway.serve(doorway.room().await, stream, peer.ip()).await });
            }
        });
        Self { address, identity: audience, record, company, task }
    }

    /// Nobody answers here any more.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        // It ends by being aborted.
        let _ = (&mut self.task).await;
    }
}

impl Door {
    fn status(&self) -> Value {
        json!({
            "name": self.name, "version": "1.2.3", "started_at": now().minus(std::time::Duration::from_secs(7200)),
            "now": now(), "architecture": "x86_64", "record": self.record.head().unwrap().head,
            "record_key": record_key_of(&self.record), "recipient": "age1test",
            "isolation": [{"what": "own uid per app", "on": false, "why": "not root"}],
            "disk_free": 5_u64 << 30, "disk_total": 20_u64 << 30, "load_hundredths": 25,
            "proxy": {"generation": 1, "listen": [], "requests": 0, "in_flight": 0, "own_errors": 0},
            "apps": [{"app": "blog/production", "state": "healthy", "routes": ["example.com"], "units":
                [{"unit": "web", "kind": "process", "wanted": 2, "instances": []}]}],
        })
    }

    fn show(&self, from: i64, limit: u32) -> Value {
        let head = self.record.head().unwrap();
        let from =
            u64::try_from(from).unwrap_or_else(|_| (head.head.seq + 1).saturating_sub(from.unsigned_abs()));
        let lines = self.record.read(from.max(1), limit.min(7) as usize).unwrap();
        let lines: Vec<_> = lines.into_iter().map(self.tamper).collect();
        json!({"lines": lines, "oldest": 1, "head": head})
    }

    fn keys_reply() -> Value {
        json!({"keys": [{"fingerprint": crate::person::key(1).fingerprint(), "name": "ana@laptop",
            "algorithm": "ssh-ed25519", "role": "owner", "line": owner_line(1)}], "complaints": []})
    }
}

fn record_key_of(record: &Record) -> Fingerprint {
    let signature = allod_signing::sshsig::from_base64(&record.head().unwrap().signature).unwrap();
    allod_signing::sshsig::signer_key(&signature).unwrap().fingerprint().clone()
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
    fn head(&self) -> SignedHead {
        self.record.head().unwrap()
    }
    fn probe(&self, command: &Command) -> Result<Value, Fault> {
        let identity = self.identity.fingerprint();
        Ok(match command {
            Command::Hello(_) => json!({"oldest": 1, "newest": 1, "version": "1.2.3", "identity": identity,
                "epoch": self.window.lock().unwrap().epoch()}),
            _ => json!({"name": self.name, "address": "x", "version": "1.2.3", "identity": identity}),
        })
    }
    async fn call(&self, incoming: Incoming) -> Answer {
        match &incoming.request.command {
            Command::ServerStatus(_) => {
                if let Some(all) = self.company.get() {
                    all.wait().await;
                }
                Answer::Reply(self.status())
            }
            Command::KeysList(_) | Command::KeysRevoke(_) | Command::KeysAdd(_) => {
                Answer::Reply(Self::keys_reply())
            }
            Command::AuditShow(show) => Answer::Reply(self.show(show.from, show.limit)),
            Command::OpsAttach(_) => {
                let (sender, receiver) = tokio::sync::mpsc::channel(64);
                for event in &self.events {
                    sender.send(StreamItem::Operation(event.clone())).await.unwrap();
                }
                Answer::Stream(receiver)
            }
            other => Answer::Fault(Fault::new(FaultCode::NotAllowed, format!("not {}", other.name()))),
        }
    }
    fn may(&self, _verified: &allod_signing::Verified, _command: &Command) -> Result<(), Fault> {
        Ok(())
    }
    async fn chunk(&self, chunk: Chunk) -> Result<Value, Fault> {
        Ok(json!({"chunk": Digest::of(&chunk.bytes)}))
    }
    fn refused(&self, _source: &str, _reason: &'static str) {}
}
