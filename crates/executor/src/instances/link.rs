//! A connection to a shim: orders go out, each change of its status comes in.

use crate::shim::order::{LARGEST_LINE, Status, ToShim};
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    time::timeout,
};

/// How long a shim may take to say or take something.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to a shim.
#[derive(Debug)]
pub(super) struct Link {
    writer: Mutex<OwnedWriteHalf>,
}

/// The way from a shim.
#[derive(Debug)]
pub(super) struct News {
    reader: BufReader<OwnedReadHalf>,
}

/// A shim that answered: both ways, and how its instance stands.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) link: Arc<Link>,
    pub(super) news: News,
    pub(super) status: Status,
}

/// Connects to a shim, and reads how its instance stands.
pub(super) async fn connect(socket: &Path) -> io::Result<Reached> {
    let connecting = async {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let mut news = News { reader: BufReader::new(reader) };
        let status = news.next().await?;
        Ok(Reached { link: Arc::new(Link { writer: Mutex::new(writer) }), news, status })
    };
    timeout(PATIENCE, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

impl Link {
    pub(super) async fn send(&self, message: &ToShim) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut writer = self.writer.lock().await;
        timeout(PATIENCE, writer.write_all(&line))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl News {
    /// The next status; an error when there will be none.
    pub(super) async fn next(&mut self) -> io::Result<Status> {
        let mut line = Vec::new();
        (&mut self.reader).take(LARGEST_LINE).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
