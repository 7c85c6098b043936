//! One connection on the socket: its first line, the answer to it, and what follows from that.

use crate::{carry, line, place::Place, ports::Port, stream::Incoming};
use allod_proto::{
    Fault, FaultCode,
    node::{ANSWER, ASK, NodeAnswer, NodeAsk, PATIENCE},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, time::timeout};

/// Changes that come closer together are one.
const CALM: Duration = Duration::from_millis(20);

/// Serves it to its end.
pub(crate) async fn serve(mut stream: UnixStream, user: u32, place: &Arc<Place>) -> io::Result<()> {
    let line = match timeout(PATIENCE, line::read(&mut stream, ASK)).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return fail(stream, Fault::new(FaultCode::TooLarge, format!("a line has at most {ASK} bytes")))
                .await;
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            return fail(stream, Fault::new(FaultCode::Timeout, "no line came in time")).await;
        }
    };
    let ask = match serde_json::from_slice(&line.text) {
        Ok(ask) => ask,
        Err(error) => return fail(stream, Fault::new(FaultCode::Malformed, error.to_string())).await,
    };
    match ask {
        NodeAsk::Status {} => line::write(&mut stream, &NodeAnswer::Status(place.state())).await,
        NodeAsk::Watch {} => watch(stream, place).await,
        NodeAsk::Whois { address } => {
            line::write(&mut stream, &NodeAnswer::Whois { peer: place.whois(address) }).await
        }
        NodeAsk::Peers {} => peers(stream, place).await,
        NodeAsk::Connect { to } => connect(stream, place, to, &line.rest).await,
        NodeAsk::Listen { port } => listen(stream, place, port, user).await,
        NodeAsk::Accept { listener } => accept(stream, place, listener, user, &line.rest).await,
    }
}

/// Tells why not. Who does not read it does not hold this up.
pub(crate) async fn fail(mut stream: UnixStream, fault: Fault) -> io::Result<()> {
    let line = line::of(&NodeAnswer::Failed(fault))?;
    timeout(PATIENCE, stream.write_all(&line)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn peers(mut stream: UnixStream, place: &Place) -> io::Result<()> {
    // The one answer that may be long: a few at a time, and for those who read it.
    let _place = place.listing().await;
    let answer = line::of(&NodeAnswer::Peers { peers: place.peers() })?;
    if answer.len() > ANSWER {
        return fail(stream, Fault::new(FaultCode::TooLarge, "more peers than fit into one answer")).await;
    }
    timeout(PATIENCE, stream.write_all(&answer)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn watch(mut stream: UnixStream, place: &Place) -> io::Result<()> {
    let mut news = place.news();
    let mut told = None;
    loop {
        let state = place.state();
        if told.as_ref() != Some(&state) {
            line::write(&mut stream, &NodeAnswer::Status(state.clone())).await?;
            told = Some(state);
        }
        tokio::select! {
            () = news.changed() => {}
            () = line::ended(&mut stream) => return Ok(()),
        }
        tokio::time::sleep(CALM).await;
    }
}

async fn connect(mut stream: UnixStream, place: &Place, to: SocketAddr, early: &[u8]) -> io::Result<()> {
    // Who leaves meanwhile leaves nothing behind; what is said meanwhile is heard once it is connected.
    let connected = tokio::select! {
        connected = place.connect(to) => connected,
        left = carry::until_it_has_left(&stream) => return left.map(|never| match never {}),
    };
    match connected {
        Ok((far, local)) => {
            if let Err(error) = line::write(&mut stream, &NodeAnswer::Connected { local }).await {
                far.reset();
                return Err(error);
            }
            carry::to_client(stream, far, early).await;
            Ok(())
        }
        Err(fault) => fail(stream, fault).await,
    }
}

async fn listen(mut stream: UnixStream, place: &Place, port: u16, user: u32) -> io::Result<()> {
    let (held, listener) = match place.listen(port, user) {
        Ok(found) => found,
        Err(fault) => return fail(stream, fault).await,
    };
    let addresses = place.everywhere(held.number());
    line::write(&mut stream, &NodeAnswer::Listening { listener: held.id(), addresses }).await?;
    tokio::select! {
        () = held.run(listener) => Ok(()),
        () = line::ended(&mut stream) => Ok(()),
    }
}

async fn accept(
    mut stream: UnixStream,
    place: &Place,
    listener: u64,
    user: u32,
    early: &[u8],
) -> io::Result<()> {
    let accepted = tokio::select! {
        accepted = place.ports().accept(listener, user) => accepted,
        () = line::ended(&mut stream) => return Ok(()),
    };
    let (port, incoming) = match accepted {
        Ok(accepted) => accepted,
        Err(fault) => return fail(stream, fault).await,
    };
    hand_over(stream, &port, incoming, early).await
}

/// A connection is not lost with the program that was to have it.
async fn hand_over(mut stream: UnixStream, port: &Port, incoming: Incoming, early: &[u8]) -> io::Result<()> {
    let answer = NodeAnswer::Accepted { peer: incoming.peer, local: incoming.local };
    if let Err(error) = line::write(&mut stream, &answer).await {
        port.put_back(incoming);
        return Err(error);
    }
    carry::to_client(stream, incoming.stream, early).await;
    Ok(())
}
