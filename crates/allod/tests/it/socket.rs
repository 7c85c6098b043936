//! The executor's socket, attacked by programs of the agent's own user, and by others. After each attack an honest agent is
//! served within its deadline, memory is what it was, and no descriptor is left.

use crate::{
    crowd::raise_own_limit,
    processes::eventually,
    running::{Agent, Running},
};
use allod_proto::{
    FaultCode, Role,
    executor::{Action, Answer, Ask, Done, Observation},
};
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, ftruncate, memfd_create, openat},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    thread::set_thread_res_uid,
};
use std::{
    io::{IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    },
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// How much more memory an attack may cost the executor, a debug build, in KiB.
const MEMORY: u64 = 96 * 1024;

/// What the executor held before an attack.
struct Before {
    memory: u64,
    descriptors: Option<usize>,
}

impl Before {
    /// With an honest agent attached.
    async fn of(running: &mut Running) -> (Self, Agent) {
        let mut agent = running.agent().await;
        // The first answers of a life make what all others use.
        for _ in 0..20 {
            agent.is_served().await;
        }
        (Self { memory: running.memory(), descriptors: running.descriptors() }, agent)
    }

    fn memory_is_flat(&self, running: &Running, what: &str) {
        let now = running.memory();
        assert!(now < self.memory + MEMORY, "{what}: {} KiB before, {now} KiB now", self.memory);
    }

    /// The next life of the agent is served, and everything else has been given back.
    async fn is_restored(&self, running: &mut Running, what: &str) {
        let _agent = running.agent().await;
        self.memory_is_flat(running, what);
        let Some(before) = self.descriptors else { return };
        eventually(&format!("{what}: descriptors are given back"), async || {
            running.descriptors().filter(|now| *now <= before)
        })
        .await;
    }
}

async fn connect(running: &Running) -> UnixStream {
    // A full backlog refuses at once.
    let socket = running.socket();
    eventually("there is room in the backlog", async || UnixStream::connect(&socket).await.ok()).await
}

async fn stranger(running: &Running) -> Agent {
    Agent::new(connect(running).await)
}

fn ask(id: u64, action: Action) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Ask { id, action }).unwrap();
    line.push(b'\n');
    line
}

fn attach() -> Vec<u8> {
    ask(1, Action::Attach { version: "1".to_owned() })
}

/// What a client of this uid is let do: `None` when it can't even connect, else all that it is told.
fn said_to(uid: u32, socket: &Path) -> Option<Vec<u8>> {
    let socket = socket.to_owned();
    let thread = std::thread::spawn(move || {
        // This thread alone changes its user, for good.
        let uid = rustix::process::Uid::from_raw(uid);
        set_thread_res_uid(uid, uid, uid).unwrap();
        let mut stream = StdUnixStream::connect(socket).ok()?;
        let mut said = Vec::new();
        let _ = stream.write_all(&attach());
        let _ = stream.read_to_end(&mut said);
        Some(said)
    });
    thread.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_another_user_is_turned_away_even_where_the_file_lets_it_in() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: a connection by another user, because this test may not become one");
        return;
    }
    let (mut running, _first) = Running::listening_with(&["--agent-uid", "61100"]).await;
    let (before, mut agent) = Before::of(&mut running).await;
    let socket = running.socket();
    let facts = std::fs::metadata(&socket).unwrap();
    assert_eq!(
        (facts.permissions().mode() & 0o777, std::os::unix::fs::MetadataExt::uid(&facts)),
        (0o600, 61_100)
    );
    assert_eq!(said_to(61_101, &socket), None);
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    for uid in [61_099, 61_101, 1, 65_534] {
        assert_eq!(said_to(uid, &socket), Some(Vec::new()), "{uid}");
    }
    agent.is_served().await;
    before.is_restored(&mut running, "strangers").await;
}

