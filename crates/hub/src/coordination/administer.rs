//! What a person asks of the coordinator on the hub's own machine.

use super::{Coordination, node, policy};
use allod_coordinator::{
    CoordinatorError, NodeStatus,
    keys::KeysError,
    policy::{Policy, PolicyError},
    state::{JoinKeySpec, Refusal},
    store::StoreFault,
};
use allod_meshproto::{control::NodeId, token::SignedNoiseKey};
use allod_proto::{
    Fault, FaultCode, Timestamp,
    hub::{Expiry, HubAnswer, HubAsk, HubNodes, TokenText},
};
use std::{path::PathBuf, time::Duration};

/// A join key lives no longer than this.
const LONGEST_KEY: Duration = Duration::from_secs(366 * 86_400);
/// Nor does a Noise key answer beside its successor.
const LONGEST_OVERLAP: Duration = Duration::from_secs(366 * 86_400);
/// Where a backup lies until it is told, in the hub's folder.
const BACKUP: &str = "backup.sqlite";

/// An answer, and a file whose bytes follow it.
pub(crate) type Told = (HubAnswer, Option<std::fs::File>);

impl Coordination {
    /// Does what is asked.
    ///
    /// # Errors
    /// The fault that the person is told.
    pub(crate) async fn obey(&self, ask: HubAsk, now: Timestamp) -> Result<Told, Fault> {
        let answer = match ask {
            HubAsk::Backup {} => return self.backup().await,
            HubAsk::Nodes {} => self.list(now),
            HubAsk::Node { node } => self.told(self.find(&node)?.node.id, now)?,
            HubAsk::Waiting {} => self.who_waits(),
            HubAsk::Approve { id, tags, name } => {
                let id = self.coordinator.approve(id, tags, name).await.map_err(|error| fault(&error))?;
                self.told(id, now)?
            }
            HubAsk::Reject { id } => {
                self.coordinator.reject(id).await.map_err(|error| fault(&error))?;
                done("it was sent away")
            }
            HubAsk::Rename { node, name } => {
                self.change(&node, now, async |id| self.coordinator.rename(id, name).await).await?
            }
            HubAsk::Tag { node, tags } => {
                self.change(&node, now, async |id| self.coordinator.set_tags(id, tags).await).await?
            }
            HubAsk::Expire { node, when } => {
                let expiry = match when {
                    Expiry::Never => None,
                    Expiry::Now => Some(now),
                    Expiry::At(at) => Some(at),
                };
                self.change(&node, now, async |id| self.coordinator.set_expiry(id, expiry).await).await?
            }
            HubAsk::Delete { node } => self.delete(&node).await?,
            HubAsk::JoinToken { uses, seconds, tags, ephemeral } => {
                let lasting = Duration::from_secs(seconds);
                self.join_token(uses, lasting, (tags, ephemeral), now).await?
            }
            HubAsk::Keys {} => {
                let keys = self.coordinator.join_keys();
                HubAnswer::Keys { keys: keys.iter().map(|key| node::tell_key(key, now)).collect() }
            }
            HubAsk::RevokeKey { id } => {
                self.coordinator.revoke_join_key(id).await.map_err(|error| fault(&error))?;
                done("it lets nobody in any more; whom it let in stays")
            }
            HubAsk::Policy {} => self.tell_policy()?,
            HubAsk::SetPolicy { text } => self.set_policy(&text, true).await?,
            HubAsk::TestPolicy { text } => self.set_policy(&text, false).await?,
            HubAsk::PrepareNoiseKey {} => {
                let prepared = self.coordinator.prepare_noise_key().await;
                let (key, serial) = prepared.map_err(|error| fault(&error))?;
                HubAnswer::NoiseKey { key: key.to_string(), serial }
            }
            HubAsk::TakeNoiseKey { signed, overlap_seconds } => {
                self.take_noise_key(signed, Duration::from_secs(overlap_seconds)).await?
            }
            HubAsk::Acknowledge { .. } | HubAsk::Forget { .. } => {
                return Err(Fault::new(FaultCode::Internal, "that is not the coordinator's"));
            }
        };
        Ok((answer, None))
    }

