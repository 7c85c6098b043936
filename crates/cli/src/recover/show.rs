//! What a person sees of an answer.

use crate::render::safe;
use allod_proto::{
    Fault,
    messages::{
        keys::KeysListReply,
        server::{Finding, FindingLevel},
    },
    recovery::{RecoveryDone, ServerIdentity},
};

/// A document on one line.
pub(super) fn json(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

/// An answer.
pub(super) fn done(done: &RecoveryDone) -> String {
    match done {
        RecoveryDone::Doctor(doctor) => doctor.findings.iter().map(finding).collect(),
        RecoveryDone::Identity(identity) => who(identity),
        RecoveryDone::Keys(list) => keys(list),
        RecoveryDone::Restarting {} => {
            "executor and agent begin anew; apps run on. `doctor` says in a moment how it went.\n".to_owned()
        }
    }
}

/// A refusal.
pub(super) fn fault(fault: &Fault) -> String {
    let hint = fault.hint.iter().flat_map(|hint| hint.lines()).map(|line| format!("  {}\n", safe(line)));
    format!("allod recover: {}\n{}", safe(&fault.message), hint.collect::<String>())
}

/// One thing that was looked at.
pub(crate) fn finding(finding: &Finding) -> String {
    let level = match finding.level {
        FindingLevel::Bad => "BAD",
        FindingLevel::Warning => "warning",
        FindingLevel::Good => "good",
    };
    let fix = finding.fix.as_ref().map(|fix| format!("                 fix: {}\n", safe(fix)));
    format!("{level:<8} {:<8} {}\n{}", safe(&finding.about), safe(&finding.message), fix.unwrap_or_default())
}

fn who(it: &ServerIdentity) -> String {
    let mut text = format!(
        "identity   {}\nrecord key {}\nrecipient  {}\nrecord     {} lines, {}\n",
        it.identity,
        it.record_key,
        safe(&it.recipient),
        it.record.seq,
        it.record.hash
    );
    for link in &it.succession {
        text.push_str(&format!("was        {}\n", link.old));
    }
    text
}

fn keys(list: &KeysListReply) -> String {
    let mut text = String::new();
    for key in &list.keys {
        text.push_str(&format!("{:<8} {} {}\n", key.role.to_string(), key.fingerprint, safe(&key.name)));
    }
    for complaint in &list.complaints {
        text.push_str(&format!("nobody   {}\n", safe(complaint)));
    }
    for revoked in &list.revoked {
        text.push_str(&format!("revoked  {}\n", safe(revoked)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::{FaultCode, messages::server::ServerDoctorReply};

    #[test]
    fn what_could_fool_a_terminal_is_shown_as_an_escape() {
        let text = fault(&Fault::new(FaultCode::Invalid, "a\u{1b}[2Jb").hint("c\u{202e}d\ne"));
        assert_eq!(text, "allod recover: a\\u{1b}[2Jb\n  c\\u{202e}d\n  e\n");
    }

    #[test]
    fn a_finding_has_its_fix_below_it() {
        let bad = Finding {
            about: "agent".to_owned(),
            level: FindingLevel::Bad,
            message: "no agent is attached".to_owned(),
            fix: Some("restart".to_owned()),
        };
        let text = done(&RecoveryDone::Doctor(ServerDoctorReply { findings: vec![bad] }));
        assert_eq!(text, "BAD      agent    no agent is attached\n                 fix: restart\n");
    }
}
