//! `allod gate doctor`: whether a login as the gate's user gets the gate and nothing else, from sshd's own mouth and from the
//! files. Every finding has its fix.

use super::{keys_file, place::Place, sshd};
use allod_proto::{
    Fault, FaultCode,
    messages::server::{Finding, FindingLevel},
};
use std::{
    ffi::OsStr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

const PASSWD: &str = "/etc/passwd";

/// A user as `/etc/passwd` has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    home: PathBuf,
    shell: PathBuf,
}

/// The user of this name.
pub(super) fn user(name: &str, passwd: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        Some(User { uid, home: fields.nth(2)?.into(), shell: fields.next()?.into() })
    })
}

/// All that can be found, worst first.
pub(super) fn look(place: &Place) -> Vec<Finding> {
    let mut findings = about_user(place);
    match effective(place, &place.sshd_config) {
        Ok(text) => findings.extend(sshd::judge(place, &text)),
        Err(fault) => {
            findings.push(bad("sshd", fault.message, fault.hint.as_deref().unwrap_or("ask sshd -t")))
        }
    }
    let keys = place.keys();
    findings.extend(keys_file::judge_place(&keys));
    if let Ok(text) = std::fs::read_to_string(&keys) {
        findings.extend(keys_file::judge_text(&text));
    }
    if findings.is_empty() {
        let message = format!("a login as {} gets named commands and nothing else", place.user);
        findings.push(Finding { about: "gate".to_owned(), level: FindingLevel::Good, message, fix: None });
    }
    findings.sort_by_key(|finding| finding.level);
    findings
}

fn bad(about: &str, message: String, fix: &str) -> Finding {
    Finding { about: about.to_owned(), level: FindingLevel::Bad, message, fix: Some(fix.to_owned()) }
}

fn about_user(place: &Place) -> Vec<Finding> {
    let passwd = std::fs::read_to_string(PASSWD).unwrap_or_default();
    let Some(user) = user(&place.user, &passwd) else {
        return vec![bad("user", format!("there is no user {}", place.user), &place.make_user())];
    };
    let mut findings = judge_user(place, &user);
    match std::fs::symlink_metadata(place.door()) {
        Ok(door) if door.uid() == user.uid => {}
        Ok(door) => findings.push(bad(
            "executor",
            format!("its door for the gate is for uid {}, and {} has {}", door.uid(), place.user, user.uid),
            &format!("start the executor with --gate-uid {}", user.uid),
        )),
        Err(error) => findings.push(bad(
            "executor",
            format!("{}: {error}", place.door().display()),
            &format!("start the executor with --gate-uid {}", user.uid),
        )),
    }
    findings
}

fn judge_user(place: &Place, user: &User) -> Vec<Finding> {
    let mut findings = Vec::new();
    if user.uid == 0 {
        findings.push(bad("user", format!("{} is root", place.user), "give callers a user of their own"));
    }
    if user.shell != place.shell {
        let message = format!("the login shell of {} is {}", place.user, user.shell.display());
        findings.push(bad(
            "user",
            message,
            &format!("usermod --shell {} {}", place.shell.display(), place.user),
        ));
    }
    let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    match std::fs::canonicalize(&place.shell) {
        Ok(leads_to) if Some(&leads_to) == own.as_ref() => {}
        Ok(leads_to) => {
            let message =
                format!("{} leads to {}, which is not this allod", place.shell.display(), leads_to.display());
            findings.push(bad("user", message, "`allod gate install` by the allod that is to be used"));
        }
        Err(error) => {
            findings.push(bad("user", format!("{}: {error}", place.shell.display()), "`allod gate install`"));
        }
    }
    if let Ok(facts) = std::fs::symlink_metadata(&user.home)
        && user.uid != 0
        && (facts.uid() == user.uid || facts.mode() & 0o022 != 0)
    {
        let message = format!("{} or somebody else may write its home {}", place.user, user.home.display());
        findings.push(bad("user", message, &format!("usermod --home / {}", place.user)));
    }
    findings
}

/// What sshd would do for the user, with this file of settings.
///
/// # Errors
/// When sshd is not there, or does not take the file.
#[expect(clippy::disallowed_methods, reason = "only sshd can say what sshd does")]
pub(super) fn effective(place: &Place, config: &Path) -> Result<String, Fault> {
    let named = |why: String| Fault::new(FaultCode::Invalid, format!("{}: {why}", place.sshd.display()));
    let about = format!("user={},host=localhost,addr=127.0.0.1", place.user);
    let mut command = Command::new(&place.sshd);
    command.args([OsStr::new("-T"), OsStr::new("-C"), about.as_ref(), OsStr::new("-f"), config.as_ref()]);
    let output = command.env_clear().output().map_err(|error| named(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(named(said.join("; ")).hint("root may ask it, with sshd's host keys made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_as_the_system_has_it() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nallod-gate:x:997:997::/:/usr/local/sbin/allod-gate\nbroken:x\n";
        let found = user("allod-gate", passwd).unwrap();
        assert_eq!((found.uid, found.shell.to_str()), (997, Some("/usr/local/sbin/allod-gate")));
        assert_eq!(user("root", passwd).unwrap().home, Path::new("/root"));
        assert!(user("allod", passwd).is_none() && user("broken", passwd).is_none());
    }

    #[test]
    fn a_user_who_is_root_has_a_shell_or_a_home_to_write_in_is_found() {
        let place = Place { shell: std::env::current_exe().unwrap(), ..Place::example() };
        let good = || User { uid: 61_300, home: "/".into(), shell: place.shell.clone() };
        assert_eq!(judge_user(&place, &good()), []);
        let home = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        for (user, about) in [
            (User { uid: 0, ..good() }, "is root"),
            (User { shell: "/bin/sh".into(), ..good() }, "the login shell"),
            (User { uid: own.max(1), home: writable(home.path()), ..good() }, "its home"),
        ] {
            let found = judge_user(&place, &user);
            assert!(found.len() == 1 && found[0].message.contains(about), "{found:?}");
        }
        let elsewhere = Place { shell: "/bin/sh".into(), ..place.clone() };
        let found = judge_user(&elsewhere, &User { shell: "/bin/sh".into(), ..good() });
        assert!(found[0].message.contains("not this allod"), "{found:?}");
    }

    fn writable(folder: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        folder.to_owned()
    }
}
