//! The two ends of a stream of signed frames: each frame is bound to the request, to its place and to all before it.

use crate::{
    canonical::FrameFields,
    public_key::PublicKey,
    signer::{SignError, Signer},
    verify::{Refusal, verify_signature},
};
use allod_proto::{Digest, Nonce, headers::FRAME_NAMESPACE};

/// What a frame carries besides its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFrame {
    /// 0 for the first.
    pub sequence: u64,
    /// The hash of the frame before.
    pub before: Digest,
    /// Whether it is the last.
    pub last: bool,
    /// The SSHSIG.
    pub signature: Vec<u8>,
}

/// Why a frame must not be shown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is not the one that comes next: one was lost, repeated, reordered or added after the last.
    #[error("it is not the frame that comes next")]
    Sequence,
    /// It is not signed by the server over this payload.
    #[error("the server did not sign it: {0}")]
    Signature(#[from] Refusal),
    /// The stream ended without its last frame.
    #[error("the stream was cut")]
    Cut,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Broken,
}

struct Chain {
    nonce: Nonce,
    sequence: u64,
    before: Digest,
    state: State,
}

impl Chain {
    fn new(nonce: Nonce) -> Self {
        Self { nonce, sequence: 0, before: Digest::ZERO, state: State::Open }
    }

    fn bytes(&self, payload: &Digest, last: bool) -> Vec<u8> {
        FrameFields { nonce: &self.nonce, sequence: self.sequence, before: &self.before, payload, last }
            .bytes()
    }

    fn advance(&mut self, bytes: &[u8], last: bool) {
        self.sequence = self.sequence.saturating_add(1);
        self.before = Digest::of(bytes);
        self.state = if last { State::Ended } else { State::Open };
    }
}

/// The server's end.
pub struct FrameSigner(Chain);

impl FrameSigner {
    /// For the stream that answers the request with this nonce.
    #[must_use]
    pub fn new(nonce: Nonce) -> Self {
        Self(Chain::new(nonce))
    }

    /// Signs the next frame.
    ///
    /// # Errors
    /// [`SignError`] when the signer fails, or the last frame was signed before.
    pub fn sign(
        &mut self,
        signer: &dyn Signer,
        payload: &[u8],
        last: bool,
    ) -> Result<SignedFrame, SignError> {
        if self.0.state != State::Open {
            return Err(SignError::StreamEnded);
        }
        let bytes = self.0.bytes(&Digest::of(payload), last);
        let signature = signer.sign(FRAME_NAMESPACE, &bytes)?;
        let frame = SignedFrame { sequence: self.0.sequence, before: self.0.before, last, signature };
        self.0.advance(&bytes, last);
        Ok(frame)
    }
}

/// The client's end. Nothing is to be shown before [`FrameVerifier::check`] returned.
pub struct FrameVerifier(Chain);

impl FrameVerifier {
    /// For the stream that answers the request with this nonce.
    #[must_use]
    pub fn new(nonce: Nonce) -> Self {
        Self(Chain::new(nonce))
    }

    /// Checks that `frame` comes next and that the server signed it over `payload`.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is then over, nothing after it is to be trusted.
    pub fn check(
        &mut self,
        server: &PublicKey,
        frame: &SignedFrame,
        payload: &[u8],
    ) -> Result<(), FrameError> {
        let expected =
            self.0.state == State::Open && (frame.sequence, frame.before) == (self.0.sequence, self.0.before);
        // Until this frame holds, the stream does not.
        self.0.state = State::Broken;
        if !expected {
            return Err(FrameError::Sequence);
        }
        let bytes = self.0.bytes(&Digest::of(payload), frame.last);
        verify_signature(server, FRAME_NAMESPACE, &bytes, &frame.signature)?;
        self.0.advance(&bytes, frame.last);
        Ok(())
    }

    /// To be asked when the stream has ended.
    ///
    /// # Errors
    /// [`FrameError::Cut`] when its last frame did not come, or not as it should.
    pub fn finish(self) -> Result<(), FrameError> {
        if self.0.state == State::Ended { Ok(()) } else { Err(FrameError::Cut) }
    }
}

#[cfg(test)]
mod tests;
