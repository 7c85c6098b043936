//! One connection to the relay: who it is (a box proves it), then packets both ways, pings, and a sign of life a minute.

use super::{Client, Relay};
use allod_meshproto::{
    NodeKey, NodePrivate,
    derp::{DerpBox, DerpError, Frame, FrameReader, KEEP_ALIVE, ServerInfo},
};
use ring::rand::SystemRandom;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::{Instant, timeout},
};

/// How long a client may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is given up.
const SLOW: Duration = Duration::from_secs(60);
/// A client that says nothing for this long is given up: clients of both kinds are asked by a ping before.
const SILENT: Duration = Duration::from_secs(180);
/// Bytes that are read, and written, at once.
const AT_ONCE: usize = 16 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayEnd {
    #[error("the connection")]
    Io(#[from] io::Error),
    #[error("what it said")]
    Protocol(#[from] DerpError),
    #[error("it did not say in time who it is")]
    Silent,
    #[error("{0} is no member of this network")]
    NoMember(NodeKey),
    #[error("it took or said nothing for too long")]
    Slow,
}

/// Serves one connection. `entered` is called once the client is known as a member.
pub(crate) async fn serve<I: AsyncRead + AsyncWrite + Unpin>(
    relay: &Relay,
    own: &NodePrivate,
    random: &SystemRandom,
    is_member: impl Fn(NodeKey) -> bool,
    mut io: I,
    entered: impl FnOnce(NodeKey),
) -> Result<(), RelayEnd> {
    let mut reader = FrameReader::default();
    let mut bytes = Vec::with_capacity(1024);
    let hello = hello(own, random, &is_member, &mut io, &mut reader, &mut bytes);
    let key = timeout(HELLO, hello).await.map_err(|_| RelayEnd::Silent)??;
    entered(key);
    let client = Leaving { relay, client: relay.enter(key) };
    // It may have been put out between the question and its entry.
    if !is_member(key) {
        return Err(RelayEnd::NoMember(key));
    }
    let (mut from, mut to) = split(io);
    tokio::select! {
        end = read(relay, &client.client, &mut from, &mut reader, bytes) => end,
        end = write(&client.client, &mut to) => end,
    }
}

/// Takes its client out of the relay, however its connection ended.
struct Leaving<'a> {
    relay: &'a Relay,
    client: std::sync::Arc<Client>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.client.queue.close();
        self.relay.leave(&self.client);
    }
}

async fn hello<I: AsyncRead + AsyncWrite + Unpin>(
    own: &NodePrivate,
    random: &SystemRandom,
    is_member: &impl Fn(NodeKey) -> bool,
    io: &mut I,
    reader: &mut FrameReader,
    bytes: &mut Vec<u8>,
) -> Result<NodeKey, RelayEnd> {
    let mut wire = Vec::new();
    Frame::ServerKey(own.public()).write(&mut wire)?;
    io.write_all(&wire).await?;
    io.flush().await?;
    let (key, sealed) = loop {
        let mut rest = bytes.as_slice();
        let frame = reader.push(&mut rest)?;
        let taken = bytes.len().saturating_sub(rest.len());
        bytes.drain(..taken);
        match frame {
            Some(Frame::ClientInfo { key, sealed }) => break (key, sealed),
            Some(_) => return Err(DerpError::Info.into()),
            None if io.read_buf(bytes).await? == 0 => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            None => {}
        }
    };
    let secret = DerpBox::new(own, key);
    secret.open_client_info(&sealed)?;
    if key.is_zero() || !is_member(key) {
        return Err(RelayEnd::NoMember(key));
    }
    wire.clear();
    secret.server_info(&ServerInfo::default(), random)?.write(&mut wire)?;
    io.write_all(&wire).await?;
    io.flush().await?;
    Ok(key)
}

async fn read<R: AsyncRead + Unpin>(
    relay: &Relay,
    client: &Client,
    from: &mut R,
    reader: &mut FrameReader,
    mut bytes: Vec<u8>,
) -> Result<(), RelayEnd> {
    loop {
        let mut rest = bytes.as_slice();
        while let Some(frame) = reader.push(&mut rest)? {
            match frame {
                Frame::SendPacket { to, packet } => relay.pass(client, to, &packet),
                Frame::Ping(echo) => client.queue.say(&Frame::Pong(echo)),
                // Which relay is a node's home, the coordinator hears from the node itself.
                Frame::NotePreferred(_) | Frame::Pong(_) | Frame::KeepAlive | Frame::Unknown(_) => {}
                Frame::ServerKey(_)
                | Frame::ClientInfo { .. }
                | Frame::ServerInfo(_)
                | Frame::RecvPacket { .. }
                | Frame::PeerGone { .. }
                | Frame::Health(_)
                | Frame::Restarting { .. } => return Err(DerpError::Info.into()),
            }
        }
        bytes.clear();
        bytes.reserve(AT_ONCE);
        let read = timeout(SILENT, from.read_buf(&mut bytes)).await.map_err(|_| RelayEnd::Slow)?;
        if read? == 0 {
            return Ok(());
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(client: &Client, to: &mut W) -> Result<(), RelayEnd> {
    let mut alive = Instant::now().checked_add(KEEP_ALIVE);
    loop {
        let until = alive.unwrap_or_else(Instant::now);
        let mut wire = tokio::select! {
            frame = client.queue.take() => match frame {
                Some(frame) => frame,
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(until) => {
                alive = Instant::now().checked_add(KEEP_ALIVE);
                let mut wire = Vec::new();
                Frame::KeepAlive.write(&mut wire)?;
                // Asks whether it is still there: a node that is says so within the time that silence may take.
                Frame::Ping([0; 8]).write(&mut wire)?;
                wire
            }
        };
        while wire.len() < AT_ONCE {
            match client.queue.take_now() {
                Some(frame) => wire.extend(frame),
                None => break,
            }
        }
        let sent = async {
            to.write_all(&wire).await?;
            to.flush().await
        };
        timeout(SLOW, sent).await.map_err(|_| RelayEnd::Slow)??;
    }
}
