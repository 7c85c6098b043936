//! Whether what sshd gives to the login shell is the forced command of a key's line or of sshd's settings, and not what
//! somebody asked for. Being taken for one takes power away: it has no request in it.

use std::{ffi::OsStr, path::PathBuf};

/// `allod gate` with its flags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forced {
    pub(super) run: Option<PathBuf>,
    pub(super) caller: Option<String>,
}

/// Reads `…/allod gate [--run DIR] [--caller NAME]` and `…/allod-gate` with the same flags.
pub(super) fn read(text: &OsStr) -> Option<Forced> {
    let mut words = text.to_str()?.split(' ');
    match words.next()?.rsplit('/').next()? {
        super::SHELL => {}
        "allod" if words.next() == Some("gate") => {}
        _ => return None,
    }
    let mut forced = Forced::default();
    while let Some(flag) = words.next() {
        let value = words.next().filter(|value| !value.is_empty())?;
        match flag {
            "--run" if forced.run.is_none() => forced.run = Some(value.into()),
            "--caller" if forced.caller.is_none() => forced.caller = Some(value.to_owned()),
            _ => return None,
        }
    }
    Some(forced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_asks_for_is_no_forced_command() {
        for text in [
            "",
            "deploy",
            "help",
            "allod",
            "allod run deploy",
            "allod gate run deploy",
            "allod gate --caller",
            "allod gate --caller a --caller b",
            "allod gate --caller a deploy",
            "allod gate  --caller a",
            "allod gate --enrol a",
            "sh -c allod-gate",
            "/usr/local/sbin/allod-gate deploy",
        ] {
            assert_eq!(read(OsStr::new(text)), None, "{text}");
        }
    }

    #[test]
    fn the_line_of_a_key_and_sshds_settings_are() {
        for text in ["allod-gate", "/usr/local/sbin/allod-gate", "/usr/local/bin/allod gate", "allod gate"] {
            assert_eq!(read(OsStr::new(text)), Some(Forced::default()), "{text}");
        }
        let both = read(OsStr::new("/opt/allod gate --run /srv/run --caller builder")).unwrap();
        assert_eq!(both, Forced { run: Some("/srv/run".into()), caller: Some("builder".to_owned()) });
    }
}
