//! Who is calling: one type with a closed list of makers. Holding a `Caller` is the proof that somebody was identified.

mod gate;

pub use allod_audit::Door;
use allod_proto::{AppRef, Fault, FaultCode, Fingerprint, Role, RunId, named::RunSummary, recovery::Login};
use allod_rpc::server::PeerCredentials;
use allod_signing::{AppPattern, Grant, Verified};
pub use gate::{GateLogin, GateRefused};

/// Somebody who has been identified, with what they may do at most.
#[derive(Debug, Clone)]
pub struct Caller {
    key: Option<Fingerprint>,
    delegate: Option<Fingerprint>,
    name: String,
    role: Role,
    apps: Option<Vec<AppPattern>>,
    commands: Option<Vec<String>>,
    door: Door,
    source: Option<String>,
}

/// Why something happens without a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemReason {
    /// Desired state and actual state differ.
    Reconcile,
    /// An operation that a caller began is carried on after a restart.
    Resume,
}

impl Caller {
    /// Whoever signed a request that verified.
    #[must_use]
    pub fn signed(verified: &Verified, door: Door, source: Option<String>) -> Self {
        let Grant { role, apps, commands, .. } = verified.grant().clone();
        Self {
            key: Some(verified.fingerprint().clone()),
            delegate: verified.delegate().map(|delegate| delegate.fingerprint.clone()),
            name: verified.name().to_owned(),
            role,
            apps,
            commands,
            door,
            source,
        }
    }

    /// A process on this machine: uid 0 is owner. `None` for everybody else, who must sign.
    #[must_use]
    pub fn local(peer: &PeerCredentials) -> Option<Self> {
        (peer.uid() == 0).then(|| Self {
            key: None,
            delegate: None,
            name: "root on this machine".to_owned(),
            role: Role::Owner,
            apps: None,
            commands: None,
            door: Door::Socket,
            source: Some(format!("pid {}", peer.pid())),
        })
    }

    /// A process at the gate's socket that no login stands behind: of root, or of whom the executor itself runs as. `None` for
    /// everybody else.
    #[must_use]
    pub fn on_the_machine(peer: &PeerCredentials, own: u32) -> Option<Self> {
        Self::local(peer).or_else(|| {
            (peer.uid() == own).then(|| Self {
                key: None,
                delegate: None,
                name: format!("uid {own} on this machine"),
                role: Role::Owner,
                apps: None,
                commands: None,
                door: Door::Socket,
                source: Some(format!("pid {}", peer.pid())),
            })
        })
    }

    /// A process of one of these users at the recovery door. Its role is the lowest: it may do what is for recovery, and call
    /// nothing. `None` for everybody else.
    #[must_use]
    pub fn recovery(peer: &PeerCredentials, users: &[u32]) -> Option<Self> {
        users.contains(&peer.uid()).then(|| Self {
            key: None,
            delegate: None,
            name: if peer.uid() == 0 { "root on this machine".to_owned() } else { "recovery".to_owned() },
            role: Role::Caller,
            apps: None,
            commands: None,
            door: Door::Recovery,
            source: Some(format!("uid {}, pid {}", peer.uid(), peer.pid())),
        })
    }

    /// The same with what the recovery user was told of its login, for the record.
    #[must_use]
    pub fn told(self, login: &Login) -> Self {
        let mut source = self.source.unwrap_or_default();
        let said = [login.key.as_ref().map(ToString::to_string), login.from.map(|from| from.to_string())];
        for told in said.into_iter().flatten() {
            source.push_str(&format!(", told {told}"));
        }
        Self { source: Some(source), ..self }
    }

    /// The system itself, repeating what a caller once asked for.
    #[must_use]
    pub fn system(reason: SystemReason) -> Self {
        let name = match reason {
            SystemReason::Reconcile => "reconcile",
            SystemReason::Resume => "resume",
        };
        Self {
            key: None,
            delegate: None,
            name: name.to_owned(),
            role: Role::Viewer,
            apps: None,
            commands: None,
            door: Door::System,
            source: None,
        }
    }

    /// The key, where one signed.
    #[must_use]
    pub fn key(&self) -> Option<&Fingerprint> {
        self.key.as_ref()
    }

    /// The fresh key that signed in that key's name, where it did not sign itself.
    #[must_use]
    pub fn delegate(&self) -> Option<&Fingerprint> {
        self.delegate.as_ref()
    }

    /// Whose key it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a run is this caller's to see and to end: their own, and every one for operators and owners.
    #[must_use]
    pub fn sees_run(&self, run: &RunSummary) -> bool {
        let own = match (&self.key, &run.key) {
            (Some(key), Some(theirs)) => key == theirs,
            (None, None) => self.name == run.by,
            (Some(_), None) | (None, Some(_)) => false,
        };
        own || self.role >= Role::Operator
    }

    /// The ceiling.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The apps it is narrowed to; `None` is all.
    #[must_use]
    pub fn apps(&self) -> Option<&[AppPattern]> {
        self.apps.as_deref()
    }

    /// The commands it is narrowed to; `None` is all its role may.
    #[must_use]
    pub fn commands(&self) -> Option<&[String]> {
        self.commands.as_deref()
    }

    /// Through which door.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door
    }

    /// Where from, for the record.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Whether the app is among those the caller is narrowed to.
    #[must_use]
    pub fn may_see(&self, app: &AppRef) -> bool {
        self.apps.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(app)))
    }

    /// Nobody: for asking the rule what a grant would allow. Stays in this crate, so it can call nothing.
    pub(crate) fn hypothetical(key: Option<Fingerprint>, name: &str, grant: &Grant) -> Self {
        Self {
            key,
            delegate: None,
            name: name.to_owned(),
            role: grant.role,
            apps: grant.apps.clone(),
            commands: grant.commands.clone(),
            door: Door::Rpc,
            source: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn fixture_named(name: &str, role: Role, commands: Option<Vec<String>>) -> Self {
        Self { name: name.to_owned(), ..Self::fixture(role, None, commands) }
    }

    #[cfg(test)]
    pub(crate) fn fixture(role: Role, apps: Option<Vec<AppPattern>>, commands: Option<Vec<String>>) -> Self {
        Self {
            key: None,
            delegate: None,
            name: "test".to_owned(),
            role,
            apps,
            commands,
            door: Door::Rpc,
            source: None,
        }
    }
}

/// What somebody is told of a run that is not there, and of another's: the two look alike.
#[must_use]
pub fn no_run(id: &RunId) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no run {id}, or it was long ago"))
        .hint("`allod runs` lists the last ones; the record has all of them")
}
