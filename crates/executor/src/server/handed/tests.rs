use super::*;
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat},
    net::{
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, sendmsg, socket_with, socketpair,
    },
};
use std::{
    io::IoSlice,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
};

fn pair() -> (StdUnixStream, StdUnixStream) {
    StdUnixStream::pair().unwrap()
}

fn open(path: &str) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[tokio::test]
async fn what_is_no_connected_unix_stream_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let listening = UnixListener::bind(folder.path().join("s")).unwrap();
    let network = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(network.local_addr().unwrap()).unwrap();
    let unconnected =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let packets =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap().0;
    let letters = std::os::unix::net::UnixDatagram::pair().unwrap().0;
    for (what, fd) in [
        ("a folder", open("/")),
        ("a device", open("/dev/zero")),
        ("a file", open("/proc/self/exe")),
        ("memory", memfd_create("x", MemfdFlags::CLOEXEC).unwrap()),
        ("a pipe", rustix::pipe::pipe().unwrap().0),
        ("a socket that listens", listening.into()),
        ("a listener of the network", network.into()),
        ("a connection over the network", connected.into()),
        ("a socket that is not connected", unconnected),
        ("packets", packets),
        ("letters", letters.into()),
    ] {
        assert!(as_stream(fd).is_err(), "{what}");
    }
    let (ours, _theirs) = pair();
    assert!(as_stream(ours.into()).is_ok());
}

fn send(control: &StdUnixStream, fds: &[&StdUnixStream]) {
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || message.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(control, &[IoSlice::new(b"c")], &mut message, SendFlags::NOSIGNAL).unwrap();
}

/// Whether the other end is gone: nobody holds it any more.
fn is_closed(stream: &StdUnixStream) -> bool {
    use std::io::Read as _;
    stream.set_nonblocking(true).unwrap();
    matches!((&mut &*stream).read(&mut [0; 1]), Ok(0))
}

#[tokio::test]
async fn of_more_than_one_descriptor_none_is_kept() {
    let (sender, control) = pair();
    let control = as_stream(control.into()).unwrap();
    for count in [2, 3, 8] {
        let pairs: Vec<_> = (0..count).map(|_| pair()).collect();
        send(&sender, &pairs.iter().map(|(theirs, _)| theirs).collect::<Vec<_>>());
        assert!(matches!(receive(&control).unwrap(), Received::Refused(_)), "{count}");
        let ours: Vec<_> = pairs.into_iter().map(|(_, ours)| ours).collect();
        assert!(ours.iter().all(is_closed), "{count}");
    }
    send(&sender, &[]);
    assert!(matches!(receive(&control).unwrap(), Received::Nothing));
    let (theirs, ours) = pair();
    send(&sender, &[&theirs]);
    drop(theirs);
    let Received::One(kept) = receive(&control).unwrap() else { panic!("one is taken") };
    assert!(!is_closed(&ours));
    drop(kept);
    assert!(is_closed(&ours));
    drop(sender);
    assert!(matches!(receive(&control).unwrap(), Received::Closed));
}
