//! `allod join`: a place on a mesh for the person who types here, kept by a node of their own that is started when a command needs it.

use crate::{
    failure::Failure,
    mesh::{self, MeshPlace, NodeFolders},
    render::safe,
    session::Session,
    settings::Settings,
};
use allod_mesh::{Mesh as _, MeshStatus};
use allod_proto::FaultCode;
use clap::Args;
use std::{path::PathBuf, time::Duration};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long the coordinator may take to let the machine in; a person may take longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest run folder; what stands after it in a socket's path must fit.
const LONGEST_RUN: usize = 80;

/// `allod join`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod hub keys create | ssh laptop allod join -\n  \
    allod join --headscale https://headscale.example --auth-key-file key\n  \
    allod join --headscale https://headscale.lan --authorities ca.pem")]
pub struct Join {
    /// The token that `allod hub keys create` printed, or - to read it from standard input
    #[arg(value_name = "TOKEN|-", required_unless_present = "coordinator", conflicts_with = "coordinator")]
    token: Option<String>,
    /// A coordinator without a token, by https: a Headscale, or one where somebody approves this machine
    #[arg(long, visible_alias = "headscale", value_name = "URL")]
    coordinator: Option<String>,
    /// The file with the key that lets it in there
    #[arg(long, value_name = "FILE", requires = "coordinator")]
    auth_key_file: Option<PathBuf>,
    /// The certificate authorities (PEM) that are believed there, instead of the system's
    #[arg(long, value_name = "FILE", requires = "coordinator")]
    authorities: Option<PathBuf>,
    /// What this machine is called on the mesh; otherwise its host name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Runs it. What did not succeed leaves no place behind; a machine that waits for approval keeps waiting, and can be asked for again.
///
/// # Errors
/// [`Failure`] when there is a place already, the token is none, or the coordinator does not let it in.
pub async fn run(session: &Session, join: Join) -> Result<(), Failure> {
    let settings = &session.settings;
    if let Some(place) = MeshPlace::load(settings)? {
        let message = format!("this machine has a place on a mesh already: {}", place.socket.display());
        return Err(Failure::new(FaultCode::Conflict, message)
            .hint("`allod mesh` shows it, `allod leave` gives it up"));
    }
    let place = place_of(settings)?;
    let Some(folders) = &place.start else { return Err(Failure::usage("no folders")) };
    let (words, input) = words(&join)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    mesh::start(folders, &place.socket, &words, input.as_ref().map(|input| input.as_str())).await?;
    let node = mesh::node_at(place.socket.clone()).await?;
    let mut statuses = node.watch();
    let settled = timeout(PATIENCE, statuses.wait_for(|status| status.up || is_refused(status))).await;
    let status = match settled {
        Ok(Ok(status)) => status.clone(),
        Ok(Err(_)) | Err(_) => node.watch().borrow().clone(),
    };
    if status.up || waits_for_a_person(&status) {
        let saved = place.save(&settings.state);
        saved.map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))?;
        return tell(session, &status);
    }
    // The next try begins anew, and must not find this one's node.
    drop(node);
    super::leave::end(&place.socket).await?;
    let _ = std::fs::remove_dir_all(folders.state.join("node"));
    Err(in_vain(&status))
}

/// Where this person's node has its folders.
fn place_of(settings: &Settings) -> Result<MeshPlace, Failure> {
    let state = settings.state.join("mesh");
    let run = state.join("run");
    if run.as_os_str().len() > LONGEST_RUN {
        let message = format!("{} is too long for a socket below it", run.display());
        return Err(
            Failure::new(FaultCode::Invalid, message).hint("set ALLOD_HOME to a folder with a shorter path")
        );
    }
    let socket = run.join(allod_proto::node::SOCKET);
    Ok(MeshPlace { socket, start: Some(NodeFolders { state, run }) })
}

/// What the node is started with, and what it reads from its standard input.
fn words(join: &Join) -> Result<(Vec<String>, Option<Zeroizing<String>>), Failure> {
    let mut words = Vec::new();
    let mut input = None;
    if let Some(name) = &join.name {
        words.extend(["--hostname".to_owned(), name.clone()]);
    }
    match (&join.token, &join.coordinator) {
        (Some(token), _) => {
            words.extend(["--join".to_owned(), "-".to_owned()]);
            let token = if token == "-" {
                mesh::read_token(std::io::stdin(), "standard input")?
            } else {
                Zeroizing::new(token.clone())
            };
            input = Some(token);
        }
        (None, Some(url)) => {
            words.extend(["--coordinator".to_owned(), url.clone()]);
            if let Some(file) = &join.authorities {
                // A mistake is said here rather than in the node's log.
                mesh::read_authorities(file)?;
                let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                words.extend(["--authorities".to_owned(), file.to_string_lossy().into_owned()]);
            }
            if let Some(file) = &join.auth_key_file {
                let named = |error: std::io::Error| Failure::usage(format!("{}: {error}", file.display()));
                words.extend(["--auth-key".to_owned(), "-".to_owned()]);
                input = Some(mesh::read_token(
                    std::fs::File::open(file).map_err(named)?,
                    &file.display().to_string(),
                )?);
            }
        }
        (None, None) => return Err(Failure::usage("give a token, or --coordinator URL")),
    }
    Ok((words, input))
}

fn is_refused(status: &MeshStatus) -> bool {
    use allod_mesh::Trouble;
    status
        .troubles
        .iter()
        .any(|trouble| matches!(trouble, Trouble::RefusedThere { .. } | Trouble::NodeExpired))
}

fn waits_for_a_person(status: &MeshStatus) -> bool {
    use allod_mesh::Trouble;
    let waits = |trouble: &Trouble| matches!(trouble, Trouble::LogIn { .. } | Trouble::NeedsApproval);
    status.troubles.iter().any(waits)
}

fn in_vain(status: &MeshStatus) -> Failure {
    let troubles: Vec<String> = status.troubles.iter().map(ToString::to_string).collect();
    let hint = status.troubles.first().map(allod_mesh::Trouble::fix);
    let failure = Failure::new(FaultCode::Refused, format!("not on the mesh: {}", troubles.join("; ")));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn tell(session: &Session, status: &MeshStatus) -> Result<(), Failure> {
    let troubles: Vec<String> =
        status.troubles.iter().map(|trouble| format!("{trouble}: {}", trouble.fix())).collect();
    let document = serde_json::json!({
        "up": status.up, "name": status.name, "addresses": status.addresses, "waits_for": troubles,
    });
    session.output.document(&document, |style| {
        if status.up {
            let addresses: Vec<_> = status.addresses.iter().map(ToString::to_string).collect();
            let name = status.name.as_deref().unwrap_or("this machine");
            return format!("{} {} is on the mesh: {}\n", style.good("✓"), safe(name), addresses.join(", "));
        }
        let waits: String = troubles.iter().map(|why| format!("  {}\n", safe(why))).collect();
        format!("{} not on the mesh yet\n{waits}", style.warn("!"))
    })
}
