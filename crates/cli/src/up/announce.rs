//! What `allod up` says: first where everything is and how to talk to it, then what happens to the programs.

use super::{
    launcher::Launcher,
    network::{Entry, Network, Reach},
    owner::Owner,
    places::Places,
    program::Program,
    supervisor::{Event, Supervisor},
    users::Users,
};
use crate::{
    output::Output,
    render::{style::Style, text::safe},
};
use allod_proto::Fingerprint;
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Where everything is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Announcement {
    ok: bool,
    event: &'static str,
    /// The server's name in the client's inventory.
    server: String,
    /// Its identity.
    identity: Fingerprint,
    /// `ADDRESS:PORT` of the management API.
    management: String,
    /// Where visitors go.
    http: String,
    /// The hub's status page.
    hub: Option<String>,
    /// Which mesh it is.
    mesh: String,
    /// Its coordinator, where that is here.
    coordinator: Option<String>,
    /// The state folder.
    state: PathBuf,
    /// Where the programs' sockets are: what `allod recover --run` wants.
    run: PathBuf,
    /// Whether it goes at the end.
    temporary: bool,
    /// `ALLOD_HOME` of a client that knows this server.
    home: PathBuf,
    /// The owner's key.
    key: PathBuf,
    /// Process ids.
    pids: BTreeMap<&'static str, u32>,
    /// Whether each program has a user of its own.
    own_users: bool,
    /// Why not.
    why_one_user: Option<String>,
    /// What to type.
    command: String,
}

impl Announcement {
    /// How things stand now.
    pub(super) fn of(
        places: &Places,
        owner: &Owner,
        supervisor: &Supervisor<Launcher>,
        identity: Fingerprint,
        reach: &Reach,
    ) -> Self {
        let launcher = supervisor.launcher();
        let why_one_user = match &launcher.staff.users {
            Users::One { why } => Some(why.clone()),
            Users::Own { .. } => None,
        };
        Self {
            ok: true,
            event: "ready",
            server: launcher.name.clone(),
            identity,
            management: reach.management.to_string(),
            http: format!("http://127.0.0.1:{}/", launcher.ports.http),
            hub: reach.hub.map(|hub| format!("http://{hub}/")),
            mesh: match &launcher.network {
                Network::Loopback => "this machine's loopback interface".to_owned(),
                Network::Tailscaled(_) => "that of this machine's tailscaled".to_owned(),
                Network::Own(own) => match own.coordinator {
                    Some(_) => "one of its own".to_owned(),
                    None => match &own.entry {
                        Entry::Server(server) => format!("that of {}", server.url),
                        Entry::Own | Entry::Token(_) => "that of a hub elsewhere".to_owned(),
                    },
                },
            },
            coordinator: match &launcher.network {
                Network::Own(own) => own.coordinator.map(|at| format!("http://{at}")),
                Network::Loopback | Network::Tailscaled(_) => None,
            },
            state: places.state().to_owned(),
            run: places.run().to_owned(),
            temporary: places.is_temporary(),
            home: places.client(),
            key: owner.key.clone(),
            pids: supervisor.running().into_iter().map(|(program, pid)| (program.word(), pid)).collect(),
            own_users: why_one_user.is_none(),
            why_one_user,
            command: format!(
                "ALLOD_HOME={} allod servers status",
                quoted(&places.client().to_string_lossy())
            ),
        }
    }

