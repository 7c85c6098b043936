//! Where everything lies: one method per place, so that no path is put together anywhere else. Every folder that a
//! privileged program writes in has root-owned folders above it.

use allod_proto::{AppRef, Digest, InstanceId, NamedCommandName, ReleaseId};
use allod_store::{StoreError, create_folder, sync_folder};
use std::path::{Path, PathBuf};

/// How many hexadecimal digits of a digest name an artefact's folder.
const ARTEFACT_DIGITS: usize = 16;

/// The folders of one server: lasting state below one root, sockets below another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    run: PathBuf,
    commands: PathBuf,
}

impl Layout {
    /// State below `root`, sockets below `run`. Nothing is made.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        let root: PathBuf = root.into();
        Self { commands: root.join("commands.d"), root, run: run.into() }
    }

    /// The same with the registry of named commands elsewhere, as in `/etc/allod/commands.d`.
    #[must_use]
    pub fn with_commands(self, commands: impl Into<PathBuf>) -> Self {
        Self { commands: commands.into(), ..self }
    }

    /// Makes the folders that the executor owns. Those above an app's are for passing through, not for listing.
    ///
    /// # Errors
    /// [`StoreError`] with the folder and the step.
    pub fn create(&self) -> Result<(), StoreError> {
        if !self.root.exists() {
            create_folder(&self.root, 0o711)?;
        } else if let Some(above) = self.root.parent() {
            // Whoever made it may have been killed before its name was on the disk.
            sync_folder(above)?;
        }
        for private in [self.executor(), self.apps(), self.secrets_folder(), self.instances(), self.record()]
        {
            create_folder(&private, 0o700)?;
        }
        for passable in [self.releases(), self.data_folder(), self.logs_folder()] {
            create_folder(&passable, 0o711)?;
        }
        create_folder(&self.commands(), 0o755)?;
        create_folder(&self.recovery_folder(), 0o711)?;
        create_folder(&self.gate_folder(), 0o711)?;
        create_folder(&self.sockets(), 0o711)
    }

    /// The root of the state.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The root of the sockets.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The executor's own folder, 0700.
    #[must_use]
    pub fn executor(&self) -> PathBuf {
        self.root.join("executor")
    }

    /// Enrolled keys, in `authorized_keys` format.
    #[must_use]
    pub fn enrolled(&self) -> PathBuf {
        self.executor().join("enrolled")
    }

    /// Revoked keys and serials.
    #[must_use]
    pub fn revoked(&self) -> PathBuf {
        self.executor().join("revoked")
    }

    /// The key that signs heads of the record.
    #[must_use]
    pub fn record_key(&self) -> PathBuf {
        self.executor().join("record.key")
    }

    /// The `age` identity that secrets are sealed to.
    #[must_use]
    pub fn recipient_key(&self) -> PathBuf {
        self.executor().join("recipient.key")
    }

    /// The server's identity, public half.
    #[must_use]
    pub fn identity_public(&self) -> PathBuf {
        self.executor().join("identity.pub")
    }

    /// The server's identity, once it was rotated, with the chain that leads to it.
    #[must_use]
    pub fn rotated_identity(&self) -> PathBuf {
        self.executor().join("identity.json")
    }

    /// Which app has which uid.
    #[must_use]
    pub fn uids(&self) -> PathBuf {
        self.executor().join("uids.json")
    }

    /// Which named command has which uid.
    #[must_use]
    pub fn command_uids(&self) -> PathBuf {
        self.executor().join("command-uids.json")
    }

    /// What root declares may be run: `commands.d`, a file each.
    #[must_use]
    pub fn commands(&self) -> PathBuf {
        self.commands.clone()
    }

    /// The registry of named commands as it was taken in.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.executor().join("registry.json")
    }

    /// What each named command was.
    #[must_use]
    pub fn command_histories(&self) -> PathBuf {
        self.executor().join("commands")
    }

    /// What one named command was.
    #[must_use]
    pub fn command_history(&self, name: &NamedCommandName) -> PathBuf {
        self.command_histories().join(format!("{name}.json"))
    }

    /// Approvals that wait to be used.
    #[must_use]
    pub fn approvals(&self) -> PathBuf {
        self.executor().join("approvals.json")
    }

    /// Desired state of all apps.
    #[must_use]
    pub fn apps(&self) -> PathBuf {
        self.executor().join("apps")
    }

    /// Desired state of one app.
    #[must_use]
    pub fn app(&self, app: &AppRef) -> PathBuf {
        pair(&self.apps(), app).with_extension("json")
    }

    /// Sealed secrets of all apps.
    #[must_use]
    pub fn secrets_folder(&self) -> PathBuf {
        self.executor().join("secrets")
    }

    /// Sealed secrets of one app.
    #[must_use]
    pub fn secrets(&self, app: &AppRef) -> PathBuf {
        pair(&self.secrets_folder(), app).with_extension("json")
    }

    /// What is known of each instance.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.executor().join("instances")
    }

    /// What is known of one instance.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> PathBuf {
        self.instances().join(format!("{id}.json"))
    }

    /// The record of everything that was asked and done.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.root.join("record")
    }

    /// Artefacts of all apps.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// Artefacts of one app.
    #[must_use]
    pub fn artefacts(&self, app: &AppRef) -> PathBuf {
        pair(&self.releases(), app)
    }

    /// One artefact: `files/`, `manifest.json` and `artefact.json`.
    #[must_use]
    pub fn artefact(&self, app: &AppRef, manifest: &Digest) -> PathBuf {
        self.artefacts(app).join(artefact_name(manifest))
    }

    /// The read-only files of an artefact.
    #[must_use]
    pub fn files(&self, app: &AppRef, manifest: &Digest) -> PathBuf {
        self.artefact(app, manifest).join("files")
    }

    /// Writable folders of all apps.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The folder that one app may write in.
    #[must_use]
    pub fn data(&self, app: &AppRef) -> PathBuf {
        pair(&self.data_folder(), app)
    }

    /// Logs of all apps.
    #[must_use]
    pub fn logs_folder(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Logs of one app.
    #[must_use]
    pub fn logs(&self, app: &AppRef) -> PathBuf {
        pair(&self.logs_folder(), app)
    }

    /// The log of one instance; the older half has `.1` at its end.
    #[must_use]
    pub fn log(&self, app: &AppRef, instance: &InstanceId, release: &ReleaseId) -> PathBuf {
        self.logs(app).join(format!("{instance}.{release}.log"))
    }

    /// The agent's folder. Whatever lies below it is hostile.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.root.join("agent")
    }

    /// Where an app's chunks lie, relative to [`Layout::agent`].
    #[must_use]
    pub fn chunks_below_agent(app: &AppRef) -> PathBuf {
        pair(Path::new("chunks"), app)
    }

    /// Control sockets of the shims, 0711: each is 0600, and a shim of another user must see whether its own is gone.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.run.join("i")
    }

    /// Where the recovery door is: a folder of the executor's own, in which nobody else can put another one.
    #[must_use]
    pub fn recovery_folder(&self) -> PathBuf {
        self.run.join("recovery")
    }

    /// The recovery door.
    #[must_use]
    pub fn recovery_socket(&self) -> PathBuf {
        self.recovery_folder().join("door.sock")
    }

    /// Where the gate's door is: a folder of the executor's own.
    #[must_use]
    pub fn gate_folder(&self) -> PathBuf {
        self.run.join("gate")
    }

    /// The gate's door.
    #[must_use]
    pub fn gate_socket(&self) -> PathBuf {
        self.gate_folder().join("door.sock")
    }

    /// Keys of callers as sshd reads them: a folder that everybody may read, outside every home.
    #[must_use]
    pub fn gate_keys(&self) -> PathBuf {
        self.root.join("gate/authorized_keys")
    }

    /// The control socket of one instance's shim.
    #[must_use]
    pub fn socket(&self, id: &InstanceId) -> PathBuf {
        self.sockets().join(format!("{id}.sock"))
    }
}

