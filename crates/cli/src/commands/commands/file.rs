//! A file of the registry on this machine: its name is the command's.

use crate::failure::Failure;
use allod_commands::registry::parse;
use allod_proto::{FaultCode, NamedCommandName, named::Definition};
use std::path::Path;

/// A file that was read and understood.
pub(super) struct File {
    pub(super) text: String,
    pub(super) definition: Definition,
}

impl File {
    /// Reads it.
    ///
    /// # Errors
    /// [`Failure`] with every complaint, each with its line.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let stem =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
        let stem = stem.ok_or_else(|| {
            Failure::usage(format!("{shown} does not end in .toml"))
                .hint("the file is called as the command is: NAME.toml")
        })?;
        let name =
            NamedCommandName::new(stem).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(FaultCode::NotFound, format!("{shown}: {error}")))?;
        let definition = parse(&name, &text).map_err(|wrong| {
            let lines: Vec<String> = wrong.iter().map(|it| it.about(&shown.to_string())).collect();
            Failure::new(FaultCode::Invalid, lines.join("\n"))
        })?;
        Ok(Self { text, definition })
    }
}
