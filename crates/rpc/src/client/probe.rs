//! What is answered unsigned: two commands, and what a hub has witnessed. It is a claim, to be compared with what is pinned.

use super::{ClientError, Dialer, Tcp, connection::Connection, exchange::Body, random};
use allod_proto::{
    Request,
    command::Call,
    headers::RPC_PATH,
    messages::server::{Hello, HelloReply, ServerInfo, ServerInfoReply},
    witness::{self, WitnessedAll},
};
use bytes::Bytes;
use http_body_util::Full;
use std::{net::SocketAddr, time::Duration};

const DEADLINE: Duration = Duration::from_secs(10);

/// Which protocol and which identity the server at this address claims.
///
/// # Errors
/// [`ClientError`] when it does not answer, or not as an agent does.
pub async fn hello(address: SocketAddr) -> Result<HelloReply, ClientError> {
    hello_over(&Tcp, address).await
}

/// The same over a connection that `dialer` opens.
///
/// # Errors
/// As [`hello`].
pub async fn hello_over(dialer: &dyn Dialer, address: SocketAddr) -> Result<HelloReply, ClientError> {
    let mut connection = Connection::open(dialer, "the server", address).await?;
    let reply = probe(&mut connection, address, Hello {}).await?;
    speak("the server", &reply)?;
    Ok(reply)
}

/// Which name the server at this address claims.
///
/// # Errors
/// [`ClientError`] when it does not answer, or not as an agent does.
pub async fn server_info(dialer: &dyn Dialer, address: SocketAddr) -> Result<ServerInfoReply, ClientError> {
    probe(&mut Connection::open(dialer, "the server", address).await?, address, ServerInfo {}).await
}

/// What the hub at this address has witnessed of records. Each head is to be checked by [`super::verify_head`].
///
/// # Errors
/// [`ClientError`] when it does not answer, or not as a hub does.
pub async fn witnessed(dialer: &dyn Dialer, hub: SocketAddr) -> Result<WitnessedAll, ClientError> {
    let mut connection = Connection::open(dialer, "the hub", hub).await?;
    let request = hyper::Request::get(witness::PATH)
        .header(hyper::header::HOST, hub.to_string())
        .body(Full::default())
        .map_err(|error| ClientError::BadReply(error.to_string()))?;
    let response = connection.send(request, DEADLINE).await?;
    let status = response.status();
    let bytes = connection.body(response.into_body()).await?;
    serde_json::from_slice(&bytes)
        .map_err(|_| ClientError::BadReply(format!("what answers at {hub} is no hub (status {status})")))
}

/// Whether there is a version that both speak.
pub(super) fn speak(server: &str, hello: &HelloReply) -> Result<(), ClientError> {
    if hello.newest < allod_proto::OLDEST_VERSION || hello.oldest > allod_proto::VERSION {
        let (oldest, newest) = (hello.oldest, hello.newest);
        let version = hello.version.chars().take(40).collect();
        return Err(ClientError::Version { what: server.to_owned(), oldest, newest, version });
    }
    Ok(())
}

/// Asks without a signature.
pub(super) async fn probe<C: Call>(
    connection: &mut Connection,
    address: SocketAddr,
    params: C,
) -> Result<C::Reply, ClientError> {
    // The oldest version: what is asked is which ones the server speaks.
    let request =
        Request { v: allod_proto::OLDEST_VERSION, id: random::command_id()?, command: params.into_command() };
    let request = hyper::Request::post(RPC_PATH)
        .header(hyper::header::HOST, address.to_string())
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(request.to_body())))
        .map_err(|error| ClientError::BadReply(error.to_string()))?;
    let response = connection.send(request, DEADLINE).await?;
    let status = response.status();
    let bytes = connection.body(response.into_body()).await?;
    let not_ours =
        || ClientError::BadReply(format!("what answers at {address} is no agent (status {status})"));
    let body: Body = serde_json::from_slice(&bytes).map_err(|_| not_ours())?;
    if let Some(fault) = body.fault {
        return Err(ClientError::Fault(fault));
    }
    serde_json::from_value(body.result.unwrap_or_default()).map_err(|_| not_ours())
}
