//! How each program is started: its arguments, its user, its one inherited socket, where its lines go.

use super::{
    executor_link::ExecutorLink,
    logs::ProgramLog,
    network::{Entry, Network, OwnNetwork, TailscaledNetwork},
    places::{NodePlace, Places},
    ports::Ports,
    program::Program,
    supervisor::Launch,
    users::Staff,
};
use allod_proxy::hand_over;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};
use tokio::process::Child;

/// What a program may know of the supervisor's environment.
const PASSED_ON: [&str; 6] = ["PATH", "LANG", "LC_ALL", "TZ", "ALLOD_LOG", "RUST_BACKTRACE"];

/// What starting needs to know.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) paths: Paths,
    pub(super) staff: Staff,
    pub(super) ports: Ports,
    pub(super) network: Network,
    /// The server's own name.
    pub(super) name: String,
    http: TcpListener,
    secure: Option<Secure>,
    /// Who may open the recovery door, besides root and whom the programs run as.
    pub(super) recovery_uid: Option<u32>,
    /// Who may open the gate's door besides them.
    pub(super) gate_uid: Option<u32>,
    /// What the agent follows.
    pub(super) sshd_log: Option<PathBuf>,
    link: Option<ExecutorLink>,
    logs: BTreeMap<Program, ProgramLog>,
}

/// The listener for TLS, and where its certificates are.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) listener: TcpListener,
    pub(super) certificates: PathBuf,
}

/// The folders and files that stand in the arguments.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) state: PathBuf,
    pub(super) run: PathBuf,
    pub(super) routes: PathBuf,
    pub(super) proxy_control: PathBuf,
    pub(super) first_owner: PathBuf,
}

impl Launcher {
    /// Of what was settled.
    pub(super) fn new(
        places: &Places,
        first_owner: PathBuf,
        staff: Staff,
        (ports, network): (Ports, Network),
        http: TcpListener,
        secure: Option<Secure>,
    ) -> Self {
        let paths = Paths {
            state: places.state().to_owned(),
            run: places.run().to_owned(),
            routes: places.routes(),
            proxy_control: places.proxy_control(),
            first_owner,
        };
        let logs = Program::ALL.map(|program| (program, ProgramLog::at(places.log(program))));
        Self {
            paths,
            staff,
            ports,
            network,
            name: "local".to_owned(),
            http,
            secure,
            recovery_uid: None,
            gate_uid: None,
            sshd_log: None,
            link: None,
            logs: logs.into(),
        }
    }

    /// The last lines a program printed.
    pub(super) fn tail(&self, program: Program) -> Vec<String> {
        self.logs.get(&program).map(ProgramLog::tail).unwrap_or_default()
    }

    fn arguments(&self, program: Program) -> Vec<OsString> {
        let paths = &self.paths;
        let mut words = Words(vec![program.argument().into()]);
        words.pair("--state", &paths.state);
        match program {
            Program::Executor => {
                words.pair("--run", &paths.run);
                words.word("--control-stdin");
                words.word("--stop-apps-at-exit");
                words.pair("--first-owner", &paths.first_owner);
                let users = &self.staff.users;
                let uids = [
                    ("--uids", users.apps()),
                    ("--agent-uid", users.of(Program::Agent)),
                    ("--proxy-uid", users.of(Program::Proxy)),
                    ("--recovery-uid", self.recovery_uid),
                    ("--gate-uid", self.gate_uid),
                ];
                for (flag, uid) in uids.into_iter().filter_map(|(flag, uid)| Some((flag, uid?))) {
                    words.pair(flag, uid.to_string());
                }
            }
            Program::Agent => {
                words.pair("--run", &paths.run);
                words.pair("--name", &self.name);
                match &self.network {
                    Network::Loopback => {
                        words.on_loopback(self.ports.management);
                        words.pair("--hub", format!("127.0.0.1:{}", self.ports.hub));
                    }
                    Network::Own(own) => {
                        words.on_mesh(own, own.management);
                        words.hub(own.standing.get().hub);
                    }
                    Network::Tailscaled(network) => {
                        words.on_tailscaled(network, network.management);
                        words.hub(network.standing.get().hub);
                    }
                }
                words.word("--executor-stdin");
                words.pair("--proxy-control", &paths.proxy_control);
                words.pair("--routes", &paths.routes);
                if let Some(log) = &self.sshd_log {
                    words.pair("--sshd-log", log);
                }
            }
            Program::Proxy => {
                words = Words(vec![program.argument().into()]);
                words.pair("--routes", &paths.routes);
                words.pair("--control", &paths.proxy_control);
                words.word("--listen-stdin");
                words.pair("--access-log", paths.state.join("proxy/access.log"));
                words.pair("--end-within", "3");
                if let Some(secure) = &self.secure {
                    words.pair("--certificates", &secure.certificates);
                }
            }
            Program::Hub => match &self.network {
                Network::Loopback => words.on_loopback(self.ports.hub),
                Network::Tailscaled(network) => words.on_tailscaled(network, network.hub),
                Network::Own(own) => {
                    words.on_mesh(own, own.hub);
                    if let Some(coordinator) = own.coordinator {
                        words.pair("--coordinator", coordinator.to_string());
                        words.pair("--stun", coordinator.to_string());
                    }
                }
            },
            Program::Node | Program::ClientNode => {
                words = Words(vec![program.argument().into()]);
                if let Network::Own(own) = &self.network {
                    self.node_arguments(&mut words, program, own);
                }
            }
        }
        words.word(format!("--die-with-parent={}", std::process::id()));
        words.0
    }

