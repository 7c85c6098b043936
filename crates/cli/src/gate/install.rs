//! `allod gate install` and `remove`: what root puts on the machine so that callers may come through sshd. Settings are
//! judged by sshd before it is told to read them, and nothing is half done: each file is written whole.

use super::{doctor, place::Place, sshd};
use crate::{local_door, recover};
use allod_proto::{
    Fault, FaultCode,
    messages::server::FindingLevel,
    recovery::{Login, RecoveryAction, RecoveryAsk, RecoveryDone},
};
use allod_signing::PublicKey;
use clap::Args;
use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// `allod gate install`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod gate install --print\n  allod gate install --caller builder --key builder.pub --from 192.0.2.0/24 \
    --expires 20271231"
)]
pub(super) struct Install {
    #[command(flatten)]
    place: Place,
    /// Enrol this caller too; from elsewhere an owner does it by `allod keys add KEY.pub --role caller`
    #[arg(long, value_name = "NAME", requires = "key")]
    caller: Option<String>,
    /// The caller's public key
    #[arg(long, value_name = "FILE", requires = "caller")]
    key: Option<PathBuf>,
    /// Only from these addresses, separated by commas
    #[arg(long, value_name = "RANGES", requires = "caller")]
    from: Option<String>,
    /// Only until then: YYYYMMDD[HHMM[SS]], in UTC
    #[arg(long, value_name = "TIME", requires = "caller")]
    expires: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    print: bool,
}

/// `allod gate remove`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod gate remove")]
pub(super) struct Remove {
    #[command(flatten)]
    place: Place,
}

/// Puts it there.
///
/// # Errors
/// What is missing, or what sshd would do otherwise.
pub(super) fn install(install: &Install) -> Result<String, Fault> {
    let Install { place, .. } = install;
    let enrol = install.enrol()?;
    let program =
        std::env::current_exe().and_then(std::fs::canonicalize).map_err(|error| failed("allod", &error))?;
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|error| failed("/etc/passwd", &error))?;
    let user = doctor::user(&place.user, &passwd);
    if install.print {
        return Ok(plan(place, &program, user.is_some(), enrol.as_ref()));
    }
    must_be_root()?;
    let Some(user) = user else {
        return Err(Fault::new(FaultCode::NotFound, format!("there is no user {}", place.user))
            .hint(format!("make it, and ask again:\n{}", place.make_user())));
    };
    link(&program, &place.shell)?;
    if let Some(action) = enrol {
        ask(&place.run, action)?;
    }
    put_settings(place)?;
    Ok(format!(
        "{} is in its place.\nNow: reload sshd, start the executor with --gate-uid {}, and look with `allod gate doctor`.\n",
        place.settings.display(),
        user.uid
    ))
}

/// Takes it back: nobody comes through sshd any more. Keys stay enrolled until somebody revokes them.
///
/// # Errors
/// When a file can't be removed.
pub(super) fn remove(remove: &Remove) -> Result<String, Fault> {
    let Remove { place } = remove;
    must_be_root()?;
    let mut text = String::new();
    for path in [&place.settings, &place.shell] {
        let gone = allod_store::remove_file(path)
            .map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
        let what = if gone { "removed" } else { "not there" };
        text.push_str(&format!("{what}: {}\n", path.display()));
    }
    text.push_str("Now: reload sshd. Callers stay enrolled: `allod keys revoke NAME` for each that goes.\n");
    Ok(text)
}

impl Install {
    fn enrol(&self) -> Result<Option<RecoveryAction>, Fault> {
        let (Some(caller), Some(file)) = (&self.caller, &self.key) else { return Ok(None) };
        let text =
            std::fs::read_to_string(file).map_err(|error| failed(&file.display().to_string(), &error))?;
        let key = PublicKey::from_openssh(&text).map_err(|error| {
            Fault::new(FaultCode::Invalid, format!("{}: {error}", file.display())).hint("give a .pub file")
        })?;
        Ok(Some(RecoveryAction::EnrolCaller {
            key: key.to_openssh(),
            name: caller.clone(),
            from: self.from.clone(),
            expires: self.expires.clone(),
        }))
    }
}

fn plan(place: &Place, program: &Path, user_is_there: bool, enrol: Option<&RecoveryAction>) -> String {
    let mut text = String::new();
    if !user_is_there {
        text.push_str(&format!("# first: {}\n", place.make_user()));
    }
    text.push_str(&format!("# link {} -> {}\n", place.shell.display(), program.display()));
    if let Some(RecoveryAction::EnrolCaller { key, name, from, expires }) = enrol {
        let from = from.as_ref().map(|from| format!(",from=\"{from}\"")).unwrap_or_default();
        let expires = expires.as_ref().map(|at| format!(",expiry-time=\"{at}\"")).unwrap_or_default();
        text.push_str(&format!("# enrol role=caller{from}{expires} {key} {name}\n"));
    }
    text.push_str(&format!("# {}\n{}", place.settings.display(), sshd::settings(place)));
    text
}