/// Lines that are none, each with the code of the refusal.
fn nonsense() -> Vec<(&'static str, Vec<u8>, FaultCode)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let deep = |open: &str, close: &str| text(&format!("{}{}", open.repeat(100_000), close.repeat(100_000)));
    let noise: Vec<u8> =
        (0u32..4000).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0] | 0x80).collect();
    let malformed = [
        ("nothing", Vec::new()),
        ("noise", noise),
        ("zeros", vec![0; 1000]),
        ("a byte order mark", [b"\xef\xbb\xbf".to_vec(), attach()[..attach().len() - 1].to_vec()].concat()),
        ("invalid UTF-8", b"{\"id\":1,\"action\":{\"attach\":{\"version\":\"\xff\xfe\"}}}".to_vec()),
        ("half a surrogate", text(r#"{"id":1,"action":{"attach":{"version":"\ud800"}}}"#)),
        ("a request of HTTP", text("GET / HTTP/1.1\r")),
        ("a list", text("[1,2,3]")),
        ("no action", text(r#"{"id":1}"#)),
        ("no id", text(r#"{"action":{"look":{}}}"#)),
        ("an id below zero", text(r#"{"id":-1,"action":{"look":{}}}"#)),
        ("an id over 64 bits", text(r#"{"id":18446744073709551616,"action":{"look":{}}}"#)),
        ("an id that is no whole number", text(r#"{"id":1.5,"action":{"look":{}}}"#)),
        ("a number that none is", text(r#"{"id":1e999,"action":{"look":{}}}"#)),
        ("a limit over 32 bits", text(r#"{"id":1,"action":{"record_read":{"from":1,"limit":4294967296}}}"#)),
        ("an id twice", text(r#"{"id":1,"id":2,"action":{"look":{}}}"#)),
        ("two actions", text(r#"{"id":1,"action":{"look":{},"keys":{}}}"#)),
        ("an action twice", text(r#"{"id":1,"action":{"look":{}},"action":{"keys":{}}}"#)),
        ("a field twice", text(r#"{"id":1,"action":{"log_list":{"app":"a/b","app":"c/d"}}}"#)),
        ("a field too many", text(r#"{"id":1,"action":{"look":{}},"uid":0}"#)),
        ("a deed that there is not", text(r#"{"id":1,"action":{"run":{"argv":["sh"]}}}"#)),
        ("something after it", text(r#"{"id":1,"action":{"look":{}}}{"id":2,"action":{"look":{}}}"#)),
    ];
    let large = [
        ("lists in lists", deep("[", "]")),
        ("objects in objects", deep(r#"{"id":"#, "}")),
        ("an action in actions", deep(r#"{"action":"#, "}")),
    ];
    let malformed = malformed.into_iter().map(|(what, line)| (what, line, FaultCode::Malformed));
    // A stranger's line is cut long before anybody looks how deep it is.
    malformed.chain(large.map(|(what, line)| (what, line, FaultCode::TooLarge))).collect()
}

#[tokio::test]
async fn what_is_no_ask_costs_its_connection_and_nothing_else() {
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    for (what, line, code) in nonsense() {
        let mut stranger = stranger(&running).await;
        let answer = stranger.raw(&line).await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!((answer.id, answer.outcome.unwrap_err().code), (0, code), "{what}, before attach");
        assert!(stranger.answer().await.is_none(), "{what}");
        agent.is_served().await;
    }
    for (what, line, _) in nonsense() {
        let mut taken = running.agent().await;
        let answer = taken.raw(&line).await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.outcome.unwrap_err().code, FaultCode::Malformed, "{what}, after attach");
        assert!(taken.answer().await.is_none(), "{what}");
    }
    before.is_restored(&mut running, "nonsense").await;
}

#[tokio::test]
async fn a_line_without_end_is_cut_at_its_limit_and_costs_no_memory() {
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        let mut stranger = stranger(&running).await;
        while stranger.write.write_all(&piece).await.is_ok() {}
        assert_eq!(stranger.answer().await.unwrap().outcome.unwrap_err().code, FaultCode::TooLarge);
        agent.is_served().await;
    }
    for _ in 0..8 {
        let mut taken = running.agent().await;
        let mut written = 0;
        while taken.write.write_all(&piece).await.is_ok() {
            written += piece.len();
            before.memory_is_flat(&running, "while it is written");
            assert!(written < 64 << 20, "a line of 64 MiB is still read");
        }
        assert_eq!(taken.answer().await.unwrap().outcome.unwrap_err().code, FaultCode::TooLarge);
    }
    before.is_restored(&mut running, "lines without end").await;
}

#[tokio::test]
async fn half_lines_and_silence_keep_nobody_out_and_end_by_themselves() {
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    let mut silent = Vec::new();
    for number in 0..60 {
        let mut stream = connect(&running).await;
        let half = &attach()[..number % 20];
        stream.write_all(half).await.unwrap();
        silent.push(stream);
        agent.is_served().await;
    }
    // A line a byte at a time is a line.
    let mut slow = connect(&running).await;
    for byte in attach() {
        slow.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut slow = Agent::new(slow);
    assert!(matches!(slow.answer().await.unwrap().outcome, Ok(Done::Attached(_))));
    // One that was cut off by its sender's end is none, even if it would have made sense.
    let mut torn = stranger(&running).await;
    torn.write.write_all(&attach()[..attach().len() - 1]).await.unwrap();
    torn.write.shutdown().await.unwrap();
    assert_eq!(torn.answer().await.unwrap().outcome.unwrap_err().code, FaultCode::Malformed);
    // Half an ask of an agent that has attached holds nobody up but itself.
    slow.write.write_all(&ask(2, Action::Look {})[..9]).await.unwrap();
    before.memory_is_flat(&running, "with half lines");
    // Nobody who is silent has been told to go yet; each is, without our doing.
    let ended = async {
        for mut stream in silent {
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
        }
        while slow.answer().await.is_some() {}
    };
    tokio::time::timeout(Duration::from_secs(120), ended).await.expect("a silent connection stays");
    before.is_restored(&mut running, "half lines").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_leave_room_for_the_agent_and_its_next_life() {
    raise_own_limit();
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    let socket = running.socket();
    let crowd = tokio::spawn(async move {
        let mut all = Vec::new();
        while all.len() < 1000 {
            match UnixStream::connect(&socket).await {
                Ok(stream) => all.push(stream),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        all
    });
    for _ in 0..20 {
        agent.is_served().await;
        before.memory_is_flat(&running, "in the crowd");
    }
    let mut next = running.agent().await;
    let crowd = crowd.await.unwrap();
    // Whoever comes after all of them is heard after all of them have come in.
    let told = stranger(&running).await.ask(Action::Keys {}).await.outcome.unwrap_err();
    assert_eq!(told.code, FaultCode::Malformed);
    next.is_served().await;
    if let (Some(before), Some(now)) = (before.descriptors, running.descriptors()) {
        assert!(now <= before + 70, "{now} descriptors are held for a crowd, {before} were before it");
    }
    assert!(agent.answer().await.is_none(), "the life before has ended");
    drop(crowd);
    before.is_restored(&mut running, "a crowd").await;
}

fn observation(number: usize) -> Observation {
    Observation::Read {
        request: "r".repeat(256),
        key: None,
        delegate: None,
        name: format!("{}{}", number % 4, "n".repeat(255)),
        role: Role::Viewer,
        door: "rpc".to_owned(),
        source: Some("s".repeat(256)),
        command: "c".repeat(256),
        app: None,
        code: None,
        took_ms: 0,
    }
}

#[tokio::test]
async fn a_peer_that_reads_no_answers_fills_a_bounded_piece_of_memory() {
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    // A record of which one answer holds more than a megabyte.
    for round in 0..3 {
        let seen = (0..400).map(|number| observation(number + round)).collect();
        assert!(agent.ask(Action::Observe(seen)).await.outcome.is_ok());
    }
    let mut deaf = UnixStream::connect(running.socket()).await.unwrap();
    deaf.write_all(&attach()).await.unwrap();
    let read = Action::RecordRead { from: 1, limit: u32::MAX };
    let asks: Vec<u8> = (0..200_000).flat_map(|id| ask(id, read.clone())).collect();
    // It writes as long as somebody takes it, and reads nothing.
    let written = tokio::time::timeout(Duration::from_secs(5), deaf.write_all(&asks)).await;
    assert!(written.is_err(), "200,000 asks were taken from somebody who takes no answer: {written:?}");
    before.memory_is_flat(&running, "while nobody reads");
    // The agent's next life is served although the deaf one is still there.
    let mut next = running.agent().await;
    next.is_served().await;
    before.memory_is_flat(&running, "with the next agent");
    before.is_restored(&mut running, "deaf").await;
    drop(deaf);
}

#[tokio::test]
async fn asks_by_the_thousand_are_all_answered_also_with_one_id_for_all() {
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    const ASKS: usize = 5000;
    let asks: Vec<u8> = (0..ASKS).flat_map(|_| ask(7, Action::Keys {})).collect();
    let Agent { lines, write, .. } = &mut agent;
    let writing = async { write.write_all(&asks).await.unwrap() };
    let reading = async {
        for number in 0..ASKS {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("ends after {number}"));
            let answer: Answer = serde_json::from_str(&line).unwrap();
            assert!(answer.id == 7 && matches!(answer.outcome, Ok(Done::Keys(_))), "{answer:?}");
        }
    };
    tokio::join!(writing, reading);
    agent.is_served().await;
    before.is_restored(&mut running, "asks by the thousand").await;
}

#[tokio::test]
async fn a_connection_that_is_half_closed_is_answered_and_one_that_will_not_hear_is_ended() {
    let (mut running, _first) = Running::listening().await;
    let (before, mut agent) = Before::of(&mut running).await;
    agent.write.write_all(&ask(9, Action::RecordVerify {})).await.unwrap();
    agent.write.shutdown().await.unwrap();
    let answer = agent.answer().await.expect("what was asked before the half was closed is answered");
    assert!(answer.id == 9 && matches!(answer.outcome, Ok(Done::Verified(_))), "{answer:?}");
    assert!(agent.answer().await.is_none());
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let stream = connect(&running).await.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.shutdown(std::net::Shutdown::Read).unwrap();
        let asks = (2..50).flat_map(|id| ask(id, Action::Look {}));
        let asks: Vec<u8> = attach().into_iter().chain(asks).collect();
        // It may be told in the middle of it that nobody is there any more.
        let _ = (&stream).write_all(&asks);
        deaf.push(stream);
    }
    before.is_restored(&mut running, "half-closed").await;
    drop(deaf);
}

fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        assert!(message.push(SendAncillaryMessage::ScmRights(fds)));
        match sendmsg(&to, &[IoSlice::new(bytes)], &mut message, SendFlags::NOSIGNAL) {
            // So many may be on their way for one user, who is not root.
            Err(Errno::TOOMANYREFS) => std::thread::yield_now(),
            sent => return sent,
        }
    }
}

fn open(path: &str) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[tokio::test]
async fn descriptors_sent_where_none_is_expected_are_closed_and_read_by_nobody() {
    let (mut running, _first) = Running::listening().await;
    let (before, _agent) = Before::of(&mut running).await;
    let memory = memfd_create("x", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 1 << 20).unwrap();
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    for round in 0..10u64 {
        let stream = connect(&running).await;
        let (folder, device, own) =
            (open("/"), open("/dev/zero"), stream.as_fd().try_clone_to_owned().unwrap());
        let kinds = [folder.as_fd(), device.as_fd(), memory.as_fd(), theirs.as_fd(), own.as_fd()];
        let many: Vec<_> = kinds.iter().copied().cycle().take(250).collect();
        send(&stream, &attach(), &many).unwrap();
        ftruncate(&memory, round << 16).unwrap();
        send(&stream, &ask(2, Action::Look {}), &kinds).unwrap();
        let mut agent = Agent::new(stream);
        assert!(matches!(agent.answer().await.unwrap().outcome, Ok(Done::Attached(_))));
        assert!(matches!(agent.answer().await.unwrap().outcome, Ok(Done::Looked(_))));
        // One that nobody reads any more, in the middle of a line.
        let stream: &UnixStream = agent.write.as_ref();
        send(stream, b"{", &kinds).unwrap();
    }
    before.is_restored(&mut running, "descriptors").await;
    drop(theirs);
    ours.set_nonblocking(true).unwrap();
    assert!(matches!((&ours).read(&mut [0; 1]), Ok(0)), "somebody still holds what was sent");
}

#[tokio::test]
async fn what_is_handed_over_must_be_one_connected_stream() {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let mut running = Running::handed(Stdio::from(OwnedFd::from(theirs)));
    let hand_over = || {
        let (agent, executor) = StdUnixStream::pair().unwrap();
        send(&ours, b"c", &[executor.as_fd()]).unwrap();
        agent.set_nonblocking(true).unwrap();
        Agent::new(UnixStream::from_std(agent).unwrap())
    };
    let mut first = hand_over();
    first.attach().await;
    first.is_served().await;
    let before = running.descriptors();
    let memory = memfd_create("x", MemfdFlags::CLOEXEC).unwrap();
    memory_says(&memory, &attach());
    let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(network.local_addr().unwrap()).unwrap();
    let (folder, device, pipe) = (open("/"), open("/dev/zero"), rustix::pipe::pipe().unwrap());
    for round in 0..20u64 {
        for wrong in [
            folder.as_fd(),
            device.as_fd(),
            memory.as_fd(),
            pipe.0.as_fd(),
            network.as_fd(),
            connected.as_fd(),
        ] {
            send(&ours, b"c", &[wrong]).unwrap();
            send(&ours, b"c", &[wrong; 2]).unwrap();
            send(&ours, b"c", &[wrong; 250]).unwrap();
        }
        ftruncate(&memory, round << 12).unwrap();
        // A message without any, and the executor's own way out.
        (&ours).write_all(b"cc").unwrap();
        send(&ours, b"c", &[ours.as_fd()]).unwrap();
        first.is_served().await;
    }
    // Its own way out came back as a connection: one that is silent, and is ended like any other.
    drop((0..70).map(|_| hand_over()).collect::<Vec<_>>());
    let mut next = hand_over();
    next.attach().await;
    next.is_served().await;
    assert!(first.answer().await.is_none(), "one agent at a time");
    running.must_live();
    let Some(before) = before else { return };
    eventually("descriptors are given back", async || running.descriptors().filter(|now| *now <= before))
        .await;
    next.is_served().await;
}

fn memory_says(memory: &OwnedFd, bytes: &[u8]) {
    assert_eq!(rustix::io::write(memory, bytes).unwrap(), bytes.len());
    rustix::fs::seek(memory, rustix::fs::SeekFrom::Start(0)).unwrap();
}
