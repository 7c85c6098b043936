//! The frames of a map stream: LE32 length, then one [`MapResponse`] as JSON, plain or as one zstd frame that stands alone.
//! Which of the two, its first bytes say. A frame is bounded before it is kept, and again while it is decompressed.

use crate::{
    control::{MapResponse, Message as _},
    json::JsonError,
    limits,
};
use std::io::Read as _;

const HEAD: usize = 4;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// As a power of two: a window as large as the largest text, so that no more is set aside for it.
const ZSTD_WINDOW: u32 = limits::MAP_JSON.ilog2();
/// What the buffer keeps between frames.
const KEPT: usize = 64 * 1024;

/// Why a frame was not read or not written. The stream is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapFrameError {
    /// It says that it has more bytes than a frame may have.
    #[error("a map frame of {0} bytes")]
    TooLong(usize),
    /// It is no zstd frame, or more than one, or grows past its bound.
    #[error("a map frame that can't be decompressed")]
    Compression,
    /// It is no map response.
    #[error("no map response")]
    Json(#[from] JsonError),
}

/// Whether frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// JSON as it is.
    None,
    /// zstd, if the request [wanted it](crate::control::MapRequest::wants_zstd).
    Zstd,
}

/// Writes one frame.
pub fn write(response: &MapResponse, compression: Compression) -> Result<Vec<u8>, MapFrameError> {
    let json = response.write()?;
    let body = match compression {
        Compression::None => json,
        Compression::Zstd => zstd::bulk::compress(&json, 1).map_err(|_| MapFrameError::Compression)?,
    };
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= limits::MAP_FRAME);
    let length = length.ok_or(MapFrameError::TooLong(body.len()))?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

/// Reads frames from a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct MapFrames {
    buffer: Vec<u8>,
}

impl MapFrames {
    /// Takes bytes off the front of `bytes` until one response is whole, or all are taken: call it until it gives `None`.
    /// It keeps at most one frame of [`limits::MAP_FRAME`] bytes, and sets nothing aside for bytes that have not come.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<Option<MapResponse>, MapFrameError> {
        self.take(bytes, HEAD);
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > limits::MAP_FRAME {
            return Err(MapFrameError::TooLong(length));
        }
        self.take(bytes, HEAD.saturating_add(length));
        let body = self.buffer.get(HEAD..).unwrap_or_default();
        if body.len() < length {
            return Ok(None);
        }
        let response = read(body);
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        response.map(Some)
    }

    /// Whether the bytes so far end between two frames.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }

    fn take(&mut self, bytes: &mut &[u8], until: usize) {
        let missing = until.saturating_sub(self.buffer.len());
        let (now, later) = bytes.split_at(missing.min(bytes.len()));
        self.buffer.extend_from_slice(now);
        *bytes = later;
    }
}

/// Reads the body of one frame.
fn read(body: &[u8]) -> Result<MapResponse, MapFrameError> {
    if body.starts_with(&ZSTD_MAGIC) {
        Ok(MapResponse::read(&decompress(body)?)?)
    } else {
        Ok(MapResponse::read(body)?)
    }
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, MapFrameError> {
    let bad = |_| MapFrameError::Compression;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(bad)?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW).map_err(bad)?;
    let most = u64::try_from(limits::MAP_JSON).unwrap_or(u64::MAX);
    let mut json = Vec::new();
    decoder.by_ref().take(most.saturating_add(1)).read_to_end(&mut json).map_err(bad)?;
    if json.len() > limits::MAP_JSON || !decoder.finish().is_empty() {
        return Err(MapFrameError::Compression);
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Node, NodeId};
    use proptest::prelude::*;

    fn response(peers: i64) -> MapResponse {
        let peer = |id| Node { id: NodeId(id), name: format!("n{id}.mesh."), ..Node::default() };
        MapResponse {
            domain: "mesh".to_owned(),
            peers: (1..=peers).map(peer).collect(),
            ..MapResponse::default()
        }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
    }

    fn one(frame: &[u8]) -> Result<Option<MapResponse>, MapFrameError> {
        MapFrames::default().push(&mut &frame[..])
    }

    #[test]
    fn a_length_past_the_bound_is_refused_before_a_byte_is_kept() {
        let mut frames = MapFrames::default();
        assert_eq!(frames.push(&mut &[0xff; 4][..]), Err(MapFrameError::TooLong(0xffff_ffff)));
        assert!(frames.buffer.capacity() < 64);
    }

    #[test]
    fn a_promised_length_takes_no_memory() {
        let mut frames = MapFrames::default();
        let head = u32::try_from(limits::MAP_FRAME).unwrap().to_le_bytes();
        assert_eq!(frames.push(&mut &head[..]), Ok(None));
        assert!(frames.buffer.capacity() < 64);
    }

    #[test]
    fn a_decompression_bomb_is_refused_within_its_bound() {
        let bomb = zstd::bulk::compress(&vec![b' '; limits::MAP_JSON + 1], 1).unwrap();
        assert!(bomb.len() < 10_000, "{}", bomb.len());
        assert_eq!(one(&framed(&bomb)), Err(MapFrameError::Compression));
    }

    #[test]
    fn a_window_larger_than_any_map_is_refused() {
        // Magic, then a descriptor without a content size, then a window of 2^41 bytes.
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
        assert_eq!(one(&framed(&head)), Err(MapFrameError::Compression));
    }

    #[test]
    fn what_follows_the_compressed_frame_is_refused() {
        let body = zstd::bulk::compress(b"{}", 1).unwrap();
        assert_eq!(one(&framed(&body)), Ok(Some(MapResponse::default())));
        for tail in [&b"x"[..], &body] {
            assert_eq!(one(&framed(&[&body, tail].concat())), Err(MapFrameError::Compression));
        }
        assert_eq!(one(&framed(&body[..body.len() - 1])), Err(MapFrameError::Compression));
    }

    #[test]
    fn an_empty_frame_is_no_response() {
        assert!(matches!(one(&framed(b"")), Err(MapFrameError::Json(_))));
    }

    #[test]
    fn a_sign_of_life_has_these_bytes() {
        let frame = write(&MapResponse::alive(), Compression::None).unwrap();
        assert_eq!(frame, b"\x12\x00\x00\x00{\"KeepAlive\":true}");
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let all = [response(0), response(3), MapResponse::alive(), response(50)];
        for compression in [Compression::None, Compression::Zstd] {
            let stream: Vec<u8> = all.iter().flat_map(|one| write(one, compression).unwrap()).collect();
            for size in [1, 3, 4, 5, 100, stream.len()] {
                let (mut frames, mut seen) = (MapFrames::default(), Vec::new());
                for mut piece in stream.chunks(size) {
                    while let Some(response) = frames.push(&mut piece).unwrap() {
                        seen.push(response);
                    }
                    assert!(piece.is_empty());
                }
                assert!(frames.is_between_frames());
                assert_eq!(seen, all);
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            let body = if magic { [&ZSTD_MAGIC[..], &body].concat() } else { body };
            let _ = one(&framed(&body));
            let _ = one(&body);
        }
    }
}