    /// For people.
    pub(super) fn text(&self, style: Style) -> String {
        let users = match &self.why_one_user {
            None => "each program has its own".to_owned(),
            Some(why) => format!("one for all programs and apps ({why})"),
        };
        let kept = if self.temporary { " (removed at the end)" } else { "" };
        let mesh = match &self.coordinator {
            None => self.mesh.clone(),
            Some(url) => format!("{}; its coordinator is {url}", self.mesh),
        };
        let rows = [
            ("server", format!("{}, {}", self.server, self.identity)),
            ("visitors", self.http.clone()),
            ("mesh", mesh),
            ("hub", self.hub.clone().unwrap_or_else(|| "none that is known".to_owned())),
            ("manage", format!("{} (signed)", self.management)),
            ("state", format!("{}{kept}", self.state.display())),
            ("key", self.key.display().to_string()),
            ("users", users),
        ];
        let programs: Vec<&str> = self.pids.keys().copied().collect();
        let mut text = format!("{} {} run\n", style.good("✓"), programs.join(", "));
        for (name, value) in rows {
            text.push_str(&format!("  {} {}\n", style.dim(&format!("{name:<9}")), safe(&value)));
        }
        text.push_str(&format!("Talk to it:\n  {}\nCtrl-C stops everything.\n", safe(&self.command)));
        text
    }
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Says what happens: notes for people, one object a line for programs.
#[derive(Clone)]
pub(super) struct Teller {
    output: Arc<Output>,
}

impl Teller {
    /// On this output.
    pub(super) fn new(output: Arc<Output>) -> Self {
        Self { output }
    }

    /// Something happened to a program. The first starts are not worth a line.
    pub(super) fn tell(&self, event: &Event) {
        match event {
            Event::Started { program, pid, again } => {
                let value =
                    json!({"event": "started", "program": program.word(), "pid": pid, "again": again});
                let line = again.then(|| format!("{program} runs again, as process {pid}"));
                self.say(value, line);
            }
            Event::Ended { program, how, again_in } => {
                let wait = again_in.as_millis();
                let value = json!({"event": "ended", "program": program.word(), "how": how, "again_in_ms": u64::try_from(wait).unwrap_or(u64::MAX)});
                self.say(value, Some(format!("{program} ended with {how}; starting it again in {wait} ms")));
            }
            Event::CouldNotStart { program, why, again_in } => {
                let value = json!({"event": "could_not_start", "program": program.word(), "why": why});
                let wait = again_in.as_millis();
                self.say(
                    value,
                    Some(format!("{program} can't be started ({why}); trying again in {wait} ms")),
                );
            }
            Event::Replaced { program, pid, retiring } => {
                let value =
                    json!({"event": "replaced", "program": program.word(), "pid": pid, "retiring": retiring});
                let line =
                    format!("{program} is process {pid} now; the old one serves to its end what it has");
                self.say(value, Some(line));
            }
            Event::NotReplaced { program, why } => {
                let value = json!({"event": "not_replaced", "program": program.word(), "why": why});
                self.say(value, Some(format!("{program} is NOT replaced ({why}); the old one goes on")));
            }
            Event::Retired { program, how } => {
                let value = json!({"event": "retired", "program": program.word(), "how": how});
                self.say(value, Some(format!("the old {program} has ended with {how}")));
            }
            Event::Stopping { program } => self.about("stopping", *program, "stopping"),
            Event::Killed { program } => self.about("killed", *program, "did not end in time, killed"),
        }
    }

    fn about(&self, event: &str, program: Program, words: &str) {
        let value = json!({"event": event, "program": program.word()});
        self.say(value, Some(format!("{words}: {}", program.with_what_ends_with_it())));
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        if !self.output.is_json() {
            self.output.note("stopping everything; Ctrl-C again kills");
        }
    }

    /// Processes that nobody stopped were found and killed.
    pub(super) fn left_over(&self, count: usize) {
        if count > 0 {
            self.say(
                json!({"event": "left_over", "processes": count}),
                Some(format!("killed {count} processes that were left")),
            );
        }
    }

    fn say(&self, value: Value, line: Option<String>) {
        if self.output.is_json() {
            // When nobody reads any more, the programs still need looking after.
            let _ = self.output.print(&format!("{value}\n"));
        } else if let Some(line) = line {
            self.output.note(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_type_survives_any_folder_name() {
        assert_eq!(quoted("/home/me/state"), "/home/me/state");
        assert_eq!(quoted("/home/my name"), "'/home/my name'");
        assert_eq!(quoted("a'b; rm"), "'a'\\''b; rm'");
    }
}
