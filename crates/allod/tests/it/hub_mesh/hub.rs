//! A hub with a coordinator as its own process, on loopback, and machines of the library that join it. Dropping it ends it.

use crate::{
    cli::{BINARY, Output},
    processes::{PATIENCE, eventually},
    world::fresh_folder,
};
use allod_daemon::Clock;
use allod_meshnode::{
    Interfaces, Member, MemberSettings,
    control::{ControlSettings, ControlState, Trust},
};
use allod_meshproto::token::JoinToken;
use ring::rand::SystemRandom;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

pub(crate) struct Hub {
    child: Option<Child>,
    pub(crate) program: PathBuf,
    port: u16,
    more: Vec<String>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// The user that it runs as, if not this one.
    pub(crate) uid: Option<u32>,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A port that nobody had a moment ago, and that stays a hub's over its restarts.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Hub {
    /// One that answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(BINARY.into(), &["--mesh", "loopback", "--listen", "127.0.0.1:0"]).await
    }

    /// The same by another copy of the program, and with these flags.
    pub(crate) async fn start_with(program: PathBuf, more: &[&str]) -> Self {
        let mut hub = Self::unborn(program, more);
        hub.begin().await;
        hub
    }

    /// One behind HTTPS, and machines that believe its certificate.
    pub(crate) async fn start_secure() -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hub/tests/certificates");
        let mut hub = Self::unborn(BINARY.into(), &["--mesh", "loopback", "--listen", "127.0.0.1:0"]);
        let (pem, key) = (hub.folder.path().join("here.pem"), hub.folder.path().join("here.key"));
        std::fs::write(&pem, std::fs::read(fixtures.join("here.pem")).unwrap()).unwrap();
        std::fs::write(&key, std::fs::read(fixtures.join("here.key")).unwrap()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        for (flag, file) in [("--certificate", pem), ("--certificate-key", key)] {
            hub.more.extend([flag.to_owned(), file.to_string_lossy().into_owned()]);
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(fixtures.join("authority.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        hub.tls = Some(Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth()));
        hub.begin().await;
        hub
    }

    /// One that does not run yet.
    pub(crate) fn unborn(program: PathBuf, more: &[&str]) -> Self {
        let folder = fresh_folder();
        let more = more.iter().map(|word| (*word).to_owned()).collect();
        Self { child: None, program, port: free_port(), more, tls: None, uid: None, folder }
    }

    /// Begins it, with its coordinator, in its folder.
    pub(crate) async fn begin(&mut self) {
        let address = self.address().to_string();
        self.spawn(&["--coordinator", &address, "--stun", "127.0.0.1:0"]);
        eventually("the hub answers", async || (self.deed(&["nodes"]).await.code == 0).then_some(())).await;
    }

    /// Begins it as a hub alone.
    pub(crate) async fn begin_without_coordinator(&mut self) {
        self.spawn(&[]);
        eventually("the hub answers", async || (self.deed(&["nodes"]).await.code == 5).then_some(())).await;
    }

    fn spawn(&mut self, words: &[&str]) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("hub").arg("--state").arg(self.state()).args(&self.more);
        command.args(words);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command.env_clear().stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What its page on the mesh says as JSON, and the page.
    pub(crate) async fn status(&self) -> (Value, String) {
        let log = self.log();
        // Of its present life.
        let (_, said) = log.rsplit_once("listen=[").expect("it listens nowhere");
        let address: SocketAddr = said.split(']').next().unwrap().parse().unwrap();
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer.split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        (serde_json::from_str(&get("/status.json").await).unwrap(), get("/").await)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and its end.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = eventually("the hub ends", async || child.try_wait().unwrap()).await;
        assert!(ended.success(), "{}", self.log());
    }

    /// `allod hub … --json`.
    pub(crate) async fn deed(&self, words: &[&str]) -> Output {
        self.plain(&[words, &["--json"]].concat()).await
    }

    /// The same, as for a person.
    pub(crate) async fn plain(&self, words: &[&str]) -> Output {
        let state = self.state();
        let head = ["hub", "--state", state.to_str().unwrap()];
        let mut command = Command::new(&self.program);
        command.args(head).args(words).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        crate::cli::ended(timeout(PATIENCE * 3, output).await.expect("the deed does not end").unwrap())
    }

    /// The document of a deed that went well.
    pub(crate) async fn told(&self, words: &[&str]) -> Value {
        let document = self.deed(words).await.ok().json();
        assert_eq!(document["ok"], true);
        document
    }

    /// The node of this name, as the list has it.
    pub(crate) async fn node(&self, name: &str) -> Option<Value> {
        let nodes = self.told(&["nodes"]).await["nodes"].clone();
        nodes.as_array().unwrap().iter().find(|node| node["name"] == name).cloned()
    }

    /// A token of a key made with these flags.
    pub(crate) async fn token(&self, flags: &[&str]) -> JoinToken {
        let document = self.told(&[&["keys", "create"], flags].concat()).await;
        JoinToken::parse(document["token"].as_str().unwrap()).unwrap()
    }

    /// A machine that joins with a key made with these flags, and is on the mesh.
    pub(crate) async fn join(&self, name: &str, flags: &[&str]) -> Member {
        let token = self.token(flags).await;
        let member = self.member(name, Some(&token));
        on_the_mesh(&member).await;
        member
    }

    /// The machine whose place is in the folder of that name.
    pub(crate) fn member(&self, name: &str, token: Option<&JoinToken>) -> Member {
        self.member_from(name, token, Ipv4Addr::LOCALHOST.into())
    }

    /// The same whose datagrams come from this address: no other kind of address is reached directly.
    pub(crate) fn member_from(&self, name: &str, token: Option<&JoinToken>, from: IpAddr) -> Member {
        let (trust, join_key) = match token {
            Some(token) => {
                (Trust::Root { root: token.root(), seen: 0 }, Some(token.join_key().to_owned().into()))
            }
            None => (Trust::FirstUse, None),
        };
        let control = ControlSettings {
            urls: vec![format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address())],
            trust,
            tls: self.tls.clone(),
            hostname: name.to_owned(),
            join_key,
            ephemeral: false,
        };
        let clock = Clock::start();
        let settings = MemberSettings {
            folder: self.folder.path().join(format!("node-{name}")),
            control,
            interfaces: Interfaces::Only(from),
            random: Arc::new(SystemRandom::new()),
            clock: Arc::new(move || clock.now()),
        };
        Member::open(settings).unwrap()
    }
}

pub(crate) async fn on_the_mesh(member: &Member) {
    until(member, |state| *state == ControlState::Connected).await;
    let mut status = member.node().watch();
    let waited = timeout(PATIENCE * 3, status.wait_for(|status| !status.addresses.is_empty())).await;
    drop(waited.expect("it never has an address").unwrap());
}

/// Waits until this is how it stands with the coordinator, and says how.
pub(crate) async fn until(member: &Member, is: impl Fn(&ControlState) -> bool) -> ControlState {
    let mut state = member.control();
    let waited = timeout(PATIENCE * 3, state.wait_for(|state| is(state))).await;
    match waited {
        Ok(state) => state.unwrap().clone(),
        Err(_) => panic!("never so; it is {:?}", member.control().borrow()),
    }
}

/// A machine's first address.
pub(crate) fn address(member: &Member) -> String {
    member.node().watch().borrow().addresses.first().expect("it has none").to_string()
}
