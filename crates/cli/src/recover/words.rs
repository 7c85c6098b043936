//! From what somebody asked of sshd to one action of the closed list. No shell ever sees it: words are split at spaces, and
//! what could mean anything to a shell is in no word there is.

use allod_proto::recovery::RecoveryAction;
use allod_signing::PublicKey;

/// The longest text, in bytes; a public key of RSA with 16384 bits has fewer.
pub(super) const LONGEST: usize = 4096;

/// What may be asked, for people.
pub(super) const ALLOWED: &str = "doctor                       what is wrong, without an agent
identity                     who this server is: compare with what `allod servers add` shows
keys                         who may call it
restart                      executor and agent begin anew; apps run on
enrol TYPE BASE64 [NAME]     a public key becomes an owner's (only a recovery key with --enrol)
enrol                        the same, with the key as one line on standard input";

/// Why it is no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAction {
    /// Nothing was asked.
    #[error("there is no shell here, and nothing was asked")]
    Nothing,
    /// Too long.
    #[error("it has more than {LONGEST} bytes")]
    TooLong,
    /// A character that is in no word there is.
    #[error("it has {0:?}, which is in no word that is understood here")]
    Character(char),
    /// No such action.
    #[error("there is no {0:?} here")]
    Unknown(String),
    /// More words than the action takes.
    #[error("{0} takes no more words")]
    Surplus(&'static str),
    /// A key without its second word, or a name that is none.
    #[error(
        "enrol takes the type of a key, its base64, and perhaps a name of at most 64 letters, digits and @._-"
    )]
    Key,
}

/// An action, or the wish to enrol the key that is on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// This.
    Action(RecoveryAction),
    /// A key follows.
    EnrolFromInput,
    /// What there is.
    Help,
}

/// Reads a line of words.
pub(super) fn parse(text: &str) -> Result<Wish, NoAction> {
    let words = words(text)?;
    let (first, rest) = words.split_first().ok_or(NoAction::Nothing)?;
    let alone = |word: &'static str, action: RecoveryAction| {
        if rest.is_empty() { Ok(Wish::Action(action)) } else { Err(NoAction::Surplus(word)) }
    };
    match *first {
        "doctor" => alone("doctor", RecoveryAction::Doctor {}),
        "identity" => alone("identity", RecoveryAction::Identity {}),
        "keys" => alone("keys", RecoveryAction::Keys {}),
        "restart" => alone("restart", RecoveryAction::Restart {}),
        "enrol" if rest.is_empty() => Ok(Wish::EnrolFromInput),
        "enrol" => key_of(rest).map(Wish::Action),
        "help" if rest.is_empty() => Ok(Wish::Help),
        other => Err(NoAction::Unknown(other.chars().take(40).collect())),
    }
}

/// The key of one line of a .pub file.
pub(super) fn parse_key(line: &str) -> Result<RecoveryAction, NoAction> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    key_of(&words(line.strip_suffix('\r').unwrap_or(line))?)
}

fn key_of(words: &[&str]) -> Result<RecoveryAction, NoAction> {
    let (key, name) = match words {
        [kind, base64] => (format!("{kind} {base64}"), None),
        [kind, base64, name] if RecoveryAction::name_is_sound(name) => {
            (format!("{kind} {base64}"), Some((*name).to_owned()))
        }
        _ => return Err(NoAction::Key),
    };
    // The executor reads it again; what is no key need not come that far.
    PublicKey::from_openssh(&key).map_err(|_| NoAction::Key)?;
    Ok(RecoveryAction::Enrol { key, name })
}

