//! Just enough of HTTP/2 to send what no library would: header fields go out as they are given, unchecked.

use crate::support::LONG;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK's static table (RFC 7541, A).
const STATUS_200: u8 = 0x88;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200.
    Ok,
    /// Another status.
    Status,
    /// The stream was reset.
    Reset,
    /// The connection was ended.
    Ended,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal without indexing and without Huffman coding (RFC 7541, 6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], &length(name)[..], name, &length(value), value].concat()
}

fn length(text: &[u8]) -> Vec<u8> {
    match u8::try_from(text.len()) {
        Ok(short) if short < 127 => vec![short],
        _ => vec![127, u8::try_from(text.len() - 127).unwrap()],
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn exchange(to: SocketAddr, fields: &[(Vec<u8>, Vec<u8>)], body: Option<&[u8]>) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let flags = if body.is_some() { END_HEADERS } else { END_HEADERS | END_STREAM };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, flags, 1, &block));
    bytes.extend(body.map(|body| frame(DATA, END_STREAM, 1, body)).unwrap_or_default());
    let _ = stream.write_all(&bytes).await.is_ok();
    tokio::time::timeout(LONG, outcome(&mut stream)).await.expect("an answer or an end")
}

async fn outcome(stream: &mut TcpStream) -> Answer {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Answer::Ended;
        }
        let mut payload =
            vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            return Answer::Ended;
        }
        match head[3] {
            HEADERS if payload.first() == Some(&STATUS_200) => return Answer::Ok,
            HEADERS => return Answer::Status,
            RST_STREAM => return Answer::Reset,
            GOAWAY => return Answer::Ended,
            _ => {}
        }
    }
}