    fn list(&self, now: Timestamp) -> HubAnswer {
        let nodes = self.coordinator.nodes();
        HubAnswer::Nodes(HubNodes {
            domain: self.domain.clone(),
            nodes: nodes.iter().map(|status| node::tell(status, now)).collect(),
            waiting: self.coordinator.waiting().len(),
            root_key: self.root_key(),
            without_relay: without_relay(
                self.urls.first().is_some_and(|url| url.starts_with("https:")),
                nodes.iter().map(|status| (status.node.is_ours(), status.node.name.as_str())),
            ),
        })
    }

    fn who_waits(&self) -> HubAnswer {
        let mut waiting = self.coordinator.waiting();
        waiting.sort_by_key(|machine| machine.since);
        HubAnswer::Waiting { machines: waiting.iter().map(|machine| node::tell_waiting(machine)).collect() }
    }

    async fn change(
        &self,
        node: &str,
        now: Timestamp,
        change: impl AsyncFnOnce(NodeId) -> Result<(), CoordinatorError>,
    ) -> Result<HubAnswer, Fault> {
        let id = self.find(node)?.node.id;
        change(id).await.map_err(|error| fault(&error))?;
        self.told(id, now)
    }

    fn told(&self, id: NodeId, now: Timestamp) -> Result<HubAnswer, Fault> {
        let is_it = |status: &NodeStatus| status.node.id == id;
        let status = self.coordinator.nodes().into_iter().find(is_it);
        let status = status.ok_or_else(|| Fault::new(FaultCode::NotFound, "the node is gone"))?;
        Ok(HubAnswer::Node(node::tell(&status, now)))
    }

    async fn delete(&self, node: &str) -> Result<HubAnswer, Fault> {
        let status = self.find(node)?;
        self.coordinator.delete(status.node.id).await.map_err(|error| fault(&error))?;
        let node = &status.node;
        Ok(done(format!(
            "node {} ({}, {}) is gone; its address is never given again",
            node.id.0, node.name, node.v4
        )))
    }

    async fn join_token(
        &self,
        uses: Option<u32>,
        lasting: Duration,
        (tags, ephemeral): (Vec<String>, bool),
        now: Timestamp,
    ) -> Result<HubAnswer, Fault> {
        if uses == Some(0) || lasting.is_zero() || lasting > LONGEST_KEY {
            let message = "a join key lets in at least one machine, for a second to 366 days";
            return Err(Fault::new(FaultCode::Invalid, message));
        }
        self.refuse_overdue()?;
        let expiry = Some(now.plus(lasting));
        let spec = JoinKeySpec { tags, uses, expiry, ephemeral, node_lifetime_ms: None };
        let made = self.coordinator.create_join_key(spec).await;
        let (key, text) = made.map_err(|error| fault(&error))?;
        let token = self.coordinator.join_token(self.urls.clone(), text).map_err(|error| fault(&error))?;
        Ok(HubAnswer::JoinToken {
            key: node::tell_key(&key, now),
            token: TokenText(token.to_text()),
            warning: self.root_key(),
        })
    }

    fn tell_policy(&self) -> Result<HubAnswer, Fault> {
        let now = self.coordinator.policy();
        let is_first = policy::first().is_ok_and(|first| first == *now);
        let told = serde_json::to_value(now.as_ref());
        let policy = told.map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
        Ok(HubAnswer::Policy { policy, is_first })
    }

    async fn set_policy(&self, text: &str, is_set: bool) -> Result<HubAnswer, Fault> {
        let new = Policy::parse(text).map_err(|error| policy_fault(&error))?;
        self.coordinator.test_policy(&new).map_err(|error| policy_fault(&error))?;
        let change = policy::change(&self.coordinator.policy(), &new, is_set);
        if is_set {
            self.coordinator.set_policy(new).await.map_err(|error| fault(&error))?;
        }
        Ok(HubAnswer::PolicyChange(change))
    }

