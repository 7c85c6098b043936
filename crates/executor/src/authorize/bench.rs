//! What unit tests of this crate share: an executor with one owner, whose requests it signs.

use crate::{Executor, groups::Base, isolation::Isolation, layout::Layout, perform::perform};
use allod_proto::{
    Digest, FaultCode, Nonce,
    executor::{Done, SignedCall},
};
use allod_signing::{KeySigner, RequestFields, Route, sign_request};
use std::sync::Arc;

pub(crate) struct Bench {
    pub(crate) executor: Arc<Executor>,
    pub(crate) owner: KeySigner,
    pub(crate) _folder: tempfile::TempDir,
}

pub(crate) async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
    // The agent's folder is the installer's to make.
    std::fs::create_dir_all(layout.agent()).unwrap();
    let owner = KeySigner::generate([1; 32], "owner");
    let line = format!("role=owner {}", owner.public_openssh());
    let executor = Executor::open(layout, Isolation::SameUser, &Base::None, Some(&line)).await.unwrap();
    Bench { executor, owner, _folder: folder }
}

impl Bench {
    pub(crate) fn signed_by(
        &self,
        signer: &KeySigner,
        route: (&str, &str),
        body: &str,
        nonce: &str,
    ) -> SignedCall {
        let epoch = self.executor.window().epoch().clone();
        let fields = RequestFields {
            audience: &self.executor.identity(),
            epoch: &epoch,
            route: Route::new(route.0, route.1).unwrap(),
            timestamp: self.executor.now(),
            nonce: &Nonce::new(nonce.repeat(22)).unwrap(),
            body: &Digest::of(body),
        };
        let head = sign_request(signer, &fields).unwrap();
        SignedCall {
            method: route.0.to_owned(),
            path: route.1.to_owned(),
            headers: head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            body: body.to_owned(),
            source: None,
            door: "rpc".to_owned(),
        }
    }

    pub(crate) async fn code(&self, call: &SignedCall) -> FaultCode {
        perform(&self.executor, call).await.unwrap_err().code
    }

    /// The next life over the same state.
    pub(crate) async fn reopened(self) -> Self {
        let Self { executor, owner, _folder } = self;
        let layout = executor.layout().clone();
        executor.close(false).await;
        drop(executor);
        let executor = Executor::open(layout, Isolation::SameUser, &Base::None, None).await.unwrap();
        Self { executor, owner, _folder }
    }

    /// A command of the owner's, through every check.
    pub(crate) async fn done(&self, body: &str, nonce: &str) -> Result<Done, allod_proto::Fault> {
        let call = self.signed_by(&self.owner, ("POST", "/rpc"), body, nonce);
        perform(&self.executor, &call).await
    }
}
