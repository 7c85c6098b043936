//! How a command ends when it does not end well: a fault for program and person, and an exit code that follows from
//! its code.

use crate::{inventory::InventoryError, keys::KeysError, known::KnownError, settings::SettingsError};
use allod_proto::{Fault, FaultCode};
use allod_rpc::client::ClientError;
use serde_json::{Map, Value};

/// A command that did not end well.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What is shown.
    pub fault: Box<Fault>,
    /// The exit code; follows from the fault's code but for an interruption and the app's own commands.
    pub exit: u8,
    /// What stands beside `ok` and `fault` in the JSON document.
    pub details: Map<String, Value>,
    /// Everything has been said on stderr already.
    pub said: bool,
}

/// The exit code when the app's own command on this machine failed, its build or `before_deploy`: nothing was deployed.
pub const COMMAND_FAILED: u8 = 11;
/// The exit code when `after_deploy` failed: the release serves.
pub const AFTER_FAILED: u8 = 12;
/// The exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

impl Failure {
    /// A failure with a code and a sentence.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Fault::new(code, message).into()
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FaultCode::Invalid, message)
    }

    /// Ctrl-C, after what is to be known was said.
    #[must_use]
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { exit: INTERRUPTED, ..Self::new(FaultCode::Cancelled, message) }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.fault.hint = Some(hint.into());
        self
    }

    /// The same with something to stand in the JSON document.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The same, about one server of several.
    #[must_use]
    pub fn on(self, server: &str) -> Self {
        self.with("server", server)
    }

    /// The same, when stderr has it all.
    #[must_use]
    pub fn already_said(mut self) -> Self {
        self.said = true;
        self
    }

    /// The document for `--json`.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("ok".to_owned(), Value::Bool(false));
        document.insert("fault".to_owned(), serde_json::to_value(&self.fault).unwrap_or_default());
        document.extend(self.details.clone());
        Value::Object(document)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { exit: fault.code.exit_code(), fault: Box::new(fault), details: Map::new(), said: false }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        error.to_fault().into()
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let hint = match &error {
            SettingsError::NoHome | SettingsError::Relative(_) => "set ALLOD_HOME to a folder of yours",
            SettingsError::Mesh(_) => "set it to one of these, or leave it away: auto is what it is then",
        };
        Self::usage(error.to_string()).hint(hint)
    }
}

impl From<InventoryError> for Failure {
    fn from(error: InventoryError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<KnownError> for Failure {
    fn from(error: KnownError) -> Self {
        Self::new(FaultCode::Internal, error.to_string()).hint(error.hint())
    }
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        Self::new(error.code(), error.to_string()).hint(error.hint())
    }
}
