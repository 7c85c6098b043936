//! `allod commands examples`: definitions to begin with. Each passes lint without a warning.

use crate::{failure::Failure, session::Session};
use allod_proto::FaultCode;
use clap::Args;
use serde_json::json;

/// `allod commands examples`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod commands examples\n  allod commands examples deploy-site > deploy-site.toml"
)]
pub(super) struct Examples {
    /// Which; all of their names if not given
    name: Option<String>,
}

/// The examples: name and text.
const EXAMPLES: &[(&str, &str)] = &[
    ("database-dump", include_str!("examples/database-dump.toml")),
    ("deploy-site", include_str!("examples/deploy-site.toml")),
    ("install-package", include_str!("examples/install-package.toml")),
    ("post-message", include_str!("examples/post-message.toml")),
    ("renew-certificates", include_str!("examples/renew-certificates.toml")),
    ("restart-service", include_str!("examples/restart-service.toml")),
    ("rotate-logs", include_str!("examples/rotate-logs.toml")),
];

/// Runs it.
pub(super) fn run(session: &Session, examples: &Examples) -> Result<(), Failure> {
    let Some(name) = &examples.name else {
        let names: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        return session.output.document(&json!({ "examples": names }), |_| {
            names.iter().map(|name| format!("{name}\n")).collect()
        });
    };
    let found = EXAMPLES.iter().find(|(known, _)| known == name).ok_or_else(|| {
        Failure::new(FaultCode::NotFound, format!("there is no example {name:?}"))
            .hint("`allod commands examples` lists them")
    })?;
    session.output.document(&json!({ "name": found.0, "text": found.1 }), |_| found.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_commands::registry::{lint, parse};
    use allod_proto::NamedCommandName;

    #[test]
    fn every_example_is_good_and_nothing_in_it_needs_a_second_look() {
        for (name, text) in EXAMPLES {
            let name = NamedCommandName::new(*name).unwrap();
            let definition = parse(&name, text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            assert_eq!(lint(&definition), Vec::<String>::new(), "{name}");
        }
    }
}
