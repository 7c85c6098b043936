//! A WebSocket that echoes (RFC 6455), just enough to show that one survives what it should survive.

use super::{answers::text, body::AppBody};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Request, Response, StatusCode, body::Incoming, header, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const LARGEST: u64 = 1024 * 1024;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Switches protocols, if that is what was asked.
pub(super) fn answer(mut request: Request<Incoming>) -> Response<AppBody> {
    let headers = request.headers();
    let asked =
        headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asked).cloned();
    let Some(accept) = key.and_then(|key| accept_value(key.as_bytes())) else {
        return text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n".to_owned());
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            // The visitor going away is how most of these end.
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut answer = Response::new(AppBody::Whole(None));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// RFC 6455, 4.2.2: shows that the key was read by somebody who speaks WebSocket.
fn accept_value(key: &[u8]) -> Option<header::HeaderValue> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID.as_bytes()].concat());
    header::HeaderValue::from_str(&STANDARD.encode(hash)).ok()
}

struct Frame {
    /// Final bit and opcode as they came.
    first: u8,
    payload: Vec<u8>,
}

async fn echo(mut stream: TokioIo<Upgraded>) -> io::Result<()> {
    loop {
        let frame = read(&mut stream).await?;
        match frame.first & 0x0f {
            CLOSE => return write(&mut stream, frame.first, &frame.payload).await,
            PING => write(&mut stream, 0x80 | PONG, &frame.payload).await?,
            PONG => {}
            _ => write(&mut stream, frame.first, &frame.payload).await?,
        }
    }
}

async fn read(stream: &mut TokioIo<Upgraded>) -> io::Result<Frame> {
    let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    // A client must mask (5.1).
    if second & 0x80 == 0 || length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Frame { first, payload })
}

async fn write(stream: &mut TokioIo<Upgraded>, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend(medium.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend(u64::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        let accept = accept_value(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept.to_str().unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
