//! What the recovery user may do: the closed list of [`RecoveryAction`], and no command. Whoever else is known may not.

use crate::{Caller, Denied, Door};
use allod_proto::recovery::RecoveryAction;

/// The proof that this caller may do this to recover the server. Only [`recover`] makes one.
#[derive(Debug)]
pub struct RecoveryPermit {
    caller: Caller,
    action: RecoveryAction,
}

impl RecoveryPermit {
    /// Who may.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What.
    #[must_use]
    pub fn action(&self) -> &RecoveryAction {
        &self.action
    }
}

/// Decides, and hands out the permit.
///
/// # Errors
/// [`Denied`] for a caller who came by another door.
pub fn recover(caller: &Caller, action: RecoveryAction) -> Result<RecoveryPermit, Denied> {
    match caller.door() {
        Door::Recovery => Ok(RecoveryPermit { caller: caller.clone(), action }),
        Door::Rpc | Door::Socket | Door::Gate | Door::System => Err(Denied::Recovery),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SystemReason, allowed};
    use allod_proto::{CommandName, Role, command::Kind};
    use tokio::net::UnixStream;

    async fn peer() -> allod_rpc::server::PeerCredentials {
        allod_rpc::server::PeerCredentials::of(&UnixStream::pair().unwrap().0).unwrap()
    }

    #[tokio::test]
    async fn who_did_not_come_by_the_recovery_door_recovers_nothing_whatever_their_role() {
        let owner = Caller::fixture(Role::Owner, None, None);
        for caller in [owner, Caller::system(SystemReason::Reconcile)] {
            assert_eq!(recover(&caller, RecoveryAction::Doctor {}).unwrap_err(), Denied::Recovery);
        }
    }

    #[tokio::test]
    async fn a_peer_of_another_user_is_no_recovery_user() {
        let peer = peer().await;
        assert!(Caller::recovery(&peer, &[]).is_none());
        assert!(Caller::recovery(&peer, &[peer.uid().wrapping_add(1)]).is_none());
        assert!(Caller::recovery(&peer, &[peer.uid()]).is_some());
    }

    #[tokio::test]
    async fn the_recovery_user_may_call_no_command_but_what_anybody_may_ask() {
        let peer = peer().await;
        let caller = Caller::recovery(&peer, &[peer.uid()]).unwrap();
        for name in CommandName::ALL {
            let everybodys = name.kind() == Kind::Probe || *name == CommandName::KeysCan;
            assert_eq!(allowed(&caller, *name, None).is_ok(), everybodys, "{name}");
        }
        assert!(recover(&caller, RecoveryAction::Restart {}).is_ok());
    }
}
