//! `allod completions`: the script that a shell reads. Completion itself asks this program, so that it knows the
//! servers and apps there are.

use crate::{
    failure::Failure, inventory::Inventory, known::KnownServers, session::Session, settings::Settings,
};
use clap::{Args, ValueEnum};
use clap_complete::engine::CompletionCandidate;

/// `allod completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod completions bash >> ~/.bashrc\n  allod completions fish > ~/.config/fish/completions/allod.fish"
)]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

/// The shells that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// The variable by which a shell asks for completions.
pub const VARIABLE: &str = "ALLOD_COMPLETE";

/// Runs it.
///
/// # Errors
/// [`Failure`] when stdout can't be written.
pub fn run(session: &Session, completions: &Completions) -> Result<(), Failure> {
    let line = match completions.shell {
        Shell::Bash => format!("source <({VARIABLE}=bash allod)"),
        Shell::Zsh => format!("source <({VARIABLE}=zsh allod)"),
        Shell::Fish => format!("{VARIABLE}=fish allod | source"),
    };
    session.output.document(&serde_json::json!({ "script": line }), |_| format!("{line}\n"))
}

/// The servers there are.
#[must_use]
pub fn server_names() -> Vec<CompletionCandidate> {
    let Ok(settings) = Settings::from_environment() else { return Vec::new() };
    let servers =
        Inventory::load(&settings.config).map(|inventory| inventory.servers().to_vec()).unwrap_or_default();
    servers.into_iter().map(|server| CompletionCandidate::new(server.name)).collect()
}

/// The apps that were seen on the servers there are.
#[must_use]
pub fn app_names() -> Vec<CompletionCandidate> {
    let Ok(settings) = Settings::from_environment() else { return Vec::new() };
    let Ok(inventory) = Inventory::load(&settings.config) else { return Vec::new() };
    let known = KnownServers::new(&settings.state);
    let mut apps: Vec<_> = inventory
        .servers()
        .iter()
        .filter_map(|server| known.load(&server.identity).ok())
        .flat_map(|known| known.apps)
        .map(|app| app.to_string())
        .collect();
    apps.sort();
    apps.dedup();
    apps.into_iter().map(CompletionCandidate::new).collect()
}
