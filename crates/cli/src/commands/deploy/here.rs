//! Commands of an app that run on this machine: in its folder, with their output on stderr and nothing on stdin, as a
//! process group of their own that ends with the deploy.

use crate::session::Session;
use allod_proto::AppRef;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{io, path::Path, process::Stdio, time::Duration};
use tokio::process::Command;

/// How long an interrupted command may take to end by itself.
const INTERRUPTED: Duration = Duration::from_secs(3);

/// Where and for what they run.
pub(super) struct Here<'h> {
    pub(super) session: &'h Session,
    pub(super) folder: &'h Path,
    pub(super) app: &'h AppRef,
    /// Names, with commas between them.
    pub(super) servers: String,
}

/// How one ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    /// As words: `exit status: 3`.
    Badly(String),
    /// A person pressed Ctrl-C.
    Interrupted,
}

/// Kills what is left of a group when the command is over, or nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // All of it may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs one to its end, or until its time is up.
pub(super) async fn run(here: &Here<'_>, argv: &[String], timeout: Option<Duration>) -> io::Result<Ended> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(Ended::Well) };
    // A program of the folder is meant from the folder, wherever this command was started.
    let program = match program.contains('/') {
        true => std::path::absolute(here.folder.join(program)).unwrap_or_else(|_| program.into()),
        false => program.into(),
    };
    let mut command = Command::new(program);
    // stdout is for the result of the deploy.
    command.args(arguments).current_dir(here.folder).stdin(Stdio::null()).stdout(io::stderr());
    command.env("ALLOD_APP", here.app.name.as_str()).env("ALLOD_ENV", here.app.env.as_str());
    command.env("ALLOD_SERVERS", &here.servers).process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let _group = Group(group);
    let late = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let status = tokio::select! {
        status = child.wait() => status?,
        () = late => {
            return Ok(Ended::Badly(format!("it took longer than {:?}", timeout.unwrap_or_default())));
        }
        // In a group of its own, it does not hear the terminal's Ctrl-C by itself.
        () = here.session.interrupted() => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::INT);
            }
            let _ = tokio::time::timeout(INTERRUPTED, child.wait()).await;
            return Ok(Ended::Interrupted);
        }
    };
    Ok(if status.success() { Ended::Well } else { Ended::Badly(status.to_string()) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        arguments::Globals,
        output::{Output, Surroundings},
        settings::Settings,
    };
    use std::sync::Arc;

    /// A folder with a file `here`.
    pub(in crate::commands::deploy) struct Stage {
        session: Session,
        folder: tempfile::TempDir,
        app: AppRef,
    }

    impl Stage {
        pub(in crate::commands::deploy) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let settings =
                Settings::from_lookup(|name| (name == "ALLOD_HOME").then(|| folder.path().into())).unwrap();
            let quiet = || Box::new(std::io::sink());
            let output = Output::to(false, Surroundings::default(), quiet(), quiet());
            let session = Session::new(settings, Globals::default(), Arc::new(output));
            std::fs::write(folder.path().join("here"), "").unwrap();
            Self { session, folder, app: "shop/staging".parse().unwrap() }
        }

        pub(in crate::commands::deploy) fn here(&self) -> Here<'_> {
            let servers = "web1,web2".to_owned();
            Here { session: &self.session, folder: self.folder.path(), app: &self.app, servers }
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.folder.path().join(name)).unwrap()
        }
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).into()
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed_with_all_it_started() {
        let stage = Stage::new();
        let script = "sleep 1000 & echo $! > told; wait";
        let ended = run(&stage.here(), &shell(script), Some(Duration::from_millis(1500))).await.unwrap();
        assert_eq!(ended, Ended::Badly("it took longer than 1.5s".to_owned()));
        let grandchild = Pid::from_raw(stage.read("told").trim().parse().unwrap()).unwrap();
        // Killed at once, and gone when the machine's first process has collected it.
        for _ in 0..1000 {
            if is_dead(grandchild) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("what it started lives on");
    }

    fn is_dead(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }

    #[tokio::test]
    async fn it_is_told_what_is_deployed_where() {
        let stage = Stage::new();
        let script = "echo $ALLOD_APP $ALLOD_ENV $ALLOD_SERVERS > told";
        assert_eq!(run(&stage.here(), &shell(script), None).await.unwrap(), Ended::Well);
        assert_eq!(stage.read("told"), "shop staging web1,web2\n");
    }
}
