//! `allod hub policy`: who may reach whom.

use super::{Place, read_text, unexpected};
use crate::coordination::FIRST_POLICY;
use allod_coordinator::policy::{Policy, PolicyError};
use allod_proto::{
    Fault, FaultCode,
    hub::{HubAnswer, HubAsk, PolicyChange},
    shown::safe,
};
use std::path::{Path, PathBuf};

/// Bytes of a policy.
const MOST: u64 = 1 << 20;

/// `allod hub policy`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  allod hub policy show > policy.json\n  allod hub policy test policy.json\n  \
    allod hub policy set policy.json\n\nRules allow, everything else is refused. A policy carries cases of its own (`tests`) and is \
    taken only while they hold."
)]
pub(crate) struct PolicyDeed {
    #[command(subcommand)]
    deed: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the policy of now
    #[command(after_help = "Example:\n  allod hub policy show > policy.json")]
    Show,
    /// Replace the policy; says what changes
    #[command(after_help = "Example:\n  allod hub policy set policy.json")]
    Set {
        /// A file, or `-` for stdin
        file: PathBuf,
    },
    /// Say what a policy would change, and whether its cases hold, without setting it
    #[command(after_help = "Example:\n  allod hub policy test policy.json")]
    Test {
        /// A file, or `-` for stdin
        file: PathBuf,
    },
    /// Print the policy that a network begins with
    #[command(after_help = "Example:\n  allod hub policy example > policy.json")]
    Example,
}

/// Does it.
pub(super) async fn run(place: &Place, deed: PolicyDeed) -> Result<(), Fault> {
    match deed.deed {
        What::Show => show(place).await,
        What::Example => {
            let policy: serde_json::Value = serde_json::from_str(FIRST_POLICY).unwrap_or_default();
            place.show.document(&serde_json::json!({ "policy": policy }), || FIRST_POLICY.to_owned())
        }
        What::Set { file } => change(place, &file, true).await,
        What::Test { file } => change(place, &file, false).await,
    }
}

async fn show(place: &Place) -> Result<(), Fault> {
    let HubAnswer::Policy { policy, is_first } = place.ask(&HubAsk::Policy {}).await? else {
        return Err(unexpected());
    };
    let document = serde_json::json!({ "policy": policy, "is_first": is_first });
    place.show.document(&document, || {
        if is_first {
            return FIRST_POLICY.to_owned();
        }
        format!("{}\n", serde_json::to_string_pretty(&policy).unwrap_or_default())
    })?;
    if is_first {
        place.show.note(
            "this is what a network begins with: machines without tags, your own, reach everything; tag:server reaches tag:hub on \
             9845 and nothing else; the rest is refused",
        );
    }
    Ok(())
}

async fn change(place: &Place, file: &Path, is_set: bool) -> Result<(), Fault> {
    let text = read_text(file, MOST)?;
    // The hub reads it again; here it is known which file it was.
    Policy::parse(&text).map_err(|error| in_file(file, &error))?;
    let ask = if is_set { HubAsk::SetPolicy { text } } else { HubAsk::TestPolicy { text } };
    let HubAnswer::PolicyChange(change) = place.ask(&ask).await? else { return Err(unexpected()) };
    place.show.document(&change, || in_words(&change))
}

fn in_file(file: &Path, error: &PolicyError) -> Fault {
    let message = match error {
        PolicyError::Unreadable { line, problem } if *line > 0 => {
            format!("{}:{line}: not a policy: {problem}", file.display())
        }
        other => format!("{}: {other}", file.display()),
    };
    Fault::new(FaultCode::Invalid, message).hint("`allod hub policy example` prints one")
}

fn in_words(change: &PolicyChange) -> String {
    let line = |sign: &str, rule: &String| format!("{sign} {}\n", safe(rule));
    let removed = change.removed.iter().map(|rule| line("-", rule));
    let mut text: String = removed.chain(change.added.iter().map(|rule| line("+", rule))).collect();
    if text.is_empty() {
        text.push_str("the rules stay as they are\n");
    }
    let cases = match change.cases {
        0 => "it has no cases of its own".to_owned(),
        1 => "its one case holds".to_owned(),
        many => format!("its {many} cases hold"),
    };
    let outcome = if change.is_set { "it is the policy now" } else { "nothing was changed" };
    text.push_str(&format!("{cases}; {outcome}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_read_is_told_with_file_and_line() {
        let error = Policy::parse("{\n\"allow\": [\n{\"from\": 1}]}").unwrap_err();
        let fault = in_file(Path::new("policy.json"), &error);
        assert!(fault.message.starts_with("policy.json:3: not a policy: "), "{fault:?}");
        let error = Policy::parse("[]").unwrap_err();
        assert!(in_file(Path::new("p"), &error).message.starts_with("p: not a policy: it is no JSON object"));
    }
}
