//! What sshd tells the program that it runs for a login, in the few variables that it makes itself. Everything else in the
//! environment may come from whoever logged in, and is not looked at.

use allod_proto::{Fingerprint, limits, recovery::Login};
use allod_signing::PublicKey;
use rustix::fs::{Mode, OFlags};
use std::{ffi::OsString, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

/// The kinds of keys that are certificates have this in their names.
const CERTIFICATE: &str = "-cert-v01@";

/// A login.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What was asked for, where a forced command stands in its place.
    pub(crate) original: Option<OsString>,
    /// Who.
    pub(crate) login: Login,
    /// The port they came from.
    pub(crate) port: Option<u16>,
    /// Whether a certificate logged in.
    pub(crate) certificate: bool,
}

/// Of the program's own environment.
pub(crate) fn told() -> Told {
    let connection = std::env::var_os("SSH_CONNECTION");
    let words: Vec<&str> =
        connection.as_ref().and_then(|text| text.to_str()).unwrap_or_default().split(' ').collect();
    let proof = std::env::var_os("SSH_USER_AUTH").and_then(|path| proof(Path::new(&path)));
    let (key, certificate) = proof.as_deref().map(key_of).unwrap_or_default();
    Told {
        original: std::env::var_os("SSH_ORIGINAL_COMMAND"),
        login: Login { key, from: words.first().and_then(|word| word.parse().ok()) },
        port: words.get(1).and_then(|word| word.parse().ok()),
        certificate,
    }
}

/// The file that sshd makes for this login, as this user. Where it makes none, a login that may set variables could name
/// another one: so it must be our own, and nobody else's to write.
fn proof(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let facts = file.metadata().ok()?;
    let is_ours = facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o022 == 0;
    if !facts.is_file() || !is_ours {
        return None;
    }
    let mut text = String::new();
    file.take(u64::try_from(limits::HEAD).ok()?).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The key of the one line `publickey TYPE BASE64`, and whether it is a certificate instead. Two such lines are two keys,
/// and so none.
fn key_of(proof: &str) -> (Option<Fingerprint>, bool) {
    let mut keys = proof.lines().filter_map(|line| line.strip_prefix("publickey "));
    let (Some(key), None) = (keys.next(), keys.next()) else { return (None, false) };
    let certificate = key.split(' ').next().is_some_and(|kind| kind.contains(CERTIFICATE));
    (PublicKey::from_openssh(key).ok().map(|key| key.fingerprint().clone()), certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

    #[test]
    fn two_keys_none_and_a_certificate_are_no_key() {
        for text in [
            String::new(),
            "password\n".to_owned(),
            KEY.to_owned(),
            "publickey ssh-ed25519\n".to_owned(),
            format!("publickey {KEY}\npublickey {KEY}\n"),
        ] {
            assert_eq!(key_of(&text), (None, false), "{text}");
        }
        let (key, certificate) = key_of("publickey ssh-ed25519-cert-v01@openssh.com AAAA\n");
        assert!(key.is_none() && certificate);
        let (key, certificate) = key_of(&format!("keyboard-interactive/pam\npublickey {KEY}\n"));
        assert_eq!(key.unwrap().as_str(), "SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE");
        assert!(!certificate);
    }

    #[test]
    fn a_file_that_others_may_write_a_link_a_pipe_and_one_of_another_user_prove_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth");
        std::fs::write(&file, "x").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(proof(&file).unwrap(), "x");
        for open in [0o620, 0o602, 0o666] {
            mode(open);
            assert!(proof(&file).is_none(), "{open:o}");
        }
        mode(0o600);
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(proof(&link).is_none() && proof(folder.path()).is_none());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(proof(&pipe).is_none());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(61_300), None).unwrap();
            assert!(proof(&file).is_none());
        }
    }
}
