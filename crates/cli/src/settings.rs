//! What the client takes from its environment, read once. Nothing else in this crate reads it.

use allod_mesh::MeshKind;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where the client's files are and what its surroundings want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where `servers.toml` is.
    pub config: PathBuf,
    /// What is remembered of servers between runs.
    pub state: PathBuf,
    /// What may be deleted at any time.
    pub cache: PathBuf,
    /// The person's home folder, for `~/.ssh`.
    pub home: Option<PathBuf>,
    /// The socket of a running ssh-agent.
    pub agent_socket: Option<PathBuf>,
    /// `NO_COLOR` is set, or the terminal is `dumb`.
    pub no_color: bool,
    /// `CI` is set: nobody can be asked, and nothing is drawn over.
    pub ci: bool,
    /// How this machine is on the mesh: `ALLOD_MESH`, otherwise `auto`.
    pub mesh: MeshKind,
    /// The socket of tailscaled or of the node, if it isn't at its usual place: `ALLOD_MESH_SOCKET`.
    pub mesh_socket: Option<PathBuf>,
    /// The ssh to use, if it isn't the one on the path: `ALLOD_SSH`.
    pub ssh: Option<PathBuf>,
}

/// The folders can't be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Neither is set.
    #[error("there is no home folder: HOME isn't set, and neither is ALLOD_HOME")]
    NoHome,
    /// A relative folder would depend on where the program is run.
    #[error("ALLOD_HOME is {0:?}, which is not an absolute path")]
    Relative(PathBuf),
    /// A word that names no mesh.
    #[error("ALLOD_MESH: {0}")]
    Mesh(#[from] allod_mesh::ChoiceError),
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`SettingsError`] when the folders can't be told.
    pub fn from_environment() -> Result<Self, SettingsError> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// The same from any lookup of variables.
    ///
    /// # Errors
    /// [`SettingsError`] when the folders can't be told.
    pub fn from_lookup(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let home = path("HOME").filter(|home| home.is_absolute());
        let (config, state, cache) = match path("ALLOD_HOME") {
            Some(all) if all.is_absolute() => (all.clone(), all.join("state"), all.join("cache")),
            Some(all) => return Err(SettingsError::Relative(all)),
            None => {
                // The XDG specification has relative paths ignored.
                let folder = |name: &str, default: &str| {
                    let given = path(name).filter(|given| given.is_absolute());
                    let given = given.or_else(|| home.as_deref().map(|home: &Path| home.join(default)));
                    given.map(|given| given.join("allod")).ok_or(SettingsError::NoHome)
                };
                (
                    folder("XDG_CONFIG_HOME", ".config")?,
                    folder("XDG_STATE_HOME", ".local/state")?,
                    folder("XDG_CACHE_HOME", ".cache")?,
                )
            }
        };
        let mesh = set("ALLOD_MESH").map(|word| word.to_string_lossy().parse()).transpose()?;
        Ok(Self {
            config,
            state,
            cache,
            home,
            agent_socket: path("SSH_AUTH_SOCK"),
            no_color: set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb"),
            ci: set("CI").is_some_and(|ci| ci != "false" && ci != "0"),
            mesh: mesh.unwrap_or(MeshKind::Auto),
            mesh_socket: path("ALLOD_MESH_SOCKET"),
            ssh: path("ALLOD_SSH"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_lookup(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
    }

    #[test]
    fn without_any_home_nothing_is_guessed() {
        assert_eq!(of(&[]), Err(SettingsError::NoHome));
        assert_eq!(of(&[("HOME", "relative")]), Err(SettingsError::NoHome));
    }

    #[test]
    fn a_relative_allod_home_is_refused() {
        assert!(matches!(of(&[("ALLOD_HOME", "x"), ("HOME", "/h")]), Err(SettingsError::Relative(_))));
    }

    #[test]
    fn a_word_that_names_no_mesh_is_refused() {
        assert!(matches!(of(&[("HOME", "/h"), ("ALLOD_MESH", "tailscale")]), Err(SettingsError::Mesh(_))));
        assert_eq!(of(&[("HOME", "/h"), ("ALLOD_MESH", "tailscaled")]).unwrap().mesh, MeshKind::Tailscaled);
        assert_eq!(of(&[("HOME", "/h")]).unwrap().mesh, MeshKind::Auto);
    }

    #[test]
    fn allod_home_holds_everything() {
        let settings = of(&[("ALLOD_HOME", "/a"), ("XDG_CONFIG_HOME", "/c")]).unwrap();
        assert_eq!(settings.config, Path::new("/a"));
        assert_eq!(settings.state, Path::new("/a/state"));
    }

    #[test]
    fn relative_xdg_folders_are_ignored() {
        let settings = of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", "/s")]).unwrap();
        assert_eq!(settings.config, Path::new("/h/.config/allod"));
        assert_eq!(settings.state, Path::new("/s/allod"));
    }

    #[test]
    fn an_empty_no_color_is_not_set() {
        assert!(!of(&[("HOME", "/h"), ("NO_COLOR", "")]).unwrap().no_color);
        assert!(of(&[("HOME", "/h"), ("NO_COLOR", "1")]).unwrap().no_color);
        assert!(!of(&[("HOME", "/h"), ("CI", "false")]).unwrap().ci);
    }
}
