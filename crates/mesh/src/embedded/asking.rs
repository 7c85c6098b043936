//! Asking the node over its Unix socket: a line out, a line back, both bounded and within a deadline.

use super::{stream::NodeStream, trust};
use crate::{MeshError, Trouble};
use allod_proto::node::{ANSWER, NodeAnswer, NodeAsk};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Semaphore,
    time::timeout,
};

/// How many questions are asked at once: callers without number must not become connections without number.
const AT_ONCE: usize = 16;
/// What is read at once.
const CHUNK: usize = 4096;

/// A way to ask.
#[derive(Debug)]
pub(super) struct Asking {
    socket: PathBuf,
    places: Semaphore,
}

/// A conversation that goes on.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Asking {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, places: Semaphore::new(AT_ONCE) }
    }

    /// One question, one answer.
    pub(super) async fn ask(&self, ask: &NodeAsk, patience: Duration) -> Result<NodeAnswer, MeshError> {
        let _place = self.places.acquire().await.map_err(|error| self.silent(&error.to_string()))?;
        self.begin(ask, patience).await.map(|(answer, _)| answer)
    }

    /// A question whose answer is not the end of it.
    pub(super) async fn begin(
        &self,
        ask: &NodeAsk,
        patience: Duration,
    ) -> Result<(NodeAnswer, Talk), MeshError> {
        let talking = async {
            let mut talk = self.open(ask).await?;
            let answer = self.next(&mut talk).await?;
            Ok((answer, talk))
        };
        timeout(patience, talking).await.unwrap_or_else(|_| Err(self.silent("no answer in time")))
    }

    /// A question whose answer may be long in coming.
    pub(super) async fn open(&self, ask: &NodeAsk) -> Result<Talk, MeshError> {
        let silent = |error: io::Error| self.silent(&error.to_string());
        let mut stream = UnixStream::connect(&self.socket).await.map_err(silent)?;
        trust::check(&self.socket, &stream)
            .map_err(|why| MeshError::Trouble(Trouble::Untrusted { socket: shown(&self.socket), why }))?;
        let mut line = serde_json::to_vec(ask).map_err(|error| self.silent(&error.to_string()))?;
        line.push(b'\n');
        // Who is refused may be told so before they have asked.
        let _ = stream.write_all(&line).await;
        Ok(Talk { stream, read: Vec::new() })
    }

    /// The next answer of a conversation.
    pub(super) async fn next(&self, talk: &mut Talk) -> Result<NodeAnswer, MeshError> {
        let line = match talk.line().await {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(unreadable("a line without end"));
            }
            Err(error) => return Err(self.silent(&error.to_string())),
        };
        // Its place in the text says nothing to a person, and the text itself is not ours.
        serde_json::from_slice(&line)
            .map_err(|error| unreadable(&crate::tailscaled::plain(&error.to_string(), 200)))
    }

    fn silent(&self, why: &str) -> MeshError {
        MeshError::Trouble(Trouble::NoNode { socket: shown(&self.socket), why: why.to_owned() })
    }
}

impl Talk {
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            let new = self.read.get(looked..).unwrap_or_default();
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let end = looked.saturating_add(end);
                let rest = self.read.split_off(end.saturating_add(1));
                let mut line = std::mem::replace(&mut self.read, rest);
                line.truncate(end);
                return Ok(line);
            }
            looked = self.read.len();
            if looked > ANSWER {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.read.reserve(CHUNK);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits for its end; what is said until then is not heard.
    pub(super) async fn ended(&mut self) {
        let mut heard = [0; CHUNK];
        while self.stream.read(&mut heard).await.is_ok_and(|count| count > 0) {}
    }

    /// What was answered was the beginning of a stream.
    pub(super) fn into_stream(self) -> NodeStream {
        NodeStream::new(self.stream, self.read)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn unreadable(why: &str) -> MeshError {
    MeshError::Trouble(Trouble::NodeAnswer { why: why.to_owned() })
}
