//! `allod leave`: gives up this person's place on the mesh. The hub still knows the machine until somebody deletes it there.

use crate::{failure::Failure, mesh::MeshPlace, session::Session};
use allod_proto::FaultCode;
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use std::{path::Path, time::Duration};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

/// How long the node may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(50);

/// `allod leave`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod leave")]
pub struct Leave {}

/// Runs it.
///
/// # Errors
/// [`Failure`] when there is no place, it isn't this person's to give up, or its folder can't be removed.
pub async fn run(session: &Session, _: Leave) -> Result<(), Failure> {
    let none = || Failure::new(FaultCode::NotFound, "this machine has no place on a mesh");
    let place = MeshPlace::load(&session.settings)?.ok_or_else(none)?;
    let Some(folders) = &place.start else {
        let message = "this place on the mesh belongs to an `allod up`";
        return Err(Failure::new(FaultCode::Conflict, message).hint("it goes with its state folder"));
    };
    session.confirm("Leave the mesh? Another token is needed to come back.")?;
    end(&place.socket).await?;
    MeshPlace::remove(&session.settings)?;
    match std::fs::remove_dir_all(&folders.state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("{} can't be removed: {error}", folders.state.display());
            return Err(Failure::new(FaultCode::Internal, message));
        }
        Ok(()) | Err(_) => {}
    }
    session.output.document(&serde_json::json!({ "left": true }), |style| {
        format!(
            "{} off the mesh; `allod hub nodes delete NAME` on the hub makes it forget this machine\n",
            style.good("✓")
        )
    })
}

/// Ends the node behind this socket.
///
/// # Errors
/// [`Failure`] when it doesn't end.
pub(super) async fn end(socket: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = false;
    while let Ok(stream) = UnixStream::connect(socket).await {
        let pid = stream.peer_cred().ok().and_then(|who| who.pid()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !asked) {
            // It may have ended this moment.
            asked = kill_process(pid, Signal::TERM).is_ok();
        }
        if Instant::now() > deadline {
            return Err(Failure::new(FaultCode::Timeout, "the node does not end")
                .hint("end `allod node` by hand, then again"));
        }
        sleep(BETWEEN).await;
    }
    Ok(())
}
