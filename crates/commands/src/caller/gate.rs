//! The maker of callers who come through sshd. The gate's word on who logged in is taken from the gate's own user and from
//! nobody else, and it makes a caller of the lowest role or none.

use super::{Caller, Door};
use allod_proto::{Fault, FaultCode, Role, Timestamp, recovery::Login};
use allod_rpc::server::PeerCredentials;
use allod_signing::{EnrolledKeys, Grant, Revoked};

/// What the gate says of a login, and what the server knows of keys.
#[derive(Debug, Clone, Copy)]
pub struct GateLogin<'a> {
    /// Who logged in, as sshd told the gate.
    pub login: &'a Login,
    /// The port they came from.
    pub port: Option<u16>,
    /// The caller that the key's line names.
    pub caller: Option<&'a str>,
    /// Whether a certificate logged in, and not a key by itself.
    pub certificate: bool,
    /// Who may call.
    pub enrolled: &'a EnrolledKeys,
    /// Who may no longer.
    pub revoked: &'a Revoked,
}

/// Why a login is no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateRefused {
    /// Another user's process.
    #[error("this door is for the gate's own user")]
    Stranger,
    /// Nobody said which key.
    #[error("sshd did not say which key logged in")]
    NoKey,
    /// Nobody said from where.
    #[error("sshd did not say from where the login came")]
    NoSource,
    /// What a CA vouches for is not looked at here.
    #[error("a certificate logged in, and this door takes enrolled keys only")]
    Certificate,
    /// Not enrolled.
    #[error("the key that logged in is not enrolled on this server")]
    Unknown,
    /// Revoked.
    #[error("the key that logged in is revoked")]
    Revoked,
    /// Its time is over.
    #[error("the key that logged in has expired")]
    Expired,
    /// More than a caller.
    #[error("the key that logged in has the role {0}, and this door is for the role caller")]
    Role(Role),
    /// From elsewhere.
    #[error("the key that logged in may not call from there")]
    Source,
    /// The line of sshd's key file names somebody else.
    #[error("the key that logged in belongs to another caller than its line says")]
    Caller,
}

impl GateRefused {
    fn hint(&self) -> &'static str {
        match self {
            Self::Stranger => "root runs `allod gate run NAME`; others come through ssh",
            Self::NoKey | Self::NoSource => {
                "on the server: `ExposeAuthInfo yes`; `allod gate doctor` looks at the rest"
            }
            Self::Certificate => {
                "log in with the key itself: `ssh -o CertificateFile=none -o IdentitiesOnly=yes -i KEY`"
            }
            Self::Unknown => "an owner enrols it: `allod keys add KEY.pub --role caller`",
            Self::Revoked => "make a new key; an owner enrols it with `--role caller`",
            Self::Expired => "an owner enrols it anew, with a later time",
            Self::Role(_) => "use another key for ssh; this one calls by itself: `allod run NAME`",
            Self::Source => "call from an address that its `from=` has",
            Self::Caller => "on the server: `allod gate doctor`",
        }
    }
}

impl From<GateRefused> for Fault {
    fn from(refused: GateRefused) -> Self {
        // Whoever hears this has proven the key to sshd.
        Self::new(FaultCode::Refused, refused.to_string()).hint(refused.hint())
    }
}

impl Caller {
    /// Whoever logged in through sshd, as a process of one of `users` says. It has the enrolled key's limits.
    ///
    /// # Errors
    /// [`GateRefused`] with the first thing that is missing.
    pub fn gate(
        peer: &PeerCredentials,
        users: &[u32],
        told: GateLogin<'_>,
        now: Timestamp,
    ) -> Result<Self, GateRefused> {
        if !users.contains(&peer.uid()) {
            return Err(GateRefused::Stranger);
        }
        if told.certificate {
            return Err(GateRefused::Certificate);
        }
        let fingerprint = told.login.key.as_ref().ok_or(GateRefused::NoKey)?;
        let from = told.login.from.ok_or(GateRefused::NoSource)?;
        if told.revoked.has(fingerprint) {
            return Err(GateRefused::Revoked);
        }
        let key = told.enrolled.find(fingerprint).ok_or(GateRefused::Unknown)?;
        let Grant { role, apps, commands, .. } = key.grant().clone();
        if role != Role::Caller {
            return Err(GateRefused::Role(role));
        }
        if key.grant().is_expired(now) {
            return Err(GateRefused::Expired);
        }
        if !key.grant().allows_source(Some(from)) {
            return Err(GateRefused::Source);
        }
        let is_theirs = |caller: &str| caller == key.name() || caller == fingerprint.as_str();
        if !told.caller.is_none_or(is_theirs) {
            return Err(GateRefused::Caller);
        }
        Ok(Self {
            key: Some(fingerprint.clone()),
            delegate: None,
            name: key.name().to_owned(),
            role,
            apps,
            commands,
            door: Door::Gate,
            source: Some(told.source()),
        })
    }
}

impl GateLogin<'_> {
    /// Where from, for the record: `192.0.2.7 port 50000`.
    #[must_use]
    pub fn source(&self) -> String {
        let from = self
            .login
            .from
            .map_or_else(|| "an unknown address".to_owned(), |from| from.to_canonical().to_string());
        self.port.map_or_else(|| from.clone(), |port| format!("{from} port {port}"))
    }
}

#[cfg(test)]
mod tests;