fn must_be_root() -> Result<(), Fault> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Fault::new(FaultCode::NotAllowed, "only root puts this on the machine")
        .hint("`--print` shows what it would do"))
}

fn failed(what: &str, error: &std::io::Error) -> Fault {
    Fault::new(FaultCode::Internal, format!("{what}: {error}"))
}

/// A link that leads to this program: what is there and no such link is somebody's.
fn link(program: &Path, shell: &Path) -> Result<(), Fault> {
    let named = |error: std::io::Error| failed(&shell.display().to_string(), &error);
    match std::fs::read_link(shell) {
        Ok(there) if there == program => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => {
            let message = format!("{} is there and is no link", shell.display());
            return Err(Fault::new(FaultCode::Conflict, message).hint("put it away, or give another --shell"));
        }
    }
    let fresh = beside(shell, ".new");
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(program, &fresh).map_err(named)?;
    std::fs::rename(&fresh, shell).map_err(named)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Put in place, where sshd reads it at its next reload, and judged there by sshd itself together with everything else: which
/// file comes first is sshd's to say. What would be otherwise is taken back.
fn put_settings(place: &Place) -> Result<(), Fault> {
    let stored = |error: allod_store::StoreError| Fault::new(FaultCode::Internal, error.to_string());
    let before = match std::fs::read(&place.settings) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&place.settings.display().to_string(), &error)),
    };
    allod_store::write_atomic(&place.settings, sshd::settings(place).as_bytes(), 0o644).map_err(stored)?;
    let judged = doctor::effective(place, &place.sshd_config).and_then(|effective| {
        let findings = sshd::judge(place, &effective);
        let bad = findings.into_iter().find(|finding| finding.level == FindingLevel::Bad);
        bad.map_or(Ok(()), |bad| {
            let message = format!("sshd would do otherwise: {}", bad.message);
            Err(Fault::new(FaultCode::Conflict, message).hint(bad.fix.unwrap_or_default()))
        })
    });
    if judged.is_err() {
        match before {
            Some(bytes) => allod_store::write_atomic(&place.settings, &bytes, 0o644).map_err(stored)?,
            None => _ = allod_store::remove_file(&place.settings).map_err(stored)?,
        }
    }
    judged
}

/// Root on the machine enrols a caller by the executor's door for recovery, which asks the kernel who is there.
fn ask(run: &Path, action: RecoveryAction) -> Result<RecoveryDone, Fault> {
    let ask = RecoveryAsk { id: local_door::fresh_id()?, action, login: Login::default() };
    recover::exchange(&run.join("recovery/door.sock"), &ask)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_and_no_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (program, shell) = (folder.path().join("allod"), folder.path().join("allod-gate"));
        std::fs::write(&shell, "somebody's").unwrap();
        assert_eq!(link(&program, &shell).unwrap_err().code, FaultCode::Conflict);
        assert_eq!(std::fs::read_to_string(&shell).unwrap(), "somebody's");
        std::fs::remove_file(&shell).unwrap();
        for _ in 0..2 {
            link(&program, &shell).unwrap();
            assert_eq!(std::fs::read_link(&shell).unwrap(), program);
        }
        let newer = folder.path().join("newer");
        link(&newer, &shell).unwrap();
        assert_eq!(std::fs::read_link(&shell).unwrap(), newer);
    }

    #[test]
    fn a_plan_says_all_that_would_be_done() {
        let enrol = RecoveryAction::EnrolCaller {
            key: "ssh-ed25519 AAAA".to_owned(),
            name: "builder".to_owned(),
            from: Some("192.0.2.0/24".to_owned()),
            expires: Some("20271231".to_owned()),
        };
        let text = plan(&Place::example(), Path::new("/usr/local/bin/allod"), false, Some(&enrol));
        for said in [
            "# first: useradd --system",
            "# link /usr/local/sbin/allod-gate -> /usr/local/bin/allod\n",
            "# enrol role=caller,from=\"192.0.2.0/24\",expiry-time=\"20271231\" ssh-ed25519 AAAA builder\n",
            "# /etc/ssh/sshd_config.d/50-allod-gate.conf\n# Made by",
            "    ForceCommand /usr/local/sbin/allod-gate\n",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
