//! What `add` and `trust` have in common: looking at a server that is not trusted yet, and the signed call that makes
//! its claims true.

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::{
    FaultCode, Fingerprint, messages::server::ServerStatus, messages::server::ServerStatusReply,
};
use allod_rpc::client::{self, Client};
use std::net::SocketAddr;

/// What a server claims without a signature.
pub(super) struct Claims {
    pub(super) identity: Fingerprint,
    pub(super) name: String,
}

/// Names the step in which something failed, and that nothing was saved.
pub(super) fn step<T>(name: &str, outcome: Result<T, Failure>) -> Result<T, Failure> {
    outcome.map_err(|mut failure| {
        failure.fault.message = format!("{name}: {} (nothing was saved)", failure.fault.message);
        failure.with("step", name)
    })
}

/// Refuses an address that the management API can't have, unless it was said that it may.
pub(super) fn check_address(address: SocketAddr, anywhere: bool) -> Result<(), Failure> {
    if anywhere || allod_mesh::is_mesh_address(address.ip()) || address.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::new(
        FaultCode::Invalid,
        format!("{} is not an address of the mesh (100.64.0.0/10 or fd7a:115c:a1e0::/48)", address.ip()),
    )
    .hint(
        "the management API answers only on the mesh: use the server's address there. \
         For a network of your own that encrypts, --outside-mesh says so",
    ))
}

/// Asks both unsigned probes; they must tell of the same server.
pub(super) async fn claims(session: &Session, address: SocketAddr) -> Result<Claims, Failure> {
    let dialer = session.dialer(address).await?;
    let hello = client::hello_over(&*dialer, address).await?;
    let about = client::server_info(&*dialer, address).await?;
    if about.identity != hello.identity {
        let message =
            format!("two identities answer at {address}: {} and {}", hello.identity, about.identity);
        return Err(Failure::new(FaultCode::Untrusted, message));
    }
    Ok(Claims { identity: hello.identity, name: about.name })
}

/// The signed call: what it answers is signed by the identity, so that it may be pinned.
pub(super) async fn signed_status(
    server: &Server,
    client: &mut Client,
) -> Result<ServerStatusReply, Failure> {
    let status = client.call(ServerStatus {}).await?;
    if let Some(head) = client.head() {
        client::verify_head(&server.name, &status.record_key, head)?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_outside_the_mesh_is_refused() {
        for bad in ["10.0.0.1:1", "100.63.255.255:1", "100.128.0.0:1", "8.8.8.8:1", "[fd7a:115c:a1e1::1]:1"] {
            assert!(check_address(bad.parse().unwrap(), false).is_err(), "{bad}");
        }
        for good in ["100.64.0.0:1", "100.127.255.255:1", "[fd7a:115c:a1e0::1]:1", "127.0.0.1:1", "[::1]:1"] {
            assert!(check_address(good.parse().unwrap(), false).is_ok(), "{good}");
        }
        assert!(check_address("10.0.0.1:1".parse().unwrap(), true).is_ok());
    }

    #[test]
    fn a_failure_says_its_step_and_that_nothing_was_saved() {
        let failed: Result<(), _> = Err(Failure::new(FaultCode::Unreachable, "connection refused"));
        let failure = step("hello", failed).unwrap_err();
        assert_eq!(failure.fault.message, "hello: connection refused (nothing was saved)");
        assert_eq!(failure.details.get("step").unwrap(), "hello");
    }
}