fn words(text: &str) -> Result<Vec<&str>, NoAction> {
    if text.len() > LONGEST {
        return Err(NoAction::TooLong);
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "@._-+/= ".contains(c);
    if let Some(other) = text.chars().find(|c| !known(*c)) {
        return Err(NoAction::Character(other));
    }
    Ok(text.split(' ').filter(|word| !word.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

    #[test]
    fn what_a_shell_would_understand_is_refused_before_any_word_is_read() {
        for (text, character) in [
            ("doctor; id", ';'),
            ("doctor && id", '&'),
            ("doctor | sh", '|'),
            ("$(id)", '$'),
            ("`id`", '`'),
            ("doctor > file", '>'),
            ("doctor < /etc/shadow", '<'),
            ("doctor\nrestart", '\n'),
            ("doctor\rrestart", '\r'),
            ("doctor\0", '\0'),
            ("doctor\tx", '\t'),
            ("'doctor'", '\''),
            ("\"doctor\"", '"'),
            ("doctor\\", '\\'),
            ("doctor *", '*'),
            ("doctor ~", '~'),
            ("doctor #", '#'),
            ("doctor {a,b}", '{'),
            ("doctor !1", '!'),
            ("d\u{f6}ctor", '\u{f6}'),
            ("doctor\u{a0}", '\u{a0}'),
            ("\u{1b}[2J", '\u{1b}'),
        ] {
            assert_eq!(parse(text), Err(NoAction::Character(character)), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_list_has_words_too_many_or_is_too_long_is_refused() {
        for text in ["", "   "] {
            assert_eq!(parse(text), Err(NoAction::Nothing), "{text:?}");
        }
        for text in [
            "sh",
            "bash -i",
            "DOCTOR",
            "internal-sftp",
            "scp -t .",
            "rsync --server",
            "--enrol",
            "doctors",
            "-h",
        ] {
            assert!(matches!(parse(text), Err(NoAction::Unknown(_))), "{text:?}");
        }
        for text in ["doctor now", "identity --json", "keys keys", "restart restart", "restart -f"] {
            assert!(matches!(parse(text), Err(NoAction::Surplus(_))), "{text:?}");
        }
        assert!(matches!(parse("help me"), Err(NoAction::Unknown(_))));
        assert_eq!(parse(&format!("doctor{}", " ".repeat(LONGEST))), Err(NoAction::TooLong));
    }

    #[test]
    fn a_key_with_options_or_words_too_many_enrols_nobody() {
        for rest in [
            "ssh-ed25519",
            "--role owner",
            "ssh-ed25519 AAAA",
            &format!("{KEY} ana laptop"),
            &format!("{KEY} a/b"),
            &format!("{KEY} {}", "a".repeat(65)),
        ] {
            assert_eq!(parse(&format!("enrol {rest}")), Err(NoAction::Key), "{rest:?}");
        }
        for line in ["", "\n", &format!("{KEY}\n{KEY}"), &format!("{KEY} a\n\n")] {
            assert!(parse_key(line).is_err(), "{line:?}");
        }
        assert_eq!(parse_key(&format!("command=\"id\" {KEY}")), Err(NoAction::Character('"')));
    }

    #[test]
    fn each_action_of_the_list_is_understood_as_itself() {
        for action in [
            RecoveryAction::Doctor {},
            RecoveryAction::Identity {},
            RecoveryAction::Keys {},
            RecoveryAction::Restart {},
        ] {
            assert_eq!(parse(&format!(" {}  ", action.word())), Ok(Wish::Action(action)));
        }
        let enrol =
            |name: Option<&str>| RecoveryAction::Enrol { key: KEY.to_owned(), name: name.map(str::to_owned) };
        assert_eq!(parse(&format!("enrol {KEY}")), Ok(Wish::Action(enrol(None))));
        assert_eq!(parse(&format!("enrol {KEY} ana@laptop")), Ok(Wish::Action(enrol(Some("ana@laptop")))));
        assert_eq!(parse("enrol"), Ok(Wish::EnrolFromInput));
        assert_eq!(parse_key(&format!("{KEY} ana@laptop\r\n")), Ok(enrol(Some("ana@laptop"))));
        for word in ["doctor", "identity", "keys", "restart", "enrol"] {
            assert!(ALLOWED.lines().any(|line| line.starts_with(word)), "{word}");
        }
    }
}
