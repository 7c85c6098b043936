//! What sshd must do for the gate's user: one table, from which its settings are written and by which what it really does,
//! as `sshd -T` tells, is judged.

use super::place::Place;
use allod_proto::messages::server::{Finding, FindingLevel};

/// A variable that nobody has: the list of a `Match` block takes the place of the one for everybody, and can't be empty.
const NO_VARIABLE: &str = "ALLOD_NOTHING";

/// Each keyword with the only value that it may have, and how bad another one is.
fn wanted(place: &Place) -> Vec<(&'static str, String, FindingLevel)> {
    use FindingLevel::{Bad, Warning};
    let fixed = [
        ("AuthorizedKeysCommand", "none", Bad),
        ("AuthorizedPrincipalsFile", "none", Warning),
        ("TrustedUserCAKeys", "none", Warning),
        ("AuthenticationMethods", "publickey", Bad),
        ("AcceptEnv", NO_VARIABLE, Bad),
        ("ExposeAuthInfo", "yes", Bad),
        ("DisableForwarding", "yes", Bad),
        ("AllowTcpForwarding", "no", Bad),
        ("AllowStreamLocalForwarding", "no", Bad),
        ("AllowAgentForwarding", "no", Bad),
        ("X11Forwarding", "no", Bad),
        ("PermitTunnel", "no", Bad),
        ("PermitOpen", "none", Warning),
        ("PermitListen", "none", Warning),
        ("PermitTTY", "no", Bad),
        ("PermitUserRC", "no", Bad),
        ("MaxSessions", "10", Warning),
        ("LogLevel", "VERBOSE", Warning),
        ("Banner", "none", Warning),
        ("ClientAliveInterval", "15", Warning),
        ("ClientAliveCountMax", "4", Warning),
    ];
    let own = [
        ("AuthorizedKeysFile", place.keys().display().to_string(), Bad),
        ("ForceCommand", place.shell.display().to_string(), Bad),
    ];
    own.into_iter().chain(fixed.map(|(keyword, value, level)| (keyword, value.to_owned(), level))).collect()
}

/// The settings file.
pub(super) fn settings(place: &Place) -> String {
    let mut text = format!(
        "# Made by `allod gate install`. A login as this user is a request for a named command and nothing else.\nMatch User {}\n",
        place.user
    );
    for (keyword, value, _) in wanted(place) {
        text.push_str(&format!("    {keyword} {value}\n"));
    }
    text.push_str("Match all\n");
    text
}

/// What is wrong with what sshd does, from what `sshd -T -C user=…` prints.
pub(super) fn judge(place: &Place, effective: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (keyword, value, level) in wanted(place) {
        let found = values(effective, keyword);
        // A list may have it twice, where these settings are read twice.
        if found.is_empty() || found.iter().any(|it| *it != value) {
            let found = if found.is_empty() { "not set".to_owned() } else { found.join(", ") };
            findings.push(Finding {
                about: "sshd".to_owned(),
                level,
                message: format!("{keyword} is {found} for {} and must be {value}", place.user),
                fix: Some(
                    "`allod gate install`, and take back what another file says of this user".to_owned(),
                ),
            });
        }
    }
    if values(effective, "PermitUserEnvironment") != ["no"] {
        findings.push(Finding {
            about: "sshd".to_owned(),
            level: FindingLevel::Bad,
            message: "PermitUserEnvironment is not no: key files and homes may set variables".to_owned(),
            fix: Some("`PermitUserEnvironment no` in sshd's settings; a Match block can't say it".to_owned()),
        });
    }
    findings
}

fn values<'a>(effective: &'a str, keyword: &str) -> Vec<&'a str> {
    let words = effective.lines().filter_map(|line| line.split_once(' '));
    words.filter(|(name, _)| name.eq_ignore_ascii_case(keyword)).map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What sshd says when it does what is written.
    fn effective(place: &Place) -> String {
        let mut text = String::from("port 22\npermituserenvironment no\nsubsystem sftp internal-sftp\n");
        for (keyword, value, _) in wanted(place) {
            text.push_str(&format!("{} {value}\n", keyword.to_ascii_lowercase()));
        }
        text
    }

    #[test]
    fn each_setting_that_differs_or_is_missing_is_found() {
        let place = Place::example();
        let good = effective(&place);
        assert_eq!(judge(&place, &good), []);
        for (keyword, value, level) in wanted(&place) {
            let line = format!("{} {value}\n", keyword.to_ascii_lowercase());
            for bad in [
                good.replace(&line, ""),
                good.replace(&line, &line.replace(&value, "other")),
                format!("{good}{} other\n", keyword.to_ascii_lowercase()),
            ] {
                let found = judge(&place, &bad);
                assert_eq!(found.len(), 1, "{keyword}: {found:?}");
                assert!(found[0].message.starts_with(keyword) && found[0].level == level, "{found:?}");
            }
        }
        let open = good.replace("permituserenvironment no", "permituserenvironment yes");
        assert!(judge(&place, &open)[0].message.contains("PermitUserEnvironment"));
    }

    #[test]
    fn the_settings_are_one_match_block_for_one_user() {
        let text = settings(&Place::example());
        assert!(
            text.contains(
                "\nMatch User allod-gate\n    AuthorizedKeysFile /var/lib/allod/gate/authorized_keys\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("    ForceCommand /usr/local/sbin/allod-gate\n") && text.ends_with("Match all\n"),
            "{text}"
        );
    }
}
