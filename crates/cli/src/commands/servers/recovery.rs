//! Who a server is, read over SSH at its recovery door: the one way to its identity that doesn't lead through what is to be proved.
//! It also shows that the door opens, which somebody will need one night.

use crate::{failure::Failure, session::Session};
use allod_proto::{FaultCode, Fingerprint};
use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, SocketAddr},
    process::{Command, Output, Stdio},
    str::FromStr,
    time::Duration,
};
use tokio::time::timeout;

/// The user behind whom the door is.
const USER: &str = "allod-recovery";
/// Where sshd listens.
const SSH: u16 = 22;
/// How long ssh may take: with a person who is asked about a host key or a passphrase, and without.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(180), Duration::from_secs(30));
/// Of what ssh complains about, so much is shown.
const SHOWN: usize = 300;

/// `[USER@]HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Door {
    user: String,
    host: String,
    port: Option<u16>,
    /// The name that the host key is known by, where `host` is the address it was found at.
    known_as: Option<String>,
}

impl Door {
    /// The usual one, at the very address that was checked; `host` is what was typed.
    pub(super) fn usual(host: &str, checked: SocketAddr) -> Self {
        let known_as = host.parse::<IpAddr>().is_err().then(|| host.to_owned());
        Self { user: USER.to_owned(), host: checked.ip().to_string(), port: None, known_as }
    }
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not [USER@]HOST[:PORT], such as {USER}@web1");
        let (user, place) = text.split_once('@').unwrap_or((USER, text));
        let (host, port) = match place.rsplit_once(':') {
            // An IPv6 address without a port.
            Some((before, _)) if before.contains(':') && !before.ends_with(']') => (place, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (place, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // Words of their own for ssh: nothing that could be taken for an option, or mean something to a shell.
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !plain(user, b"._-") || !plain(host, b"._-:") || port == Some(0) {
            return Err(wrong());
        }
        Ok(Self { user: user.to_owned(), host: host.to_owned(), port, known_as: None })
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.known_as.as_ref().unwrap_or(&self.host))
    }
}

/// The identity that the server itself says over SSH.
///
/// # Errors
/// [`Failure`] when ssh does not get there, or what answers is no recovery door.
pub(super) async fn identity(session: &Session, door: &Door) -> Result<Fingerprint, Failure> {
    let door = &at_its_address(session, door).await?;
    let is_over_mesh = door.host.parse().is_ok_and(allod_mesh::is_mesh_address);
    let through = is_over_mesh && session.mesh().await?.is_some_and(|mesh| mesh.node().is_some());
    let can_ask = session.output.can_ask();
    let command = command(session, door, through, can_ask)?;
    let patience = if can_ask { PATIENCE.0 } else { PATIENCE.1 };
    let running = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = match timeout(patience, running).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unreachable(door, &error.to_string())),
        Err(_) => return Err(unreachable(door, &format!("no answer within {} s", patience.as_secs()))),
    };
    read(door, &output)
}

/// The same with the address that a name has on the mesh: ssh can't look that up.
async fn at_its_address(session: &Session, door: &Door) -> Result<Door, Failure> {
    let port = door.port.unwrap_or(SSH);
    let found = match door.host.parse::<IpAddr>() {
        Ok(_) => None,
        Err(_) => session.resolve_on_mesh(&format!("{}:{port}", door.host)).await?,
    };
    Ok(match found {
        Some(at) => Door { host: at.ip().to_string(), known_as: Some(door.host.clone()), ..door.clone() },
        None => door.clone(),
    })
}

