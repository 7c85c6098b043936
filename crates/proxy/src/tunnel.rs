//! A connection that has left HTTP, such as a WebSocket: bytes go both ways until one side ends, both are silent too
//! long, or the instance is closed.

use crate::ending::Ending;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{cell::Cell, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::{Instant, sleep_until},
};

const BUFFER: usize = 16 * 1024;

/// Waits until both sides have switched, then carries bytes.
pub(crate) async fn run(client: OnUpgrade, instance: OnUpgrade, patience: Duration, mut ending: Box<Ending>) {
    let (client, upstream) = match tokio::try_join!(client, instance) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a connection did not switch protocols");
            return;
        }
    };
    let Some(target) = ending.instance().map(Arc::clone) else { return };
    let last = Cell::new(Instant::now());
    let (client_read, client_write) = split(TokioIo::new(client));
    let (instance_read, instance_write) = split(TokioIo::new(upstream));
    let sent = Cell::new(0);
    let received = Cell::new(0);
    let both = async {
        tokio::join!(
            copy(client_read, instance_write, &last, &received),
            copy(instance_read, client_write, &last, &sent)
        )
    };
    tokio::select! {
        (up, down) = both => {
            if let Err(error) = up.and(down) {
                tracing::debug!(%error, "a tunnel broke");
            }
            ending.set_whole();
        }
        () = target.closed() => tracing::debug!("a tunnel was cut with its instance"),
        () = silence(&last, patience) => tracing::debug!("a tunnel was silent too long"),
    }
    ending.add_bytes(sent.get());
}

async fn silence(last: &Cell<Instant>, patience: Duration) {
    loop {
        let deadline = last.get() + patience;
        if Instant::now() >= deadline {
            return;
        }
        sleep_until(deadline).await;
    }
}

async fn copy(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    last: &Cell<Instant>,
    count: &Cell<u64>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await;
        last.set(Instant::now());
        match read {
            Ok(0) => return to.shutdown().await,
            Ok(length) => {
                to.write_all(buffer.get(..length).unwrap_or_default()).await?;
                to.flush().await?;
                count.set(count.get().saturating_add(length as u64));
            }
            Err(error) => {
                // The other side must learn that nothing more comes.
                to.shutdown().await?;
                return Err(error);
            }
        }
    }
}
