//! A real `sshd` on loopback, with a host key, settings and a port of its own, and clients of it: one that connects anew
//! each time, one that shares a connection which stays.

use crate::{
    bench::{Bench, write},
    peer::Peer,
    process::{Running, command, free_port, output, run_short},
    report::Report,
    stop,
};
use anyhow::Result;
use rustix::process::geteuid;
use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Where `sshd` as root wants an empty folder.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// It runs until it is dropped.
pub(crate) struct Sshd {
    // Ends before the server does.
    _master: Running,
    _running: Running,
    ssh: PathBuf,
    pub(crate) settings: PathBuf,
    /// The public half of what logs in as host `gate`.
    pub(crate) gate_key: PathBuf,
}

impl Sshd {
    pub(crate) fn start(bench: &Bench, report: &mut Report) -> Result<Self> {
        Self::start_with(bench, report, None)
    }

    /// The same with a second key, host `gate`, whose logins run this whatever they ask for.
    pub(crate) fn start_with(bench: &Bench, report: &mut Report, forced: Option<&str>) -> Result<Self> {
        let server = bench.tool(report, "sshd", &["-V"])?;
        let client = bench.tool(report, "ssh", &["-V"])?;
        let folder = bench.folder("sshd")?;
        let port = free_port()?;
        for key in ["host", "person", "gate"] {
            let mut making = command("ssh-keygen");
            making.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(folder.join(key));
            output("ssh-keygen", making)?;
        }
        let public = |key: &str| std::fs::read_to_string(folder.join(format!("{key}.pub")));
        let gate = match forced {
            Some(forced) => format!("restrict,command=\"{forced}\" {}", public("gate")?),
            None => String::new(),
        };
        write(&folder.join("authorized"), &format!("{}{gate}", public("person")?))?;
        let host = std::fs::read_to_string(folder.join("host.pub"))?;
        write(&folder.join("known"), &format!("[127.0.0.1]:{port} {host}"))?;
        write(&folder.join("sshd_config"), &server_settings(&folder, port))?;
        let settings = folder.join("ssh_config");
        write(&settings, &client_settings(&folder, port, &whoami()?))?;
        if geteuid().is_root() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(PRIVILEGE_SEPARATION)?;
        }
        let mut running = serve(&server, &folder)?;
        running.listens(port)?;
        let mut master = command(&client.program);
        master.arg("-F").arg(&settings).args(["-M", "-N", "warm"]);
        let master = Running::start("ssh -M", master, &folder.join("master.log"))?;
        let gate_key = folder.join("gate.pub");
        let sshd = Self { _master: master, _running: running, ssh: client.program, settings, gate_key };
        sshd.wait_for_master()?;
        Ok(sshd)
    }

    /// `ssh HOST WORDS`: host `cold` connects anew, `warm` uses the connection that stays.
    pub(crate) fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = command(&self.ssh);
        command.arg("-F").arg(&self.settings).arg(host).args(words);
        command
    }

    fn wait_for_master(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut check = command(&self.ssh);
            check.arg("-F").arg(&self.settings).args(["-O", "check", "warm"]);
            match run_short("ssh -O check", check) {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => stop::pause(stop::TICK)?,
            }
        }
    }
}

fn serve(server: &Peer, folder: &Path) -> Result<Running> {
    let mut serving = command(&server.program);
    serving.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    Running::start("sshd", serving, &folder.join("log"))
}

fn server_settings(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\nAuthorizedKeysFile {folder}/authorized\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n\
         UseDNS no\nStrictModes no\nMaxStartups 100\nMaxSessions 100\nPrintMotd no\nExposeAuthInfo yes\nLogLevel ERROR\n"
    )
}

fn client_settings(folder: &Path, port: u16, user: &str) -> String {
    let folder = folder.display();
    format!(
        "Host gate\n  IdentityFile {folder}/gate\nHost cold warm\n  IdentityFile {folder}/person\n\
         Host cold warm gate\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  \
         IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile none\n  \
         StrictHostKeyChecking yes\n  BatchMode yes\n  LogLevel ERROR\n\
         Host warm\n  ControlMaster auto\n  ControlPath {folder}/c\n"
    )
}

fn whoami() -> Result<String> {
    let mut asking = command("id");
    asking.arg("-un");
    Ok(output("id", asking)?.trim().to_owned())
}