    async fn take_noise_key(&self, signed: serde_json::Value, overlap: Duration) -> Result<HubAnswer, Fault> {
        let wrong = "not what `allod hub root-key sign` prints";
        let signed: SignedNoiseKey =
            serde_json::from_value(signed).map_err(|_| Fault::new(FaultCode::Invalid, wrong))?;
        if overlap > LONGEST_OVERLAP {
            return Err(Fault::new(FaultCode::Invalid, "the key before answers for 366 days at most"));
        }
        self.coordinator.rotate_noise_key(signed, overlap).await.map_err(|error| fault(&error))?;
        Ok(done("the new Noise key is in use"))
    }

    fn backup_file(&self) -> PathBuf {
        self.state.join("hub").join(BACKUP)
    }

    /// What a backup that was cut off by the hub's end left behind.
    pub(super) fn sweep(&self) {
        let _ = std::fs::remove_file(self.backup_file());
        let _ = std::fs::remove_file(self.backup_file().with_extension("sqlite.part"));
    }

    /// The file has no name any more when it is told.
    async fn backup(&self) -> Result<Told, Fault> {
        let _one_at_a_time = self.backups.lock().await;
        let path = self.backup_file();
        self.coordinator.backup(path.clone()).await.map_err(|error| fault(&error))?;
        let opened = std::fs::File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let removed = std::fs::remove_file(&path);
        let failed =
            |error: std::io::Error| Fault::new(FaultCode::Internal, format!("{}: {error}", path.display()));
        let (bytes, file) = opened.map_err(failed)?;
        removed.map_err(failed)?;
        Ok((HubAnswer::Backup { bytes }, Some(file)))
    }
}

fn done(message: impl Into<String>) -> HubAnswer {
    HubAnswer::Done { message: message.into() }
}

/// What a person is told of an error; the log has its causes.
fn fault(error: &CoordinatorError) -> Fault {
    match error {
        CoordinatorError::Refused(refusal) => refused(refusal),
        CoordinatorError::Keys(KeysError::NotSigned(_) | KeysError::NotPrepared) => {
            Fault::new(FaultCode::Conflict, cause(error))
                .hint("`allod hub noise-key prepare` begins anew; sign what it prints, under its number")
        }
        CoordinatorError::Token(_) | CoordinatorError::Settings(_) => {
            Fault::new(FaultCode::Invalid, error.to_string())
        }
        CoordinatorError::Store(_) | CoordinatorError::Keys(_) => {
            let message = cause(error);
            tracing::error!(error = message, "the coordinator could not do it");
            let code = match error {
                CoordinatorError::Store(StoreFault::Ended) => FaultCode::Unreachable,
                _ => FaultCode::Internal,
            };
            Fault::new(code, message)
        }
    }
}

fn refused(refusal: &Refusal) -> Fault {
    let code = match refusal {
        Refusal::NotWaiting | Refusal::NoNode | Refusal::NoJoinKey => FaultCode::NotFound,
        Refusal::NameTaken | Refusal::ForeignKey => FaultCode::Conflict,
        Refusal::Name | Refusal::Tag | Refusal::NoKey | Refusal::JoinKey => FaultCode::Invalid,
        Refusal::Full | Refusal::TooManyWait => FaultCode::TooMany,
        Refusal::Random => FaultCode::Internal,
        Refusal::Policy(error) => return policy_fault(error),
    };
    Fault::new(code, refusal.to_string())
}

fn policy_fault(error: &PolicyError) -> Fault {
    let code = match error {
        PolicyError::TooLarge => FaultCode::TooLarge,
        PolicyError::Case { .. } => FaultCode::Conflict,
        PolicyError::Unreadable { .. } | PolicyError::EmptyRule(_) | PolicyError::CaseOfMany(_) => {
            FaultCode::Invalid
        }
    };
    Fault::new(code, error.to_string())
}

fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Who waits for a relay in vain: a stock client speaks to one over HTTPS only.
fn without_relay<'a>(is_secure: bool, nodes: impl Iterator<Item = (bool, &'a str)>) -> Vec<String> {
    nodes.filter(|(is_ours, _)| !is_ours && !is_secure).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stock_clients_and_only_without_a_certificate_lack_the_relay() {
        let nodes = [(true, "web1"), (false, "phone")];
        assert_eq!(without_relay(false, nodes.into_iter()), ["phone"]);
        assert!(without_relay(true, nodes.into_iter()).is_empty());
    }
}
