//! `allod secrets import`: the secrets of a `.env` file, or of a JSON object of texts. All or none: what is wrong with the
//! file is told with its lines before anything is sent.

use super::{
    Bring, dotenv,
    send::{Value, send},
    value::from_file_or_stdin,
};
use crate::{
    commands::target::{Which, names},
    failure::Failure,
    session::Session,
};
use allod_proto::SecretName;
use clap::Args;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// `allod secrets import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod secrets import .env\n  allod secrets import secrets.json --app blog/staging --restart"
)]
pub(super) struct Import {
    /// A .env file (NAME=value, quotes, several lines in quotes) or a JSON object; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    bring: Bring,
    #[command(flatten)]
    which: Which,
}

/// Runs it.
pub(super) async fn run(session: &Session, import: &Import) -> Result<(), Failure> {
    let target = import.which.target(session)?;
    let bytes = from_file_or_stdin(&import.file)?;
    let values = read(&bytes).map_err(|complaints| {
        complaints.iter().for_each(|complaint| session.output.note(complaint));
        let file = import.file.display();
        Failure::usage(format!(
            "{file}: {} lines or values can't be taken; nothing was set",
            complaints.len()
        ))
        .with("complaints", complaints)
    })?;
    if values.is_empty() {
        return Err(Failure::usage(format!("{} has no secrets; nothing was set", import.file.display())));
    }
    let replies = send(session, &target.app, &target.servers, &values).await?;
    import.bring.bring(session, &target, &replies).await?;
    let set: Vec<&SecretName> = values.iter().map(|(name, _)| name).collect();
    let servers: Vec<_> = target.servers.iter().map(|server| server.name.clone()).collect();
    let value = serde_json::json!({"app": target.app, "set": set, "servers": servers});
    session.output.document(&value, |_| {
        let set: Vec<&str> = set.iter().map(|name| name.as_str()).collect();
        format!("set for {} on {}: {}\n", target.app, names(&target.servers), set.join(", "))
    })
}

/// The values; or what is wrong, which never shows one.
fn read(bytes: &[u8]) -> Result<Vec<(SecretName, Value)>, Vec<String>> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') { from_json(bytes) } else { dotenv::parse(bytes) }
}

/// JSON's own error could quote a value, so only its place is told.
fn from_json(bytes: &[u8]) -> Result<Vec<(SecretName, Value)>, Vec<String>> {
    let object: std::collections::BTreeMap<String, Text> =
        serde_json::from_slice(bytes).map_err(|error| {
            vec![format!(
                "line {}, column {}: not a JSON object whose values are texts, each name once",
                error.line(),
                error.column()
            )]
        })?;
    let (mut values, mut complaints) = (Vec::new(), Vec::new());
    for (name, Text(value)) in object {
        match SecretName::new(name) {
            Ok(name) => values.push((name, value)),
            Err(error) => complaints.push(error.to_string()),
        }
    }
    if complaints.is_empty() { Ok(values) } else { Err(complaints) }
}

/// A text that is wiped.
struct Text(Value);

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text.into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_is_not_texts_is_refused_without_a_value() {
        for bad in ["{\"A\": 5}", "{\"A\": \"hush\", }", "{\"A\": {\"B\": \"hush\"}}", "{\"a\": \"hush\"}"] {
            let complaints = read(bad.as_bytes()).unwrap_err();
            assert!(!complaints.concat().contains("hush"), "{complaints:?}");
        }
    }

    #[test]
    fn json_keeps_exact_texts() {
        let values = read(b" {\"A\": \"x\\n\\\"y\\\"\", \"B\": \"\"}").unwrap();
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(values, [("A", &b"x\n\"y\""[..]), ("B", b"")]);
    }
}
