//! Where everything of the gate is on this machine.

use clap::Args;
use std::path::{Path, PathBuf};

/// The user, its files, and sshd's.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The user that callers log in as; nothing else may run as it
    #[arg(long, value_name = "NAME", default_value = "allod-gate", value_parser = user_name)]
    pub(super) user: String,
    /// Where the server's state lives
    #[arg(long, value_name = "DIR", default_value = "/var/lib/allod", value_parser = plain_path)]
    pub(super) state: PathBuf,
    /// The link to allod that is the user's login shell
    #[arg(long, value_name = "PATH", default_value = "/usr/local/sbin/allod-gate", value_parser = plain_path)]
    pub(super) shell: PathBuf,
    /// The file of settings for sshd
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config.d/50-allod-gate.conf", value_parser = plain_path)]
    pub(super) settings: PathBuf,
    /// sshd's own settings
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config", value_parser = plain_path)]
    pub(super) sshd_config: PathBuf,
    /// sshd
    #[arg(long, value_name = "PATH", default_value = "/usr/sbin/sshd", value_parser = plain_path)]
    pub(super) sshd: PathBuf,
    /// Where the server's sockets live
    #[arg(long, value_name = "DIR", default_value = super::RUN, value_parser = plain_path)]
    pub(super) run: PathBuf,
}

impl Place {
    /// The callers' keys, which the executor writes.
    pub(super) fn keys(&self) -> PathBuf {
        self.state.join("gate/authorized_keys")
    }

    /// The executor's door for the gate.
    pub(super) fn door(&self) -> PathBuf {
        self.run.join("gate/door.sock")
    }

    /// How root makes the user.
    pub(super) fn make_user(&self) -> String {
        format!(
            "useradd --system --no-create-home --home-dir / --shell {} --password '*' {}",
            self.shell.display(),
            self.user
        )
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            place: Place,
        }
        <Flags as clap::Parser>::parse_from(["x"]).place
    }
}

fn user_name(text: &str) -> Result<String, String> {
    let sound =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if sound && begins && text.len() <= 32 {
        Ok(text.to_owned())
    } else {
        Err("not a user's name".to_owned())
    }
}

/// What stands in sshd's settings has one reading there.
fn plain_path(text: &str) -> Result<PathBuf, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if plain && Path::new(text).is_absolute() {
        return Ok(text.into());
    }
    Err("not an absolute path of letters, digits and /._-+".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sshd_could_read_in_two_ways_is_refused() {
        for bad in ["", "a/b", "/a b", "/a\"b", "/a%h", "/a\nForceCommand x", "/ä", "/a#"] {
            assert!(plain_path(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-x", "a b", "a,b", "*", "!root", "A", "a\nb", &"a".repeat(33)] {
            assert!(user_name(bad).is_err(), "{bad:?}");
        }
        assert!(plain_path("/usr/local/bin/allod").is_ok() && user_name("allod-gate").is_ok());
    }
}