    fn node_arguments(&self, words: &mut Words, program: Program, own: &OwnNetwork) {
        let Some((_, place)) = own.nodes().find(|(node, _)| *node == program) else { return };
        let NodePlace { state, run } = place;
        words.pair("--state", state);
        words.pair("--run", run);
        let users = &self.staff.users;
        let clients = if program == Program::Node {
            words.pair("--hostname", &self.name);
            own.forwards.iter().for_each(|forward| words.pair("--forward", forward.to_string()));
            vec![users.of(Program::Agent), users.of(Program::Hub)]
        } else {
            words.pair("--hostname", format!("{}-operator", self.name));
            Vec::new()
        };
        for uid in clients.into_iter().flatten() {
            words.pair("--client", uid.to_string());
        }
        if let Some(only) = own.only {
            words.pair("--only", only.to_string());
        }
        let has_token = place.token().exists();
        match &own.entry {
            Entry::Server(server) => {
                words.pair("--coordinator", &server.url);
                if has_token {
                    words.pair("--auth-key", place.token());
                }
            }
            Entry::Own | Entry::Token(_) if has_token => words.pair("--join", place.token()),
            Entry::Own | Entry::Token(_) => {}
        }
    }

    /// The socket that a program inherits as standard input. It is the only thing it inherits.
    fn inheritance(&mut self, program: Program) -> io::Result<Stdio> {
        let socket: OwnedFd = match program {
            Program::Executor => {
                let (link, theirs) = ExecutorLink::new()?;
                self.link = Some(link);
                theirs
            }
            Program::Agent => self
                .link
                .as_ref()
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?
                .connection()?,
            Program::Proxy => {
                let https = self.secure.as_ref().map(|secure| std::slice::from_ref(&secure.listener));
                hand_over::pack(std::slice::from_ref(&self.http), https.unwrap_or_default())?
            }
            Program::Hub | Program::Node | Program::ClientNode => return Ok(Stdio::null()),
        };
        Ok(Stdio::from(socket))
    }
}

struct Words(Vec<OsString>);

impl Words {
    fn word(&mut self, word: impl Into<OsString>) {
        self.0.push(word.into());
    }

    fn on_loopback(&mut self, port: u16) {
        self.pair("--listen", format!("127.0.0.1:{port}"));
        self.pair("--mesh", "loopback");
    }

    fn on_mesh(&mut self, own: &OwnNetwork, port: u16) {
        self.pair("--listen", port.to_string());
        self.pair("--mesh", "embedded");
        self.pair("--mesh-socket", own.server.socket());
    }

    fn on_tailscaled(&mut self, network: &TailscaledNetwork, port: u16) {
        self.pair("--listen", port.to_string());
        self.pair("--mesh", "tailscaled");
        if let Some(socket) = &network.socket {
            self.pair("--mesh-socket", socket);
        }
    }

    fn hub(&mut self, hub: Option<SocketAddr>) {
        if let Some(hub) = hub {
            self.pair("--hub", hub.to_string());
        }
    }

    fn pair(&mut self, flag: &str, value: impl AsRef<OsStr>) {
        self.0.push(flag.into());
        self.0.push(value.as_ref().to_owned());
    }
}

impl Launch for Launcher {
    fn renew(&mut self) -> io::Result<()> {
        self.staff.renew()
    }

    fn may_start(&self, program: Program) -> bool {
        self.network.may_start(program)
    }

    #[expect(clippy::disallowed_methods, reason = "the supervisor starts programs")]
    fn launch(&mut self, program: Program) -> io::Result<Child> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(&self.staff.binary);
        command.args(self.arguments(program)).current_dir("/").process_group(0);
        command.env_clear().envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(self.inheritance(program)?).stdout(writer.try_clone()?).stderr(writer);
        if let Some(uid) = self.staff.users.of(program) {
            // The group has the user's number; root's other groups are given up with it.
            command.uid(uid).gid(uid);
        }
        // Not killed when dropped: stopping in order is the supervisor's, and after its death the system's.
        let child = tokio::process::Command::from(command).spawn()?;
        if let Some(log) = self.logs.get(&program) {
            let lines = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
            tokio::spawn(log.clone().fill_from(lines));
        }
        Ok(child)
    }
}
