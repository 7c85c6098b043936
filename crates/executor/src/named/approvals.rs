//! A second person's yes: kept until it is used once, or its time is over. It lasts over a restart, and so does its use.

use crate::{failure, layout::Layout};
use allod_commands::NamedCall;
use allod_proto::{
    Fault, FaultCode, Fingerprint, Role, Timestamp,
    named::{Approval, ApprovalRule},
};
use allod_store::Format;
use serde::{Deserialize, Serialize};

/// How many approvals wait to be used at most.
const WAITING: usize = 1000;

/// One yes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    approval: Approval,
    by: Fingerprint,
    role: Role,
}

/// What waits to be used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalsRecord {
    given: Vec<Given>,
}

impl Format for ApprovalsRecord {
    const NAME: &'static str = "approvals";
    const FORMAT: u32 = 1;
}

/// The approvals of one server.
#[derive(Debug)]
pub(super) struct Approvals {
    layout: Layout,
    record: ApprovalsRecord,
}

impl Approvals {
    pub(super) fn open(layout: Layout) -> Result<Self, String> {
        let record = allod_store::load(&layout.approvals()).map_err(|error| error.to_string())?;
        Ok(Self { layout, record: record.unwrap_or_default() })
    }

    /// Keeps a yes whose signature was verified.
    ///
    /// # Errors
    /// `Conflict` for one that was given before, `Invalid` for a time that is over or too long, `TooMany`.
    pub(super) fn give(
        &mut self,
        approval: Approval,
        rule: &ApprovalRule,
        by: Fingerprint,
        role: Role,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let left = approval.expires.0.saturating_sub(now.0);
        let most = rule.within_seconds.saturating_mul(1000);
        if left == 0 || left > most {
            let message =
                format!("an approval of {} is good for at most {} s", approval.name, rule.within_seconds);
            return Err(Fault::new(FaultCode::Invalid, message).hint("give an earlier end: --within"));
        }
        let mut next = self.record.clone();
        next.given.retain(|given| given.approval.expires > now);
        if next.given.iter().any(|given| given.approval.nonce == approval.nonce) {
            return Err(Fault::new(FaultCode::Conflict, "this very approval was given before"));
        }
        if next.given.len() >= WAITING {
            return Err(Fault::new(FaultCode::TooMany, "too many approvals wait to be used"));
        }
        next.given.push(Given { approval, by, role });
        self.save(next)
    }

    /// Uses up a yes for this call, if there is one.
    ///
    /// # Errors
    /// `Confirmation` when there is none by somebody else with the role it takes.
    pub(super) fn spend(
        &mut self,
        call: &NamedCall,
        caller: (&str, Option<&Fingerprint>),
        now: Timestamp,
    ) -> Result<Option<Fingerprint>, Fault> {
        let Some(rule) = &call.definition().approval else { return Ok(None) };
        let name = &call.definition().name;
        let fits = |given: &Given| {
            let Approval { name: approved, params, caller: whose, expires, .. } = &given.approval;
            let theirs = whose == caller.0 || caller.1.is_some_and(|key| whose == key.as_str());
            let second = caller.1 != Some(&given.by);
            approved == name
                && params == call.params()
                && theirs
                && second
                && *expires > now
                && given.role >= rule.role
        };
        let Some(at) = self.record.given.iter().position(fits) else {
            let params: Vec<String> =
                call.params().iter().map(|(name, value)| format!(" {name}={value}")).collect();
            let message = format!("{name} takes the approval of a second person with the role {}", rule.role);
            return Err(Fault::new(FaultCode::Confirmation, message).hint(format!(
                "they say yes with: allod commands approve {name}{} --caller '{}'",
                params.concat(),
                caller.0
            )));
        };
        let mut next = self.record.clone();
        let by = next.given.remove(at).by;
        // Used before it is acted on: a power cut in between costs a yes, and never gives two.
        self.save(next)?;
        Ok(Some(by))
    }

    fn save(&mut self, record: ApprovalsRecord) -> Result<(), Fault> {
        allod_store::save(&self.layout.approvals(), &record, 0o600)
            .map_err(|error| failure::of_store("keep the approvals", &error))?;
        self.record = record;
        Ok(())
    }
}
