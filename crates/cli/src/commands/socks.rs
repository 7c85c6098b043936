//! `allod socks`: a SOCKS5 proxy (RFC 1928) on this machine that leads to the mesh and nowhere else, names of the mesh included.

mod words;

use super::passing::{self, Seats};
use crate::{failure::Failure, session::Session};
use allod_proto::FaultCode;
use clap::Args;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use words::{Answer, Destination, Refused, greeting, method, request};

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// `allod socks`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod socks\n  curl --proxy socks5h://127.0.0.1:1080 http://hub:9845/status.json"
)]
pub struct Socks {
    /// Where it listens: on this machine only; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1080")]
    listen: SocketAddr,
}

/// Runs it until Ctrl-C.
///
/// # Errors
/// [`Failure`] for an address that others can reach, or one that can't be had.
pub async fn run(session: &Session, socks: Socks) -> Result<(), Failure> {
    if !socks.listen.ip().is_loopback() {
        let message = format!("{} can be reached by others", socks.listen.ip());
        return Err(Failure::usage(message)
            .hint("whoever reaches a SOCKS5 proxy uses this machine's place on the mesh"));
    }
    session.mesh().await?;
    let listener = TcpListener::bind(socks.listen).await;
    let failed = |error| Failure::new(FaultCode::Conflict, format!("{}: {error}", socks.listen));
    let listener = listener.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    session.output.item(&serde_json::json!({ "listens": at }), |style| {
        format!("{} socks5h://{at} leads to the mesh\n", style.good("✓"))
    })?;
    tokio::select! {
        () = serve(session, listener) => Ok(()),
        () = session.interrupted() => Ok(()),
    }
}

async fn serve(session: &Session, listener: TcpListener) {
    let seats = Seats::default();
    let connections = futures_util::stream::unfold((), |()| async {
        let seat = seats.take().await?;
        Some(((passing::next(session, &listener).await, seat), ()))
    });
    futures_util::StreamExt::for_each_concurrent(connections, None, |(near, seat)| async move {
        let _seat = seat;
        if let Err(why) = one(session, near).await {
            session.output.warn(&why);
        }
    })
    .await;
}

async fn one(session: &Session, mut near: TcpStream) -> Result<(), String> {
    let _ = near.set_nodelay(true);
    let wanted = match timeout(PATIENCE, ask(&mut near)).await {
        Ok(Ok(wanted)) => wanted,
        Ok(Err(refused)) => return Err(refused.to_string()),
        Err(_) => return Err("a SOCKS5 client did not say what it wants".to_owned()),
    };
    match reach(session, &wanted).await {
        Ok(far) => {
            say(&mut near, Answer::Granted).await;
            passing::pass(near, far).await;
            Ok(())
        }
        Err(failure) => {
            say(&mut near, Answer::of(failure.fault.code)).await;
            Err(failure.fault.message.clone())
        }
    }
}

async fn reach(
    session: &Session,
    wanted: &Destination,
) -> Result<Box<dyn allod_rpc::client::Transport>, Failure> {
    let at = passing::place(session, &wanted.host, wanted.port).await?;
    passing::dial(session, at).await
}

/// What the client wants, after what is said first.
async fn ask(near: &mut TcpStream) -> Result<Destination, Refused> {
    let mut head = [0; 2];
    near.read_exact(&mut head).await?;
    let mut methods = vec![0; greeting(head)?];
    near.read_exact(&mut methods).await?;
    let (answer, accepted) = method(&methods);
    near.write_all(&answer).await?;
    accepted?;
    let mut bytes = Vec::new();
    loop {
        match request(&bytes) {
            Ok(Some(wanted)) => return Ok(wanted),
            Ok(None) => bytes.push(near.read_u8().await?),
            Err(refused) => {
                say(near, refused.answer()).await;
                return Err(refused);
            }
        }
    }
}

async fn say(near: &mut TcpStream, answer: Answer) {
    // Whoever has hung up needs no answer.
    let _ = near.write_all(&answer.to_bytes()).await;
}
