//! What the hub has witnessed of a server's record: the highest head that the server itself signed and sent there. A hub that lies can
//! keep a newer one back, but make none.

use crate::{
    failure::Failure,
    inventory::{Server, with_port},
    mesh::{OwnMesh, hub_of},
    session::Session,
};
use allod_proto::{FaultCode, hub::PORT, witness::Witnessed};
use allod_rpc::client::{self, verify_head};
use std::net::SocketAddr;

/// Asks the hub at `address`, or that of this mesh if it is empty.
///
/// # Errors
/// [`Failure`] when no hub is known, it doesn't answer or knows nothing of the server, or what it says is not signed by the server.
pub(super) async fn witnessed(
    session: &Session,
    server: &Server,
    address: &str,
) -> Result<Witnessed, Failure> {
    let at = match address {
        "" => own_hub(session).await?,
        written => session.resolve(&with_port(written, PORT)).await?,
    };
    session.check_peer(at).await?;
    let all = client::witnessed(session.dialer(at).await?.as_ref(), at).await?;
    let found = all.servers.into_iter().find(|witnessed| witnessed.identity == server.identity);
    let witnessed = found.ok_or_else(|| {
        let message = format!("the hub at {at} has witnessed nothing of {}", server.name);
        Failure::new(FaultCode::NotFound, message).hint(
            "`allod servers list` shows the identity that is pinned here, the hub's page the ones it knows",
        )
    })?;
    let record_key = server.pinned_record_key()?;
    verify_head(&server.name, record_key, &witnessed.head)?;
    Ok(witnessed)
}

async fn own_hub(session: &Session) -> Result<SocketAddr, Failure> {
    let found = match session.mesh().await?.and_then(OwnMesh::node) {
        Some(node) => hub_of(node).await,
        None => None,
    };
    found.map(|hub| SocketAddr::new(hub, PORT)).ok_or_else(|| {
        Failure::usage("it is not known where the hub is: no machine on this mesh has the tag tag:hub")
            .hint("`--against-hub ADDRESS` says where; `allod up` prints it")
    })
}
