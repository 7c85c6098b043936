//! What is wrong with the callers' keys as sshd reads them: a line that sshd would give more than one command, and a file
//! that somebody else could change.

use allod_proto::messages::server::{Finding, FindingLevel};
use std::{os::unix::fs::MetadataExt as _, path::Path};

fn bad(message: String, fix: &str) -> Finding {
    Finding { about: "keys".to_owned(), level: FindingLevel::Bad, message, fix: Some(fix.to_owned()) }
}

/// Each line that is no caller's.
pub(super) fn judge_text(text: &str) -> Vec<Finding> {
    let fix = "take the line out; the executor makes this file from the enrolled keys, at the next change and at its start";
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let judged = lines.filter_map(|(number, line)| {
        let why = match line.strip_prefix("restrict,command=\"") {
            None => "does not begin with restrict and a command",
            Some(rest) => match rest.split_once('"') {
                None => "has a command without an end",
                Some((command, _)) if !is_gate(command) => "runs something else than allod gate",
                Some((_, after)) if !is_narrow(after) => "has an option that gives back what restrict took",
                Some(_) => return None,
            },
        };
        Some(bad(format!("line {number} {why}"), fix))
    });
    judged.collect()
}

fn is_gate(command: &str) -> bool {
    super::forced::read(command.as_ref()).is_some_and(|forced| forced.caller.is_some())
}

/// Options that narrow, up to the key.
fn is_narrow(after: &str) -> bool {
    let mut rest = after;
    while let Some(option) = rest.strip_prefix(',') {
        let narrowing = option.strip_prefix("from=\"").or_else(|| option.strip_prefix("expiry-time=\""));
        let Some((_, after)) = narrowing.and_then(|value| value.split_once('"')) else { return false };
        rest = after;
    }
    rest.starts_with(' ')
}

/// Whoever could put another file, or folder, in its place.
pub(super) fn judge_place(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in path.ancestors() {
        let facts = match std::fs::symlink_metadata(part) {
            Ok(facts) => facts,
            Err(error) => {
                let fix = "start the executor with --gate-uid: it makes the file";
                findings.push(bad(format!("{}: {error}", part.display()), fix));
                continue;
            }
        };
        if facts.file_type().is_symlink() {
            findings.push(bad(format!("{} is a link", part.display()), "put what it leads to in its place"));
        } else if facts.uid() != 0 || facts.mode() & 0o022 != 0 {
            let message = format!("{} can be changed by others than root", part.display());
            findings.push(bad(message, "chown root, and chmod go-w"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

    #[test]
    fn d3_a_line_without_restrict_or_with_another_command_is_found() {
        for line in [
            KEY.to_owned(),
            format!("command=\"/usr/local/bin/allod gate --caller b\" {KEY}"),
            format!("no-pty,restrict,command=\"/usr/local/bin/allod gate --caller b\" {KEY}"),
            format!("restrict {KEY}"),
            format!("restrict,command=\"/bin/sh\" {KEY}"),
            format!("restrict,command=\"/usr/local/bin/allod gate\" {KEY}"),
            format!("restrict,command=\"/usr/local/bin/allod recover --enrol\" {KEY}"),
            "restrict,command=\"/usr/local/bin/allod gate --caller b".to_owned(),
            format!("restrict,command=\"/usr/local/bin/allod gate --caller b\",pty {KEY}"),
            format!(
                "restrict,command=\"/usr/local/bin/allod gate --caller b\",from=\"1.2.3.4\",port-forwarding {KEY}"
            ),
            format!("restrict,command=\"/usr/local/bin/allod gate --caller b\",environment=\"A=b\" {KEY}"),
        ] {
            let found = judge_text(&format!("# a comment\n\n{line}\n"));
            assert!(found.len() == 1 && found[0].message.starts_with("line 3 "), "{line}: {found:?}");
        }
    }

    #[test]
    fn what_the_executor_writes_is_good() {
        let command = "command=\"/usr/local/bin/allod gate --run /srv/r --caller b\"";
        let text = format!(
            "# x\nrestrict,{command} {KEY} b\nrestrict,{command},from=\"10.0.0.0/8\",expiry-time=\"20300101Z\" {KEY}\n"
        );
        assert_eq!(judge_text(&text), []);
    }

    #[test]
    fn a_file_that_others_could_replace_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!judge_place(&folder.path().join("missing")).is_empty());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(judge_place(&link).iter().any(|finding| finding.message.contains("is a link")));
        assert_eq!(judge_place(Path::new("/etc/passwd")), []);
    }
}
