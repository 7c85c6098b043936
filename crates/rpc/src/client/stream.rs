//! A stream of signed frames. Nothing is given out before its frame verified; an end without a last frame is an error.

use super::{ClientError, Notice};
use allod_proto::{
    Nonce,
    command::{Frame, StreamItem},
};
use allod_signing::{FrameVerifier, PublicKey, SignedFrame, sshsig};
use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::{collections::VecDeque, time::Duration};
use tokio::time::timeout;

/// How long a stream may be silent; servers send an idle frame every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line of a frame: its payload of at most 64 KiB and what escaping makes of it.
const LINE: usize = 1024 * 1024;

/// A stream that a command answers with.
pub struct Stream {
    name: String,
    body: Incoming,
    key: PublicKey,
    verifier: FrameVerifier,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    ended: bool,
    notices: VecDeque<Notice>,
}

impl Stream {
    pub(super) fn new(name: String, body: Incoming, key: PublicKey, nonce: Nonce) -> Self {
        Self {
            name,
            body,
            key,
            verifier: FrameVerifier::new(nonce),
            buffer: BytesMut::new(),
            searched: 0,
            ended: false,
            notices: VecDeque::new(),
        }
    }

    /// The next verified item; `None` after the last. Idle frames are verified and passed over. Safe to cancel: what
    /// was read stays for the next call.
    ///
    /// # Errors
    /// [`ClientError::Fault`] when the server says that the stream fails, [`ClientError::CutOff`] when it ends too
    /// soon, [`ClientError::BadReply`] or [`ClientError::Impostor`] when a frame does not verify. Nothing comes after.
    pub async fn next(&mut self) -> Result<Option<StreamItem>, ClientError> {
        while !self.ended {
            let outcome = match self.line().await {
                Ok(line) => self.open(&line),
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
                Ok(None | Some(StreamItem::Idle {} | StreamItem::End {})) => {}
                Ok(Some(StreamItem::Fault(fault))) => {
                    self.ended = true;
                    return Err(ClientError::Fault(fault));
                }
                Ok(Some(
                    item @ (StreamItem::Operation(_)
                    | StreamItem::Log(_)
                    | StreamItem::Record(_)
                    | StreamItem::Run(_)),
                )) => return Ok(Some(item)),
            }
        }
        Ok(None)
    }

    /// What the person should hear of, oldest first.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    async fn line(&mut self) -> Result<BytesMut, ClientError> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE {
                return Err(ClientError::BadReply(format!("a frame is longer than {LINE} bytes")));
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<(), ClientError> {
        let cut = |why: String| ClientError::CutOff { what: self.name.clone(), why };
        match timeout(SILENCE, self.body.frame()).await {
            Err(_) => Err(cut(format!("nothing came for {} s", SILENCE.as_secs()))),
            Ok(None) => Err(cut("it ended without its last frame".to_owned())),
            Ok(Some(Err(error))) => Err(cut(error.to_string())),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    self.buffer.extend_from_slice(&bytes);
                }
                Ok(())
            }
        }
    }

    /// Verifies a frame; `None` when it holds what only a newer client understands.
    fn open(&mut self, line: &[u8]) -> Result<Option<StreamItem>, ClientError> {
        let bad = |why: String| ClientError::BadReply(format!("a frame of its stream: {why}"));
        let frame: Frame = serde_json::from_slice(line).map_err(|why| bad(why.to_string()))?;
        let signature = sshsig::from_base64(&frame.signature).map_err(|why| bad(why.to_string()))?;
        let signer = sshsig::signer_key(&signature).map_err(|why| bad(why.to_string()))?;
        if signer != self.key {
            return Err(ClientError::Impostor {
                what: self.name.clone(),
                expected: self.key.fingerprint().clone(),
                got: signer.fingerprint().clone(),
            });
        }
        let signed = SignedFrame { sequence: frame.seq, before: frame.before, last: frame.last, signature };
        self.verifier
            .check(&self.key, &signed, frame.payload.as_bytes())
            .map_err(|why| bad(why.to_string()))?;
        self.ended = frame.last;
        let item = serde_json::from_str(&frame.payload).ok();
        if item.is_none() && self.notices.is_empty() {
            self.notices.push_back(Notice::NewerFrame { server: self.name.clone() });
        }
        Ok(item)
    }
}
