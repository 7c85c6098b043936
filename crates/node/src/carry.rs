//! Carrying a connection's bytes between this machine and the mesh, both ways, until both have ended. An end is passed on as an
//! end of that direction; a break of either side ends the other with an error, as far as its socket can say so.

use crate::stream::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{convert::Infallible, io, os::fd::AsFd, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf},
    net::{TcpStream, UnixStream},
    sync::oneshot,
};

/// What is carried at once, each way.
const BUFFER: usize = 16 * 1024;
/// How often it is looked whether a program that ended its direction is there at all.
const LOOK: Duration = Duration::from_secs(5);

/// Between a program on the socket and the mesh; `early` is what it said before it was answered.
///
/// A clean end from the mesh is a direction that is shut down: the socket stays open until the program ends its side too. After a
/// break the socket is closed whole, which Linux lets the program tell from an end (`POLLHUP`).
pub(crate) async fn to_client(mut client: UnixStream, mut far: Stream, early: &[u8]) {
    let carried = {
        let (mut hearing, saying) = client.split();
        let (reading, mut writing) = tokio::io::split(&mut far);
        let (tell, told) = oneshot::channel();
        let up = async {
            writing.write_all(early).await?;
            pass(&mut hearing, writing).await?;
            let _ = tell.send(());
            until_it_has_left(hearing.as_ref()).await
        };
        let down = async {
            pass(reading, saying).await?;
            // `up` is polled beside this, and tells before it can be dropped.
            let _ = told.await;
            Ok(())
        };
        tokio::select! {
            left = up => left.map(|never| match never {}),
            done = down => done,
        }
    };
    settle(carried, far);
}

/// Between a TCP address of this machine and the mesh.
pub(crate) async fn to_address(mut near: TcpStream, mut far: Stream) {
    let carried = {
        let (hearing, saying) = near.split();
        let (reading, writing) = tokio::io::split(&mut far);
        tokio::try_join!(pass(hearing, writing), pass(reading, saying)).map(|_| ())
    };
    if carried.is_err() {
        // Closed with this, the socket sends a reset. If the option can't be set, it is an end.
        let _ = near.set_zero_linger();
    }
    settle(carried, far);
}

/// Passes on what is read, and its end.
async fn pass(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy_buf(&mut BufReader::with_capacity(BUFFER, from), &mut to).await?;
    to.shutdown().await
}

fn settle(carried: io::Result<()>, far: Stream) {
    match carried {
        Ok(()) => {}
        // As a kernel does it with what is closed: what was said still goes.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => drop(far),
        Err(error) => {
            tracing::trace!(%error, "a stream broke");
            far.reset();
        }
    }
}

/// Nobody may be behind a direction that has ended: then the other one need not be kept open for as long as the peer likes.
pub(crate) async fn until_it_has_left(client: &UnixStream) -> io::Result<Infallible> {
    loop {
        tokio::time::sleep(LOOK).await;
        if has_left(client) {
            return Err(io::ErrorKind::NotConnected.into());
        }
    }
}

/// Whether the other end is closed, rather than one of its directions. Only Linux says so.
fn has_left(client: &UnixStream) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::empty())];
    let is_told = poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0);
    cfg!(target_os = "linux") && is_told && asked.iter().any(|asked| asked.revents().contains(PollFlags::HUP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_break_on_the_mesh_closes_the_programs_socket_whole_and_an_end_does_not() {
        let (mut program, near) = UnixStream::pair().unwrap();
        let (far, peer) = Stream::pair();
        let carrying = tokio::spawn(async move { to_client(near, far, b"").await });
        peer.reset();
        carrying.await.unwrap();
        assert_eq!(program.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(has_left(&program), cfg!(target_os = "linux"));

        let (mut program, near) = UnixStream::pair().unwrap();
        let (far, mut peer) = Stream::pair();
        tokio::spawn(async move { to_client(near, far, b"early ").await });
        peer.shutdown().await.unwrap();
        assert_eq!(program.read(&mut [0]).await.unwrap(), 0);
        assert!(!has_left(&program));
        program.write_all(b"late").await.unwrap();
        program.shutdown().await.unwrap();
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "early late");
    }

    #[tokio::test]
    async fn a_program_that_dies_with_something_unread_is_a_reset_on_the_mesh() {
        let (program, near) = UnixStream::pair().unwrap();
        let (far, mut peer) = Stream::pair();
        let carrying = tokio::spawn(async move { to_client(near, far, b"").await });
        peer.write_all(b"unread").await.unwrap();
        program.readable().await.unwrap();
        drop(program);
        carrying.await.unwrap();
        let ended = peer.read(&mut [0]).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_program_that_left_does_not_keep_its_stream_for_as_long_as_the_peer_likes() {
        let (program, near) = UnixStream::pair().unwrap();
        let (far, mut peer) = Stream::pair();
        drop(program);
        to_client(near, far, b"last words").await;
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "last words");
    }
}
