//! The command line: global flags, and one variant a command. Each command's own flags stand in its file.

use crate::commands::{
    app, audit, can, commands, completions, connect, deploy, doctor, forward, gate, init, join, keys, leave,
    login, logout, logs, mesh, ops, releases, restart, rollback, run, runs, scale, secrets, serve, servers,
    socks, start, status, stop,
};
use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use std::path::PathBuf;

/// Runs the servers you own.
#[derive(Debug, Parser)]
#[command(
    name = "allod",
    version,
    about = "Runs the servers you own",
    max_term_width = 100,
    disable_help_subcommand = false,
    arg_required_else_help = true,
    after_help = "Example:\n  allod servers add 100.64.0.7 --name web1\n  allod servers status"
)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Verb,
}

/// What holds for every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Print one JSON document (streams: one JSON value a line) and nothing else on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Answer yes to every confirmation
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
    /// Which server; may be given more than once where several make sense
    #[arg(long, value_name = "NAME", global = true, add = ArgValueCandidates::new(completions::server_names))]
    pub server: Vec<String>,
    /// The key to sign with: a private key file, or a public one whose other half ssh-agent holds
    #[arg(id = "signing_key", long = "key", value_name = "FILE", global = true)]
    pub key: Option<PathBuf>,
    /// No colours, and nothing drawn over
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Read a key's passphrase from this file descriptor
    #[arg(long, value_name = "N", global = true)]
    pub passphrase_fd: Option<u32>,
    /// Say where it connects to and which keys may sign
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Look at this folder and write a commented allod.toml
    Init(init::Init),
    /// Bring what is in this folder to its servers, without dropping a request
    Deploy(deploy::Deploy),
    /// How an app stands on its servers; outside an app's folder, all apps on all servers
    Status(status::Status),
    /// An app's lines, from all its servers in the order of time
    Logs(logs::Logs),
    /// Back to the release that served before
    Rollback(rollback::Rollback),
    /// The releases there are to roll back to
    Releases(releases::Releases),
    /// Run this many copies of a unit
    Scale(scale::Scale),
    /// Bring a stopped app back
    Start(start::Start),
    /// Stop an app until `allod start`; its routes answer 503
    Stop(stop::Stop),
    /// Replace every copy by rolling, with the newest secrets
    Restart(restart::Restart),
    /// An app's secrets: set, list, rm, import, export
    Secrets(secrets::Secrets),
    /// An app as a whole: remove
    App(app::App),
    /// The servers you know: add, list, remove, status, trust
    Servers(servers::Servers),
    /// Who may call a server: list, add, revoke, rotate
    Keys(keys::Keys),
    /// Show exactly what a key may do on a server
    Can(can::Can),
    /// Named commands.
    #[command(flatten)]
    Named(NamedVerb),
    /// Sign once, and let a fresh key sign for a while: for keys that want a finger each time
    Login(login::Login),
    /// End every login of this machine
    Logout(logout::Logout),
    /// A server's record of everything that was asked of it
    Audit(audit::Audit),
    /// Long operations: list, attach, cancel
    Ops(ops::Ops),
    /// The mesh and what leads there.
    #[command(flatten)]
    OnMesh(MeshVerb),
    /// Look for what is wrong, here and on the servers; each finding has a fix
    Doctor(doctor::Doctor),
    /// Print the completion script of a shell
    Completions(completions::Completions),
    /// Run a server's programs and a hub here, as separate processes, until Ctrl-C
    #[cfg(target_os = "linux")]
    Up(crate::up::Up),
    /// A small web app to deploy, for trying things out
    #[cfg(unix)]
    #[command(hide = true)]
    ExampleApp(crate::example::ExampleApp),
}

/// The commands about named commands.
#[derive(Debug, Subcommand)]
pub enum NamedVerb {
    /// Run a named command on a server, with its output live and its exit code
    Run(run::Run),
    /// Runs of named commands: list, attach, cancel
    Runs(runs::Runs),
    /// Named commands: list, add, rm, lint, diff, history, approve, examples
    Commands(commands::Commands),
    /// All callers at once: panic, resume; on a server, the ssh door: install, remove, doctor, run
    Gate(gate::Gate),
}

/// The commands about the mesh.
#[derive(Debug, Subcommand)]
pub enum MeshVerb {
    /// Bring this machine onto a mesh, for the commands below and everything else
    Join(join::Join),
    /// Leave the mesh
    Leave(leave::Leave),
    /// How this machine is on the mesh, who else is there, and how each is reached
    Mesh(mesh::Mesh),
    /// Standard input and output as a connection over the mesh: for ssh's ProxyCommand
    Connect(connect::Connect),
    /// Ports of this machine that lead to machines on the mesh
    Forward(forward::Forward),
    /// A SOCKS5 proxy on this machine that leads to the mesh
    Socks(socks::Socks),
    /// A port of this machine for others on the mesh
    Serve(serve::Serve),
}