fn read(door: &Door, output: &Output) -> Result<Fingerprint, Failure> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        return Err(unreachable(door, &last.chars().take(SHOWN).collect::<String>()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let words = said.lines().filter_map(|line| line.strip_prefix("identity "));
    let identity = words.filter_map(|rest| Fingerprint::new(rest.trim().to_owned()).ok()).next();
    identity.ok_or_else(|| unreachable(door, "what answers there is no recovery door"))
}

#[expect(clippy::disallowed_methods, reason = "OpenSSH's client, as the person has set it up")]
fn command(session: &Session, door: &Door, through: bool, can_ask: bool) -> Result<Command, Failure> {
    let ssh = session.settings.ssh.clone().unwrap_or_else(|| "ssh".into());
    let mut command = Command::new(ssh);
    let mut option = |text: String| {
        command.args(["-o", &text]);
    };
    option("ConnectTimeout=15".to_owned());
    option("ForwardAgent=no".to_owned());
    option("RequestTTY=no".to_owned());
    if !can_ask {
        option("BatchMode=yes".to_owned());
    }
    if let Some(name) = &door.known_as {
        option(format!("HostKeyAlias={name}"));
    }
    if through {
        option(format!("ProxyCommand={}", proxy_command()?));
    }
    if let Some(port) = door.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["-l", &door.user, "--", &door.host, "identity"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// `allod connect %h %p`, as the shell that ssh gives it to reads it.
fn proxy_command() -> Result<String, Failure> {
    let own = std::env::current_exe().map(OsString::from);
    let own = own.map_err(|error| Failure::new(FaultCode::Internal, format!("its own binary: {error}")))?;
    let own = own.to_string_lossy().replace('%', "%%").replace('\'', "'\\''");
    // ssh puts exec before it.
    Ok(format!("'{own}' connect %h %p"))
}

fn unreachable(door: &Door, why: &str) -> Failure {
    Failure::new(FaultCode::Unreachable, format!("ssh {door} identity: {why}")).hint(
        "who a server is, is read over SSH at its recovery door (docs/guide.md, \"When nothing else works\"). \
         --recovery [USER@]HOST[:PORT] says where else; --identity SHA256:… compares with what you have already; \
         --without-recovery has you compare by eye",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_could_take_for_something_else_is_refused() {
        for bad in [
            "",
            "@web1",
            "-oProxyCommand=x",
            "ana@-web1",
            "-ana@web1",
            "web 1",
            "web1;id",
            "$(id)",
            "web1:0",
            "web1:x",
            "a@b@c",
        ] {
            assert!(bad.parse::<Door>().is_err(), "{bad}");
        }
        let door: Door = "web1".parse().unwrap();
        assert_eq!((door.user.as_str(), door.host.as_str(), door.port), ("allod-recovery", "web1", None));
        let door: Door = "ana@[fd7a:115c:a1e0::1]:2222".parse().unwrap();
        assert_eq!(
            (door.user.as_str(), door.host.as_str(), door.port),
            ("ana", "fd7a:115c:a1e0::1", Some(2222))
        );
        assert_eq!("fd7a::1".parse::<Door>().unwrap().host, "fd7a::1");
    }

    #[test]
    fn the_usual_door_is_at_the_address_that_was_checked_under_the_name_that_was_typed() {
        let checked = "100.64.0.7:9844".parse().unwrap();
        let door = Door::usual("web1", checked);
        assert_eq!((door.host.as_str(), door.known_as.as_deref()), ("100.64.0.7", Some("web1")));
        assert_eq!(Door::usual("100.64.0.7", checked).known_as, None);
    }

    #[test]
    fn only_a_line_that_names_an_identity_counts() {
        use std::os::unix::process::ExitStatusExt as _;
        let door: Door = "web1".parse().unwrap();
        let said = |code: i32, out: &str, err: &str| {
            let status = std::process::ExitStatus::from_raw(code << 8);
            read(&door, &Output { status, stdout: out.into(), stderr: err.into() })
        };
        let good = format!("SHA256:{}", "a".repeat(43));
        for bad in ["", "identity nonsense\n", "was        SHA256:x\n", &format!("Identity {good}\n")] {
            assert!(said(0, bad, "").is_err(), "{bad}");
        }
        let refused =
            said(255, &format!("identity   {good}\n"), "banner\nPermission denied (publickey).\n\n");
        assert!(refused.unwrap_err().fault.message.contains("Permission denied"));
        assert_eq!(said(0, &format!("motd\nidentity   {good}\n"), "").unwrap().as_str(), good);
    }
}
