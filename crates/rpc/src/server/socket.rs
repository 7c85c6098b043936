//! The local door: one JSON request a line, the same commands, the same service. A line is either a request, believed
//! as far as the kernel's word on the peer goes, or `{"signed":{headers},"body":"…"}` with the same signature as on HTTP.

use crate::server::{
    Answer, Incoming, PeerCredentials, Presented, Rejected, Service, authenticate,
    stream::{TICK, still_enrolled},
};
use allod_proto::{
    CommandId, Fault, FaultCode, OLDEST_VERSION, Request,
    command::{Kind, ReplyBody, StreamItem},
    headers, limits,
};
use allod_signing::Verified;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

const CONNECTIONS: usize = 128;
const IDLE: Duration = Duration::from_secs(300);
/// How long a peer may leave a line unread that it asked for.
const WRITE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedLine {
    signed: BTreeMap<String, String>,
    body: String,
}

/// Serves until the future is dropped.
pub async fn serve_socket<S: Service>(listener: UnixListener, service: Arc<S>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    if let Err(error) = connection(&*service, stream).await {
                        tracing::debug!(%error, "a local connection ended early");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a local connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection<S: Service>(service: &S, stream: UnixStream) -> std::io::Result<()> {
    let peer = PeerCredentials::of(&stream)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        // A body, JSON-escaped once more inside a signed line, takes at most twice its bytes and some headers.
        let mut line = Vec::new();
        let limit = u64::try_from(limits::BODY * 2 + limits::HEAD).unwrap_or(u64::MAX);
        let mut bounded = (&mut read).take(limit);
        match tokio::time::timeout(IDLE, bounded.read_until(b'\n', &mut line)).await {
            Err(_) | Ok(Ok(0)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => {}
        }
        if line.last() != Some(&b'\n') {
            let fault = Fault::new(FaultCode::TooLarge, "the line is too long or was cut");
            return put(&mut write, &ReplyBody::of(None, Err(fault))).await;
        }
        let (asked, caller, answered) = answer(service, peer, &line).await;
        let (id, v) = asked.map_or((None, OLDEST_VERSION), |(id, v)| (Some(id), v));
        match answered {
            Answer::Reply(value) => put(&mut write, &ReplyBody::of(id, Ok(value)).in_version(v)).await?,
            Answer::Fault(fault) => put(&mut write, &ReplyBody::of(id, Err(fault)).in_version(v)).await?,
            Answer::Stream(items) => {
                let last = pump(service, caller.as_deref(), items, &mut read, &mut write).await?;
                put(&mut write, &last).await?;
            }
        }
    }
}

/// Sends a stream's items until it ends, the key is revoked or the peer hangs up; answers the last item.
async fn pump<S: Service>(
    service: &S,
    caller: Option<&Verified>,
    mut items: mpsc::Receiver<StreamItem>,
    read: &mut (impl AsyncBufReadExt + Unpin),
    write: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<StreamItem> {
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(TICK, items.recv()) => next,
            gone = read.fill_buf() => match gone {
                Ok([]) | Err(_) => return Ok(StreamItem::End {}),
                // The next request waits until this stream has ended.
                Ok(_) => tokio::time::timeout(TICK, items.recv()).await,
            },
        };
        if let Some(Err(fault)) = caller.map(|caller| still_enrolled(service, caller)) {
            return Ok(StreamItem::Fault(fault));
        }
        match next {
            Ok(Some(item)) => put(write, &item).await?,
            Ok(None) => return Ok(StreamItem::End {}),
            Err(_) => {}
        }
    }
}

async fn put(write: &mut (impl AsyncWriteExt + Unpin), value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let writing = async {
        write.write_all(&line).await?;
        write.flush().await
    };
    tokio::time::timeout(WRITE, writing).await.map_err(std::io::Error::from)?
}

async fn answer<S: Service>(
    service: &S,
    peer: PeerCredentials,
    line: &[u8],
) -> (Option<(CommandId, u32)>, Option<Arc<Verified>>, Answer) {
    let incoming = match serde_json::from_slice::<SignedLine>(line) {
        Ok(signed) => signed_request(service, &signed),
        Err(_) => Request::parse(line).map(|request| Incoming {
            presented: Presented::Local(peer),
            request,
            call: None,
            source: None,
            door: "socket",
        }),
    };
    match incoming {
        Err(fault) => (None, None, Answer::Fault(fault)),
        Ok(incoming) => {
            let asked = Some((incoming.request.id.clone(), incoming.request.v));
            let caller = match &incoming.presented {
                Presented::Signed(verified) => Some(Arc::clone(verified)),
                Presented::Local(_) => None,
            };
            if caller.is_none() && incoming.request.command.name().kind() == Kind::Probe {
                return (asked, None, service.probe(&incoming.request.command).into());
            }
            (asked, caller, service.call(incoming).await)
        }
    }
}

fn signed_request<S: Service>(service: &S, line: &SignedLine) -> Result<Incoming, Fault> {
    let refuse = |rejected: Rejected| {
        service.refused("local socket", rejected.reason);
        *rejected.fault
    };
    let route = ("POST", headers::RPC_PATH);
    let header = |name: &str| line.signed.get(name).map(String::as_str);
    let authenticated = authenticate(service, route, header, None).map_err(refuse)?;
    authenticated.check_body(line.body.as_bytes())?;
    authenticated.incoming(route, line.body.as_bytes(), None, "socket")
}
