//! The agent's end of the control socket: one line asks, one line answers, each with a deadline.

use allod_proto::{
    limits,
    routes::{ProxyAnswer, ProxyAsk},
};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// A connection to the proxy's control socket. Asks on one connection are answered in order; a second connection does
/// not wait for the first.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// Why the proxy could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket can't be reached, or broke.
    #[error("the proxy's control socket {} failed", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No answer in time. The connection is of no more use, as a late answer would be taken for the next one's.
    #[error("the proxy did not answer within {0:?}")]
    Timeout(Duration),
    /// The answer is not one of the protocol.
    #[error("the proxy's answer makes no sense")]
    Answer(#[source] serde_json::Error),
}

impl Control {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ControlError::Socket`] when nobody listens there.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(path).await.map_err(|source| socket_error(path, source))?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// Asks and waits for the answer. For [`ProxyAsk::Drain`] and [`ProxyAsk::Load`] give a deadline above their own waits.
    ///
    /// # Errors
    /// [`ControlError`]; what the proxy itself refuses is [`ProxyAnswer::Failed`].
    pub async fn ask(
        mut self,
        ask: &ProxyAsk,
        deadline: Duration,
    ) -> Result<(Self, ProxyAnswer), ControlError> {
        let answer = tokio::time::timeout(deadline, self.exchange(ask))
            .await
            .map_err(|_| ControlError::Timeout(deadline))??;
        Ok((self, answer))
    }

    /// Connects, asks once and hangs up.
    ///
    /// # Errors
    /// As [`Control::connect`] and [`Control::ask`].
    pub async fn ask_once(
        path: &Path,
        ask: &ProxyAsk,
        deadline: Duration,
    ) -> Result<ProxyAnswer, ControlError> {
        let (_, answer) = Self::connect(path).await?.ask(ask, deadline).await?;
        Ok(answer)
    }

    async fn exchange(&mut self, ask: &ProxyAsk) -> Result<ProxyAnswer, ControlError> {
        let mut line = serde_json::to_vec(ask).map_err(ControlError::Answer)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await.map_err(|source| socket_error(&self.path, source))?;
        line.clear();
        let mut bounded = (&mut self.stream).take(limits::LINE as u64);
        let read =
            bounded.read_until(b'\n', &mut line).await.map_err(|source| socket_error(&self.path, source))?;
        if read == 0 {
            return Err(socket_error(&self.path, io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(ControlError::Answer)
    }
}

fn socket_error(path: &Path, source: io::Error) -> ControlError {
    ControlError::Socket { path: path.to_owned(), source }
}
