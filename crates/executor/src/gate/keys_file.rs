//! The keys of callers as sshd reads them: made whole from the enrolled keys, so that there is one list of who may call. The
//! gate's door looks at the enrolled keys itself; this file only keeps everybody else from logging in at all.

use crate::layout::Layout;
use allod_proto::{Role, recovery::RecoveryAction};
use allod_signing::{EnrolledKey, EnrolledKeys, Revoked};
use std::path::{Path, PathBuf};

const HEAD: &str = "# Made by allod from the enrolled keys of role caller; changes made here are lost.\n";
/// Where sockets live if nobody says otherwise.
const USUAL_RUN: &str = "/run/allod";

/// Where the file is, and what a login runs.
#[derive(Debug, Clone)]
pub(crate) struct KeysFile {
    path: PathBuf,
    command: String,
}

impl KeysFile {
    /// Of this server; `program` is allod's own file.
    pub(crate) fn of(layout: &Layout, program: &Path) -> Self {
        let run = match layout.run() {
            run if run == Path::new(USUAL_RUN) => String::new(),
            run => format!(" --run {}", run.display()),
        };
        Self { path: layout.gate_keys(), command: format!("{} gate{run}", program.display()) }
    }

    /// Writes it, whole. A failure is logged: what keeps a revoked key out is the gate's door.
    pub(crate) fn write(&self, enrolled: &EnrolledKeys, revoked: &Revoked) {
        let text = self.render(enrolled, revoked);
        if std::fs::read_to_string(&self.path).is_ok_and(|there| there == text) {
            return;
        }
        let written = self.path.parent().map_or(Ok(()), |folder| allod_store::create_folder(folder, 0o755));
        if let Err(error) =
            written.and_then(|()| allod_store::write_atomic(&self.path, text.as_bytes(), 0o644))
        {
            tracing::error!(%error, "the keys for sshd could not be written; the gate refuses those that are out all the same");
        }
    }

    fn render(&self, enrolled: &EnrolledKeys, revoked: &Revoked) -> String {
        let is_caller = |key: &&EnrolledKey| {
            key.grant().role == Role::Caller && key.authority().is_none() && !revoked.has(key.fingerprint())
        };
        let mut text = HEAD.to_owned();
        for key in enrolled.entries().iter().filter(is_caller) {
            // A name with anything that could be read in two ways is told by its fingerprint.
            let plain = RecoveryAction::name_is_sound(key.name()) && !key.name().starts_with('-');
            let caller = if plain { key.name() } else { key.fingerprint().as_str() };
            match key.to_sshd_line(&format!("{} --caller {caller}", self.command)) {
                Ok(line) => text.push_str(&format!("{line}\n")),
                Err(error) => {
                    tracing::error!(%error, key = %key.fingerprint(), "a caller's key has no line for sshd")
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_signing::{KeySigner, Signer as _};

    fn key(seed: u8) -> KeySigner {
        KeySigner::generate([seed; 32], "")
    }

    fn line(seed: u8, options: &str, name: &str) -> String {
        format!("{options} {} {name}\n", key(seed).public_key().to_openssh())
    }

    fn rendered(lines: &str, revoked: &Revoked) -> Vec<String> {
        let file = KeysFile::of(&Layout::new("/s", "/run/allod"), Path::new("/usr/local/bin/allod"));
        let enrolled = EnrolledKeys::parse(lines);
        assert_eq!(enrolled.complaints(), []);
        file.render(&enrolled, revoked).lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn only_enrolled_keys_of_role_caller_may_log_in() {
        let lines = line(1, "role=owner", "ana")
            + &line(2, "role=operator", "bob")
            + &line(3, "role=caller,cert-authority,principals=\"x\"", "ca")
            + &line(4, "role=caller", "gone")
            + &line(5, "role=caller,from=\"10.0.0.0/8\",expiry-time=\"20300101Z\"", "builder");
        let mut revoked = Revoked::default();
        revoked.revoke(key(4).fingerprint());
        let options = "restrict,command=\"/usr/local/bin/allod gate --caller builder\",from=\"10.0.0.0/8\",expiry-time=\"20300101000000Z\"";
        assert_eq!(
            rendered(&lines, &revoked),
            [format!("{options} {} builder", key(5).public_key().to_openssh())]
        );
    }

    #[test]
    fn a_name_that_sshd_or_a_shell_could_read_otherwise_is_told_by_its_fingerprint() {
        for name in ["a b", "a\"b", "$(id)", "-x", "größe", "a;id", "#"] {
            let lines = rendered(&line(1, "role=caller", name), &Revoked::default());
            let command = format!("command=\"/usr/local/bin/allod gate --caller {}\"", key(1).fingerprint());
            assert!(lines[0].starts_with(&format!("restrict,{command} ssh-ed25519 ")), "{name}: {lines:?}");
        }
    }

    #[test]
    fn each_change_writes_it_whole_with_a_mode_that_sshd_takes() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("s"), folder.path().join("r"));
        let file = KeysFile::of(&layout, Path::new("/bin/allod"));
        let mut revoked = Revoked::default();
        let enrolled = EnrolledKeys::parse(&line(1, "role=caller", "builder"));
        std::fs::create_dir(layout.root()).unwrap();
        file.write(&enrolled, &revoked);
        let text = std::fs::read_to_string(layout.gate_keys()).unwrap();
        assert!(text.contains(&format!("gate --run {} --caller builder", layout.run().display())), "{text}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&layout.gate_keys()), mode(layout.gate_keys().parent().unwrap())), (0o644, 0o755));
        revoked.revoke(key(1).fingerprint());
        file.write(&enrolled, &revoked);
        assert_eq!(std::fs::read_to_string(layout.gate_keys()).unwrap(), HEAD);
    }
}
