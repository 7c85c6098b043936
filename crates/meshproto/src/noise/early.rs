//! The early payload: what a coordinator may say in the first plaintext, before HTTP/2 begins:
//! `FF FF FF 54 53`, BE32 length, JSON. Without one, the first nine bytes are the head of HTTP/2's first frame.

use super::NoiseError;
use crate::{json, key::ChallengeKey, limits};
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 5] = *b"\xff\xff\xffTS";
const HEAD: usize = 9;

/// What it says (tailcfg.EarlyNoise).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EarlyPayload {
    /// A key to prove one's node key against; zero for none.
    #[serde(rename = "nodeKeyChallenge")]
    pub node_key_challenge: ChallengeKey,
}

impl EarlyPayload {
    /// As plaintext, to be sealed before anything else.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let json = format!("{{\"nodeKeyChallenge\":\"{}\"}}", self.node_key_challenge);
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        [&MAGIC[..], &length.to_be_bytes(), json.as_bytes()].concat()
    }
}

/// Takes the early payload off the plaintext, if there is one.
#[derive(Debug, Default)]
pub struct EarlyReader {
    buffer: Vec<u8>,
    done: bool,
}

impl EarlyReader {
    /// Takes all of `bytes` and appends to `http` what belongs to HTTP/2. The payload is given once, when it is whole. At most
    /// [`limits::EARLY_PAYLOAD`] bytes are kept.
    pub fn push(&mut self, bytes: &[u8], http: &mut Vec<u8>) -> Result<Option<EarlyPayload>, NoiseError> {
        if self.done {
            http.extend_from_slice(bytes);
            return Ok(None);
        }
        let most = HEAD.saturating_add(limits::EARLY_PAYLOAD);
        let (kept, rest) = bytes.split_at(bytes.len().min(most.saturating_sub(self.buffer.len())));
        self.buffer.extend_from_slice(kept);
        let Some((head, body)) = self.buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [magic @ .., a, b, c, d] = *head;
        if magic != MAGIC {
            self.give_back(rest, http);
            return Ok(None);
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > limits::EARLY_PAYLOAD {
            return Err(NoiseError::EarlyPayload);
        }
        let Some(payload) = body.get(..length) else { return Ok(None) };
        let payload = json::read(payload, limits::EARLY_PAYLOAD).map_err(|_| NoiseError::EarlyPayload)?;
        self.buffer.drain(..HEAD.saturating_add(length));
        self.give_back(rest, http);
        Ok(Some(payload))
    }

    /// Whether it is settled that there was one, or none.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    fn give_back(&mut self, rest: &[u8], http: &mut Vec<u8>) {
        http.append(&mut self.buffer);
        http.extend_from_slice(rest);
        self.done = true;
    }
}
