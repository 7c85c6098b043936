//! The `allod.toml` that `init` writes: what was detected in it as values, what else there is in it as comments.

use allod_proto::AppName;
use std::fmt::Write as _;

/// What was found in an app's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The app's name, from the folder's or the project's.
    pub name: AppName,
    /// What it was told by, for people: `Node (package.json)`.
    pub what: String,
    /// Its unit.
    pub unit: DetectedUnit,
    /// What builds it here, before the upload.
    pub build: Option<Vec<String>>,
    /// What is uploaded, where it is not the whole folder.
    pub folder: Option<String>,
    /// Variables it needs to run at all.
    pub vars: Vec<(String, String)>,
    /// Lines for the person to read, as comments at the top.
    pub notes: Vec<String>,
}

/// The unit that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectedUnit {
    /// A program.
    Process {
        /// How it is started.
        start: Vec<String>,
        /// What must be on the server: `node@22`.
        runtime: Option<String>,
    },
    /// A folder of files.
    Static {
        /// The folder; empty for the whole.
        root: String,
    },
}

const ALL_UNITS: &str = r#"# Another unit of the same app, without routes: a worker.
# [units.worker]
# start = ["node", "worker.js"]
# health = { running = "5s" }

# What is different elsewhere: allod deploy --env staging
# [env.staging]
# servers = ["web2"]
# [env.staging.units.UNIT]
# routes = ["staging.example.com"]
"#;

const PROCESS: &str = r#"# The app listens on the address in HOST and PORT. A 2xx answer here means it is healthy.
# Also: { tcp = true }, { command = ["./check"] }, { ready = true } (sd_notify), { running = "5s" }
health = "/"
# instances = 2             # copies per server
# health_timeout = "30s"    # to become healthy
# drain = "30s"             # for requests in flight to an old copy
# stop_grace = "10s"        # between SIGTERM and SIGKILL
# max_body = "128MB"        # largest request
# response_timeout = "60s"
# memory = "512MB"          # per copy
"#;

const TOP: &str = r#"# servers = ["web1"]       # names from: allod servers list
# keep_releases = 5         # for allod rollback
# release = ["./migrate"]  # runs once per deploy, before anything new starts
"#;

const VARS: &str = r#"
# Environment variables of every unit.
[vars]
# LOG = "info"
"#;

const SECRETS: &str = r#"
# Secrets it needs, set with: allod secrets set NAME
# "descriptor": JSON on the descriptor that ALLOD_SECRETS_FD names; "environment": a variable.
[secrets]
# DATABASE_URL = "descriptor"
"#;

/// The commented file for what was detected. It parses without complaint.
#[must_use]
pub fn document(detected: &Detected) -> String {
    let mut text = format!("# How this app is deployed. Detected: {}.\n", one_line(&detected.what));
    for note in &detected.notes {
        put(&mut text, format_args!("# {}\n", one_line(note)));
    }
    put(&mut text, format_args!("\nname = {}\n", quoted(detected.name.as_str())));
    match &detected.build {
        Some(build) => {
            put(&mut text, format_args!("build = {}  # runs here, before the upload\n", list(build)))
        }
        None => text.push_str("# build = [\"make\"]         # runs here, before the upload\n"),
    }
    match &detected.folder {
        Some(folder) => put(&mut text, format_args!("folder = {}  # what is uploaded\n", quoted(folder))),
        None => text.push_str("# folder = \".\"             # what is uploaded\n"),
    }
    text.push_str(TOP);
    text.push_str(VARS);
    for (name, value) in &detected.vars {
        put(&mut text, format_args!("{name} = {}\n", quoted(value)));
    }
    text.push_str(SECRETS);
    let route = format!("{}.example.com", detected.name);
    match &detected.unit {
        DetectedUnit::Process { start, runtime } => {
            put(&mut text, format_args!("\n[units.web]\nstart = {}\n", list(start)));
            if let Some(runtime) = runtime {
                put(
                    &mut text,
                    format_args!(
                        "runtime = {}  # checked on the server before the upload\n",
                        quoted(runtime)
                    ),
                );
            }
            put(
                &mut text,
                format_args!("routes = [{}]  # host, host/path, *.host or /path\n", quoted(&route)),
            );
            text.push_str(PROCESS);
        }
        DetectedUnit::Static { root } => {
            put(&mut text, format_args!("\n[units.site]\ntype = \"static\"\nroot = {}\n", quoted(root)));
            put(
                &mut text,
                format_args!("routes = [{}]  # host, host/path, *.host or /path\n", quoted(&route)),
            );
            text.push_str("# fallback = \"index.html\"  # answers paths that are not there\n");
        }
    }
    let unit = if matches!(detected.unit, DetectedUnit::Process { .. }) { "web" } else { "site" };
    text.push('\n');
    text.push_str(&ALL_UNITS.replace("UNIT", unit));
    text
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = text.write_fmt(arguments);
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}
