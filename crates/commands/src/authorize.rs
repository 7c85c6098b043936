//! The one place where it is decided what a caller may do. `allowed` and `authorize` are the same rule, so that what
//! `allod can` lists is what is enforced.

use crate::Caller;
use allod_proto::{
    AppRef, Command, CommandName, Fault, FaultCode,
    command::{Kind, Scope},
};

/// The proof that this caller may do this command. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Permit {
    caller: Caller,
    command: CommandName,
    app: Option<AppRef>,
}

impl Permit {
    /// Who may.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What.
    #[must_use]
    pub fn command(&self) -> CommandName {
        self.command
    }

    /// On which app, where the command names one.
    #[must_use]
    pub fn app(&self) -> Option<&AppRef> {
        self.app.as_ref()
    }

    /// Whether an answer may speak of this app.
    #[must_use]
    pub fn sees(&self, app: &AppRef) -> bool {
        self.caller.may_see(app)
    }
}

/// Why a known caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role is too low.
    #[error("the role {have} may not call {command}; it takes {needs}")]
    Role {
        /// The caller's.
        have: allod_proto::Role,
        /// The command's.
        needs: allod_proto::Role,
        /// The command.
        command: CommandName,
    },
    /// The key's `commands=` does not list it.
    #[error("this key may not call {command}")]
    Command {
        /// The command.
        command: CommandName,
    },
    /// The key's `apps=` does not cover it.
    #[error("this key may not call {command} for {app}")]
    App {
        /// The command.
        command: CommandName,
        /// The app.
        app: AppRef,
    },
    /// The command is about the whole server and the key is narrowed to apps.
    #[error("{command} is about the whole server, and this key is narrowed to some apps")]
    Whole {
        /// The command.
        command: CommandName,
    },
    /// It is for the recovery user.
    #[error("only the recovery user may do that")]
    Recovery,
}

impl Denied {
    /// As a fault with what this caller can do about it.
    #[must_use]
    pub fn to_fault(&self, caller: &Caller) -> Fault {
        let fault = Fault::from(self.clone());
        if caller.delegate().is_none() {
            return fault;
        }
        fault.hint(
            "the request was signed under a delegation, which may narrow the role: `allod logout`, or sign with the \
             key itself by `--key FILE`",
        )
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        Fault::new(FaultCode::NotAllowed, denied.to_string())
            .hint("`allod can` lists what this key may do; an owner changes it with `allod keys add`")
    }
}

/// Decides, and hands out the permit.
///
/// # Errors
/// [`Denied`] with the rule that stands in the way.
pub fn authorize(caller: &Caller, command: &Command) -> Result<Permit, Denied> {
    let name = command.name();
    allowed(caller, name, command.app())?;
    Ok(Permit { caller: caller.clone(), command: name, app: command.app().cloned() })
}

/// The rule itself. `app` is the one that the command names; `None` asks about a command without naming one.
///
/// # Errors
/// [`Denied`] with the rule that stands in the way.
pub fn allowed(caller: &Caller, command: CommandName, app: Option<&AppRef>) -> Result<(), Denied> {
    if command.kind() == Kind::Probe {
        return Ok(());
    }
    if caller.role() < command.role() {
        return Err(Denied::Role { have: caller.role(), needs: command.role(), command });
    }
    let listed = |commands: &[String]| commands.iter().any(|listed| listed == command.as_str());
    if !caller.commands().is_none_or(listed) {
        return Err(Denied::Command { command });
    }
    if caller.apps().is_some() && command.scope() == Scope::Whole {
        return Err(Denied::Whole { command });
    }
    match app {
        Some(app) if !caller.may_see(app) => Err(Denied::App { command, app: app.clone() }),
        Some(_) | None => Ok(()),
    }
}

/// What a key with this grant may call: by the same rule that is enforced.
#[must_use]
pub fn list(grant: &allod_signing::Grant) -> Vec<CommandName> {
    let caller = Caller::hypothetical(grant);
    CommandName::ALL.iter().copied().filter(|name| allowed(&caller, *name, None).is_ok()).collect()
}

#[cfg(test)]
mod tests;
