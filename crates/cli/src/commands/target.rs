//! Which app, on which servers: from flags, else from the `allod.toml` here, else there is but one server.

use super::{completions, project::Project};
use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::{AppName, AppRef, EnvName, FaultCode, NameError};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use std::{path::Path, str::FromStr};

/// Flags that say which app.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// Which app; without it, the one whose allod.toml is in this folder
    #[arg(long, value_name = "APP[/ENV]", add = ArgValueCandidates::new(completions::app_names))]
    app: Option<AppWord>,
    /// Which environment: production if not given
    #[arg(long, value_name = "ENV")]
    env: Option<EnvName>,
}

/// `name` or `name/env`, as a person types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppWord {
    /// The app.
    pub name: AppName,
    /// Its environment, if it was said.
    pub env: Option<EnvName>,
}

impl FromStr for AppWord {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((name, env)) => Ok(Self { name: name.parse()?, env: Some(env.parse()?) }),
            None => Ok(Self { name: text.parse()?, env: None }),
        }
    }
}

/// An app and its servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Which app.
    pub app: AppRef,
    /// Where, at least one, each once.
    pub servers: Vec<Server>,
}

impl Which {
    /// For commands that take the app without a flag.
    #[must_use]
    pub fn new(app: Option<AppWord>, env: Option<EnvName>) -> Self {
        Self { app, env }
    }

    /// The app that was named, if one was.
    ///
    /// # Errors
    /// [`Failure`] when two environments were named.
    pub fn named(&self) -> Result<Option<AppRef>, Failure> {
        let Some(word) = &self.app else { return Ok(None) };
        let env = match (&word.env, &self.env) {
            (Some(a), Some(b)) if a != b => {
                return Err(Failure::usage(format!("which environment, {a} or {b}?")).hint("give it once"));
            }
            (Some(env), _) | (None, Some(env)) => env.clone(),
            (None, None) => EnvName::default(),
        };
        Ok(Some(AppRef::new(word.name.clone(), env)))
    }

    /// The app and its servers.
    ///
    /// # Errors
    /// [`Failure`] when it can't be told which app or which servers, with what there is.
    pub fn target(&self, session: &Session) -> Result<Target, Failure> {
        self.target_in(session, Path::new("."))
    }

    /// The same with another folder than the one the program was started in.
    ///
    /// # Errors
    /// As [`Which::target`].
    pub fn target_in(&self, session: &Session, folder: &Path) -> Result<Target, Failure> {
        if let Some(app) = self.named()? {
            // The file counts only if it speaks of this app; what is wrong with another's is not of interest here.
            let servers = if session.globals.server.is_empty() { here(folder, &app) } else { Vec::new() };
            return Ok(Target { app, servers: servers_of(session, &servers)? });
        }
        let env = self.env.clone().unwrap_or_default();
        let Some(project) = Project::find(session, folder, &env)? else {
            return Err(Failure::new(FaultCode::Invalid, "which app? There is no allod.toml in this folder")
                .hint("`--app NAME[/ENV]` says which; `allod status` shows the ones there are"));
        };
        let servers = servers_of(session, &project.resolved.servers)?;
        Ok(Target { app: project.resolved.spec.app, servers })
    }
}

impl Target {
    /// Its only server.
    ///
    /// # Errors
    /// [`Failure`] when there are several.
    pub fn only(&self) -> Result<&Server, Failure> {
        match self.servers.as_slice() {
            [only] => Ok(only),
            several => Err(Failure::usage(format!(
                "{} is on {}; this is about one of them",
                self.app,
                names(several)
            ))
            .hint("`--server NAME` says which")),
        }
    }
}

/// The servers that the file in this folder names for the app, if it is that app's.
fn here(folder: &Path, app: &AppRef) -> Vec<String> {
    let resolved = std::fs::read_to_string(folder.join(allod_appspec::FILE))
        .ok()
        .and_then(|text| allod_appspec::parse(&text).ok())
        .and_then(|written| written.resolve(&app.env).ok());
    resolved.filter(|resolved| resolved.spec.app == *app).map(|resolved| resolved.servers).unwrap_or_default()
}

/// The servers meant: named by `--server`, else these, else the only one there is.
///
/// # Errors
/// [`Failure`] when one is not known, or it can't be told which.
pub fn servers_of(session: &Session, written: &[String]) -> Result<Vec<Server>, Failure> {
    if !session.globals.server.is_empty() {
        return session.servers();
    }
    if written.is_empty() {
        return Ok(vec![session.one_server().map_err(|failure| {
            if failure.fault.code == FaultCode::Invalid {
                failure.hint("`--server NAME` says which, or servers = [\"NAME\"] in allod.toml")
            } else {
                failure
            }
        })?]);
    }
    written.iter().map(|name| session.server(name)).collect()
}

/// `web1, web2`.
#[must_use]
pub fn names(servers: &[Server]) -> String {
    servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
