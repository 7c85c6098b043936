//! Lines on the socket: read with a bound, written whole.

use serde::Serialize;
use std::io;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// A line without its end, and what came after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: Vec<u8>,
    pub(crate) rest: Vec<u8>,
}

/// The first line. An error of the kind `InvalidData` when it has more than `most` bytes, `UnexpectedEof` when it never ends.
pub(crate) async fn read(stream: &mut UnixStream, most: usize) -> io::Result<Line> {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        let new = buffer.get(..count).unwrap_or_default();
        if new.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = new.iter().position(|byte| *byte == b'\n');
        text.extend_from_slice(new.get(..end.unwrap_or(count)).unwrap_or_default());
        if text.len() > most {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(end) = end {
            let rest = new.get(end.saturating_add(1)..).unwrap_or_default().to_vec();
            return Ok(Line { text, rest });
        }
    }
}

/// A value as one line.
pub(crate) fn of(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a value as one line.
pub(crate) async fn write(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    stream.write_all(&of(value)?).await
}

/// Waits until the other end closes, or says what nobody asked for: either way it is done.
pub(crate) async fn ended(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0]).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(parts: &[&[u8]], most: usize) -> io::Result<Line> {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let parts: Vec<_> = parts.iter().map(|part| part.to_vec()).collect();
        let saying = tokio::spawn(async move {
            for part in parts {
                if one.write_all(&part).await.is_err() {
                    return;
                }
            }
        });
        let line = read(&mut other, most).await;
        drop(other);
        saying.await.unwrap();
        line
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_or_never_ends_is_refused() {
        let long = said(&[&[b'a'; 5000]], 4096).await;
        assert_eq!(long.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let long = said(&[&[b'a'; 4097], b"\n"], 4096).await;
        assert_eq!(long.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let half = said(&[b"half"], 4096).await;
        assert_eq!(half.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_comes_after_the_line_is_kept() {
        let line = said(&[b"one", b" line\n", b""], 4096).await.unwrap();
        assert_eq!(line, Line { text: b"one line".to_vec(), rest: Vec::new() });
        let line = said(&[b"{}\nbytes\nof the stream"], 4096).await.unwrap();
        assert_eq!(line, Line { text: b"{}".to_vec(), rest: b"bytes\nof the stream".to_vec() });
    }
}
