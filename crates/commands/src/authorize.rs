//! The one place where it is decided what a caller may do. `allowed` and `authorize` are the same rule, so that what
//! `allod can` lists is what is enforced.

use crate::{
    Caller, Door,
    registry::{Choices, NamedCall, NoCall, Registry},
};
use allod_proto::{
    AppRef, Command, CommandName, Fault, FaultCode, Fingerprint, NamedCommandName, Role,
    command::{Kind, Scope},
    messages::named::Runnable,
};

/// The proof that this caller may do this command. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Permit {
    caller: Caller,
    command: CommandName,
    app: Option<AppRef>,
    call: Option<NamedCall>,
}

/// What stands behind `command.run` where named commands are run.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The definitions.
    pub registry: Registry,
    /// The lines of the files they name.
    pub choices: Choices,
    /// Whether all callers are stopped.
    pub held: bool,
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

    /// The named command with its exact arguments, where it was decided here.
    #[must_use]
    pub fn call(&self) -> Option<&NamedCall> {
        self.call.as_ref()
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
    /// The named command may not be run, or not so.
    #[error(transparent)]
    Named(#[from] NoCall),
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
        let (code, hint) = match &denied {
            Denied::Named(NoCall::NotYours { .. }) => {
                (FaultCode::NotAllowed, "`allod can` lists what you may run; over ssh, ask for `help`")
            }
            Denied::Named(NoCall::Parameters { .. }) => {
                (FaultCode::Invalid, "`allod can` lists the parameters; over ssh, ask for `help`")
            }
            Denied::Named(NoCall::Held) => {
                (FaultCode::NotAllowed, "an operator lets them in again with `allod gate resume`")
            }
            Denied::Role { .. }
            | Denied::Command { .. }
            | Denied::App { .. }
            | Denied::Whole { .. }
            | Denied::Recovery => (
                FaultCode::NotAllowed,
                "`allod can` lists what this key may do; an owner changes it with `allod keys add`",
            ),
        };
        Fault::new(code, denied.to_string()).hint(hint)
    }
}

/// Decides, and hands out the permit.
///
/// # Errors
/// [`Denied`] with the rule that stands in the way.
pub fn authorize(caller: &Caller, command: &Command) -> Result<Permit, Denied> {
    let name = command.name();
    allowed(caller, name, command.app())?;
    Ok(Permit { caller: caller.clone(), command: name, app: command.app().cloned(), call: None })
}

/// The same where named commands are run: which one, with which arguments, is part of the permit.
///
/// # Errors
/// [`Denied`] with the rule that stands in the way.
pub fn authorize_by(rules: &Rules, caller: &Caller, command: &Command) -> Result<Permit, Denied> {
    let permit = authorize(caller, command)?;
    let Command::CommandRun(ask) = command else { return Ok(permit) };
    if rules.held && caller.role() == Role::Caller {
        return Err(NoCall::Held.into());
    }
    let call = rules.registry.decide(caller, ask, &rules.choices)?;
    Ok(Permit { call: Some(call), ..permit })
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
    // Whoever recovers the server has a closed list of their own, and the server itself runs nothing in anybody's name.
    if command.runs_named() && matches!(caller.door(), Door::Recovery | Door::System) {
        return Err(Denied::Command { command });
    }
    // A key for named commands needs what goes with running them.
    let goes_with = |listed: &String| command.runs_named() && NamedCommandName::new(listed.as_str()).is_ok();
    let listed =
        |commands: &[String]| commands.iter().any(|listed| listed == command.as_str() || goes_with(listed));
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
    let caller = Caller::hypothetical(None, "", grant);
    CommandName::ALL.iter().copied().filter(|name| allowed(&caller, *name, None).is_ok()).collect()
}

/// What a key with this name and grant may run of a registry: by the same rule that is enforced.
#[must_use]
pub fn list_named(
    registry: &Registry,
    key: Option<&Fingerprint>,
    name: &str,
    grant: &allod_signing::Grant,
) -> Vec<Runnable> {
    let caller = Caller::hypothetical(key.cloned(), name, grant);
    match allowed(&caller, CommandName::CommandRun, None) {
        Ok(()) => registry.runnable(&caller),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
