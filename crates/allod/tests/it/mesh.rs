//! The agent on a mesh that tailscaled runs, in a network of the test's own: waiting for its address, following it, letting
//! nobody in whom the mesh doesn't know. Takes root, for the network.

use crate::{
    cli::BINARY,
    processes::{PATIENCE, eventually},
    running::Running,
};
use allod_proto::{
    Command as Asked, CommandId, Request,
    messages::server::{Hello, ServerInfo},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::{fd::AsFd as _, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

/// A network of its own, with an interface for the mesh.
struct Space(String);

impl Space {
    fn new() -> Self {
        let this = Self(format!("ae{}", std::process::id()));
        ip(&["netns", "add", &this.0]);
        this.ip(&["link", "set", "lo", "up"]);
        this.ip(&["link", "add", "ts0", "type", "veth", "peer", "name", "ts1"]);
        this.ip(&["link", "set", "ts0", "up"]);
        this
    }

    fn ip(&self, words: &[&str]) {
        ip(&[&["-n", self.0.as_str()], words].concat());
    }

    /// Asks a probe there; what comes back, if anything.
    async fn ask(&self, at: SocketAddr, command: Asked) -> Option<String> {
        let space = File::open(Path::new("/run/netns").join(&self.0)).unwrap();
        let asking = move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let mut stream = TcpStream::connect_timeout(&at, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let body = Request { v: 1, id: CommandId::new("a-probe-from-here").unwrap(), command }.to_body();
            let head = format!(
                "POST /rpc HTTP/1.1\r\nhost: {at}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).ok()?;
            let mut said = String::new();
            stream.read_to_string(&mut said).ok()?;
            Some(said).filter(|said| !said.is_empty())
        };
        // A thread that is there, and ends there.
        tokio::task::spawn_blocking(|| std::thread::spawn(asking).join().unwrap()).await.unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().unwrap();
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What stands for tailscaled says: its state, its addresses, which of them it knows. It has no stream of changes.
type Says = Arc<Mutex<(&'static str, Vec<&'static str>, Vec<&'static str>)>>;

fn daemon(socket: &Path) -> Says {
    let says: Says = Arc::new(Mutex::new(("NeedsLogin", Vec::new(), Vec::new())));
    let (listener, shared) = (UnixListener::bind(socket).unwrap(), Arc::clone(&says));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.extend(byte);
            }
            let (status, body) = answer(&String::from_utf8_lossy(&head), &shared.lock().unwrap());
            let body = body.to_string();
            let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    says
}

fn answer(head: &str, (state, own, known): &(&str, Vec<&str>, Vec<&str>)) -> (u16, Value) {
    let target = head.split(' ').nth(1).unwrap_or_default();
    if target.starts_with("/localapi/v0/status") {
        return (200, json!({"BackendState": state, "TUN": true, "TailscaleIPs": own}));
    }
    let asked = target.strip_prefix("/localapi/v0/whois?addr=").and_then(|it| it.parse::<SocketAddr>().ok());
    match asked.filter(|asked| known.contains(&asked.ip().to_string().as_str())) {
        Some(asked) => (200, json!({"Node": {"Name": "x.", "Addresses": [format!("{}/32", asked.ip())]}})),
        None => (404, json!("no match")),
    }
}

/// An agent in that network; killed when dropped.
struct Agent {
    child: Child,
    log: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

impl Agent {
    fn start(space: &Space, executor: &Running, socket: &Path, listen: &str) -> Self {
        let folder = executor.folder.path();
        let log = folder.join("agent.log");
        let file = File::create(&log).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &space.0, BINARY, "agent", "--name", "web1", "--mesh", "tailscaled"]);
        command.args(["--listen", listen]).arg("--mesh-socket").arg(socket);
        command.arg("--state").arg(folder.join("s")).arg("--run").arg(folder.join("r"));
        command.arg("--executor").arg(executor.socket()).arg("--proxy-control").arg(folder.join("p.sock"));
        command.arg("--routes").arg(folder.join("routes.json"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn hello() -> Asked {
    Asked::Hello(Hello {})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_for_its_mesh_address_follows_it_and_serves_whom_the_mesh_knows() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a network of the test's own takes root");
        return;
    }
    let (executor, first) = Running::listening().await;
    drop(first);
    let space = Space::new();
    let socket = executor.folder.path().join("d.sock");
    let says = daemon(&socket);
    let (old, new) = ("100.64.7.1:9844".parse().unwrap(), "100.64.7.2:9844".parse().unwrap());

    // An address that is another's: no start.
    *says.lock().unwrap() = ("Running", vec!["100.64.7.1"], Vec::new());
    let mut wrong = Agent::start(&space, &executor, &socket, "100.64.7.9:9844");
    let ended = eventually("the agent refuses", async || wrong.child.try_wait().unwrap()).await;
    assert!(!ended.success());
    assert!(
        wrong.said().contains("100.64.7.9 is not this machine's address on the mesh"),
        "{}",
        wrong.said()
    );
    drop(wrong);

    // Not logged in: it waits and says so, and whoever is on the machine can ask it meanwhile.
    *says.lock().unwrap() = ("NeedsLogin", Vec::new(), Vec::new());
    let agent = Agent::start(&space, &executor, &socket, "9844");
    eventually("it says what it waits for", async || {
        agent.said().contains("waiting for this machine's address on the mesh").then_some(())
    })
    .await;
    let local = executor.folder.path().join("r/agent.sock");
    eventually("its own socket is there", async || local.exists().then_some(())).await;

    space.ip(&["addr", "add", "100.64.7.1/32", "dev", "ts0"]);
    assert_eq!(space.ask(old, hello()).await, None);
    *says.lock().unwrap() = ("Running", vec!["100.64.7.1"], vec!["100.64.7.1"]);
    eventually("it answers", async || space.ask(old, hello()).await).await;

    // Whom the mesh doesn't know gets not a byte.
    *says.lock().unwrap() = ("Running", vec!["100.64.7.1"], Vec::new());
    assert_eq!(space.ask(old, hello()).await, None);

    // Another address: there, and there only.
    space.ip(&["addr", "add", "100.64.7.2/32", "dev", "ts0"]);
    *says.lock().unwrap() = ("Running", vec!["100.64.7.2"], vec!["100.64.7.1", "100.64.7.2"]);
    let said =
        eventually("it answers there", async || space.ask(new, Asked::ServerInfo(ServerInfo {})).await).await;
    assert!(said.contains("\"100.64.7.2:9844\""), "{said}");
    assert_eq!(space.ask(old, hello()).await, None);
}