fn pair(root: &Path, app: &AppRef) -> PathBuf {
    root.join(app.name.as_str()).join(app.env.as_str())
}

/// The name of an artefact's folder.
pub(crate) fn artefact_name(manifest: &Digest) -> String {
    let mut name = manifest.to_string();
    name.truncate(ARTEFACT_DIGITS);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_place_follows_from_names_alone() {
        let layout = Layout::new("/s", "/r");
        let app: AppRef = "shop/staging".parse().unwrap();
        let digest = Digest::of("x");
        let id = InstanceId::new("web-0011aabb").unwrap();
        assert_eq!(layout.app(&app), Path::new("/s/executor/apps/shop/staging.json"));
        assert_eq!(layout.secrets(&app), Path::new("/s/executor/secrets/shop/staging.json"));
        let artefact = format!("/s/releases/shop/staging/{}/files", &digest.to_string()[..16]);
        assert_eq!(layout.files(&app, &digest), Path::new(&artefact));
        assert_eq!(layout.socket(&id), Path::new("/r/i/web-0011aabb.sock"));
        let release = ReleaseId::new("0123456789ab").unwrap();
        assert_eq!(
            layout.log(&app, &id, &release),
            Path::new("/s/logs/shop/staging/web-0011aabb.0123456789ab.log")
        );
    }

    #[test]
    fn folders_of_the_executor_are_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path().join("run"));
        layout.create().unwrap();
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(layout.executor()), 0o700);
        assert_eq!(mode(layout.record()), 0o700);
        assert_eq!(mode(layout.sockets()), 0o711);
        assert_eq!(mode(layout.releases()), 0o711);
    }
}
