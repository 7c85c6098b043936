//! Liars between the command line and the agent, and an agent that lies: whoever has stolen its identity key can sign
//! replies, but the record's head isn't theirs to make. Each is noticed, and nothing unverified is printed.

use crate::{
    cli::{Cli, Output},
    world::World,
};
use allod_proto::{
    Digest, Epoch, Nonce, Timestamp,
    command::Frame,
    headers,
    record::{Head, SignedHead},
};
use allod_signing::{FrameSigner, KeySigner, ReplyFields, Signer as _, sshsig};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, channel::Channel, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, header::HeaderValue, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

type Body = BoxBody<Bytes, Infallible>;

/// What the liar does to a reply.
#[derive(Clone)]
enum Lie {
    /// Nothing.
    None,
    /// Signs it with another key.
    AnotherIdentity,
    /// Gives the reply to an earlier request.
    AnEarlierReply,
    /// Another body under the same signature.
    AnotherBody,
    /// Signed by the stolen identity: this head of the record, or none.
    Head(Option<SignedHead>),
    /// In a stream, from frame k on.
    Frames(FrameLie, usize),
}

/// What the liar does to the frames of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameLie {
    Cut,
    Drop,
    Twice,
    Swap,
    Change,
    LastTooEarly,
    AnotherIdentity,
    /// By the stolen identity, but not after the frames that were.
    AnotherChain,
}

/// Stands where the agent is believed to be.
struct Liar {
    at: SocketAddr,
    lie: Arc<Mutex<Lie>>,
    /// The head of the last reply that passed.
    head: Arc<Mutex<Option<SignedHead>>>,
    task: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Way {
    agent: SocketAddr,
    identity: KeySigner,
    lie: Arc<Mutex<Lie>>,
    head: Arc<Mutex<Option<SignedHead>>>,
    earlier: Mutex<Option<(hyper::http::response::Parts, Bytes)>>,
}

impl Liar {
    async fn before(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (lie, head) = (Arc::new(Mutex::new(Lie::None)), Arc::new(Mutex::new(None)));
        let identity = key_in(&world.state.join("agent/identity.key"));
        assert_eq!(identity.fingerprint(), world.identity);
        let way = Arc::new(Way {
            agent: world.management,
            identity,
            lie: Arc::clone(&lie),
            head: Arc::clone(&head),
            earlier: Mutex::new(None),
        });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let way = Arc::clone(&way);
                let serve = service_fn(move |request| {
                    let way = Arc::clone(&way);
                    async move { Ok::<_, Infallible>(way.answer(request).await) }
                });
                let serving = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self { at, lie, head, task }
    }

    fn tells(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }

    fn head(&self) -> SignedHead {
        self.head.lock().unwrap().clone().unwrap()
    }

    /// Somebody who believes that the server is here.
    fn victim(&self, world: &World, name: &str, key: &KeySigner) -> Cli {
        let person = world.person(name, key);
        let file = person.home.join("servers.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let there = world.management.to_string();
        assert!(text.contains(&there), "{text}");
        std::fs::write(file, text.replace(&there, &self.at.to_string())).unwrap();
        person
    }
}

fn key_in(file: &Path) -> KeySigner {
    KeySigner::from_openssh(&std::fs::read_to_string(file).unwrap(), None).unwrap()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

impl Way {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let nonce =
            parts.headers.get(headers::NONCE).map(|nonce| Nonce::new(nonce.to_str().unwrap()).unwrap());
        let reply = self.pass_on(Request::from_parts(parts, Full::new(body))).await;
        let lie = self.lie.lock().unwrap().clone();
        let Some(nonce) = nonce else { return whole(reply).await };
        if reply.headers()["content-type"] == "application/x-ndjson" {
            return match lie {
                Lie::Frames(lie, from) => self.lie_in_frames(reply, nonce, lie, from).await,
                _ => whole(reply).await,
            };
        }
        let (mut parts, body) = reply.into_parts();
        let mut bytes = body.collect().await.unwrap().to_bytes();
        let head = parts.headers.get(headers::RECORD).map(|head| head.to_str().unwrap().to_owned());
        *self.head.lock().unwrap() = head.map(|head| serde_json::from_str(&head).unwrap());
        match lie {
            Lie::None | Lie::Frames(..) => {
                *self.earlier.lock().unwrap() = Some((parts.clone(), bytes.clone()))
            }
            Lie::AnotherIdentity => {
                self.sign(&mut parts, &KeySigner::generate([77; 32], "x"), &nonce, &bytes)
            }
            Lie::AnEarlierReply => (parts, bytes) = self.earlier.lock().unwrap().clone().unwrap(),
            Lie::AnotherBody => bytes = String::from_utf8_lossy(&bytes).replace("role", "rule").into(),
            Lie::Head(Some(head)) => {
                let head = HeaderValue::from_str(&serde_json::to_string(&head).unwrap()).unwrap();
                parts.headers.insert(headers::RECORD, head);
                self.sign(&mut parts, &self.identity, &nonce, &bytes);
            }
            Lie::Head(None) => drop(parts.headers.remove(headers::RECORD)),
        }
        Response::from_parts(parts, full(bytes))
    }

    async fn pass_on(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.agent).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    fn sign(&self, parts: &mut hyper::http::response::Parts, key: &KeySigner, nonce: &Nonce, body: &Bytes) {
        let header = |name: &str| parts.headers[name].to_str().unwrap();
        let epoch: Epoch = header(headers::EPOCH).parse().unwrap();
        let head: SignedHead = serde_json::from_str(header(headers::RECORD)).unwrap();
        let (status, body) = (parts.status.as_u16(), Digest::of(body));
        let fields = ReplyFields { nonce, status, body: &body, head: &head.head, epoch: &epoch };
        let signature = sshsig::to_base64(&key.sign(headers::REPLY_NAMESPACE, &fields.bytes()).unwrap());
        parts.headers.insert(headers::REPLY_SIGNATURE, HeaderValue::from_str(&signature).unwrap());
    }

    async fn lie_in_frames(
        &self,
        reply: Response<Incoming>,
        nonce: Nonce,
        lie: FrameLie,
        from: usize,
    ) -> Response<Body> {
        let (parts, body) = reply.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let frames: Vec<Frame> = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert!(lie == FrameLie::Cut || frames.len() > from + 2, "{} frames", frames.len());
        let told = match lie {
            FrameLie::AnotherIdentity => again(frames, from, nonce, &KeySigner::generate([78; 32], "x")),
            FrameLie::AnotherChain => {
                again(frames, from, Nonce::new("a".repeat(30)).unwrap(), &self.identity)
            }
            _ => changed(frames, lie, from),
        };
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(told.len() + 1);
        for frame in told {
            let line = serde_json::to_string(&frame).unwrap() + "\n";
            sender.send_data(line.into()).await.unwrap();
        }
        Response::from_parts(parts, body.boxed())
    }
}

/// What was said, word for word, with the promise to say more.
async fn whole(reply: Response<Incoming>) -> Response<Body> {
    let (parts, body) = reply.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, full(bytes))
}

/// The frames from k on signed by this key, in a chain that is itself whole.
fn again(frames: Vec<Frame>, from: usize, nonce: Nonce, key: &KeySigner) -> Vec<Frame> {
    let mut signer = FrameSigner::new(nonce);
    let sign = |(number, frame): (usize, Frame)| {
        let signed = signer.sign(key, frame.payload.as_bytes(), frame.last).unwrap();
        if number < from {
            return frame;
        }
        let signature = sshsig::to_base64(&signed.signature);
        Frame { seq: signed.sequence, before: signed.before, signature, ..frame }
    };
    frames.into_iter().enumerate().map(sign).collect()
}

fn changed(mut frames: Vec<Frame>, lie: FrameLie, from: usize) -> Vec<Frame> {
    match lie {
        FrameLie::Cut => frames.truncate(from),
        FrameLie::Drop => drop(frames.remove(from)),
        FrameLie::Twice => frames.insert(from, frames[from - 1].clone()),
        FrameLie::Swap => frames.swap(from, from + 1),
        FrameLie::Change => frames[from].payload = frames[from].payload.replacen(':', ": ", 1),
        FrameLie::LastTooEarly => frames[from].last = true,
        FrameLie::AnotherIdentity | FrameLie::AnotherChain => {}
    }
    frames
}

/// What nobody may see before it is verified.
const MARK: &str = "name-of-a-key";

fn noticed(output: &Output, what: &str) {
    let (code, message) = output.refused(10);
    assert_eq!(code, "untrusted", "{message}");
    assert!(message.contains(what), "{what:?} is not in {message:?}");
    assert!(!output.stdout.contains(MARK) && !output.stderr.contains(MARK), "{output:?}");
}

/// Nor to a person, but for the heading of the empty table.
async fn nothing_is_printed(victim: &Cli) {
    let plain = victim.plain_in(&victim.home, &["keys", "list"]).await;
    assert_eq!(plain.code, 10, "{plain:?}");
    assert!(!plain.stdout.contains(MARK) && !plain.stdout.contains("SHA256"), "{plain:?}");
    assert!(plain.stdout.lines().count() <= 1, "{plain:?}");
}

async fn victim(world: &World, liar: &Liar) -> Cli {
    let key = world.enrol(MARK, 41, &["--role", "owner"]).await;
    let victim = liar.victim(world, "victim", &key);
    // As long as nobody lies, all is well, and the head is remembered.
    let output = victim.run(&["keys", "list"]).await.ok();
    assert!(output.stdout.contains(MARK));
    victim
}

#[tokio::test]
async fn replies_of_another_identity_of_another_time_and_with_another_body_are_noticed() {
    let world = World::up().await;
    let liar = Liar::before(&world).await;
    let victim = victim(&world, &liar).await;
    for (lie, what) in [
        (Lie::AnotherIdentity, "is not the server it was"),
        (Lie::AnEarlierReply, "does not hold"),
        (Lie::AnotherBody, "does not hold"),
    ] {
        liar.tells(lie);
        noticed(&victim.run(&["keys", "list"]).await, what);
        nothing_is_printed(&victim).await;
    }
    liar.tells(Lie::None);
    victim.run(&["keys", "list"]).await.ok();
}

#[tokio::test]
async fn an_agent_that_lies_about_the_record_is_caught_by_whoever_saw_more() {
    let world = World::up().await;
    let liar = Liar::before(&world).await;
    let victim = victim(&world, &liar).await;
    let older = liar.head();
    world.enrol("another", 42, &["--role", "viewer"]).await;
    victim.run(&["keys", "list"]).await.ok();
    let newest = liar.head();
    assert!(newest.head.seq > older.head.seq);
    let other = Head { hash: Digest::of("another line"), ..newest.head };
    let higher = Head { seq: newest.head.seq + 1000, ..other };
    let signed = |head: Head, key: &KeySigner| {
        let at = Timestamp(newest.at.0 + 1);
        let signature = key.sign(headers::HEAD_NAMESPACE, &SignedHead::signed_bytes(&head, at)).unwrap();
        SignedHead { head, at, signature: sshsig::to_base64(&signature) }
    };
    let (stolen, strange) =
        (key_in(&world.state.join("agent/identity.key")), KeySigner::generate([43; 32], "x"));
    let record_key = key_in(&world.state.join("executor/record.key"));
    for (head, what) in [
        // Really signed once, by the executor.
        (Some(older), "went back"),
        // With a key that the agent does have, and with one of its own making.
        (Some(signed(higher, &stolen)), "the record key"),
        (Some(signed(higher, &strange)), "the record key"),
        // A true signature under another head.
        (Some(SignedHead { head: higher, ..newest.clone() }), "does not hold"),
        (None, "no head"),
        // Even whoever has the record key, too, can't take back what was seen.
        (Some(signed(other, &record_key)), "was rewritten"),
    ] {
        liar.tells(Lie::Head(head));
        noticed(&victim.run(&["keys", "list"]).await, what);
        nothing_is_printed(&victim).await;
    }
    liar.tells(Lie::None);
    victim.run(&["keys", "list"]).await.ok();
}

#[tokio::test]
async fn a_stream_that_is_taken_over_reordered_cut_or_thinned_out_shows_what_was_verified_and_no_more() {
    let world = World::up().await;
    world.app("blog").deploy(&world, "v1").await.ok();
    let operation = world.operations().await[0]["id"].as_str().unwrap().to_owned();
    let liar = Liar::before(&world).await;
    let victim = victim(&world, &liar).await;
    let attach = ["ops", "attach", operation.as_str()];
    let honest = victim.run(&attach).await.ok().lines();
    assert!(honest.len() > 5, "{honest:?}");
    for lie in [
        FrameLie::Drop,
        FrameLie::Twice,
        FrameLie::Swap,
        FrameLie::Change,
        FrameLie::LastTooEarly,
        FrameLie::AnotherIdentity,
        FrameLie::AnotherChain,
    ] {
        for from in [1, 3] {
            liar.tells(Lie::Frames(lie, from));
            let output = victim.run(&attach).await;
            assert_eq!(output.code, 10, "{lie:?} from {from}: {output:?}");
            let mut shown = output.lines();
            let fault = shown.pop().unwrap();
            assert_eq!(fault["ok"], false, "{fault}");
            assert_eq!(shown, honest[..from], "{lie:?} from {from}");
        }
    }
    // A stream that is cut is said to be cut, and taken up again where it ended: some of it each time.
    liar.tells(Lie::Frames(FrameLie::Cut, 3));
    let output = victim.run(&attach).await;
    assert!(output.stderr.contains("cut off"), "{output:?}");
    let shown = output.lines();
    assert!(shown.len() > 3 && shown == honest[..shown.len()], "{output:?}");
}

#[tokio::test]
async fn a_line_cut_off_on_the_disk_is_found_by_whoever_asks_for_the_record() {
    let world = World::up().await;
    world.enrol("eve", 44, &["--role", "viewer"]).await;
    world.allod(&["audit", "verify"]).await.ok();
    let folder = world.state.join("record");
    let segments = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("keys.add")))
        .unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    // Everything from the enrolment on.
    let keep =
        text.lines().take_while(|line| !line.contains("keys.add")).map(|line| line.len() + 1).sum::<usize>();
    let file = std::fs::File::options().write(true).open(&segment).unwrap();
    file.set_len(u64::try_from(keep).unwrap()).unwrap();
    let found = world.allod(&["audit", "verify"]).await;
    assert_eq!(found.refused(10).0, "untrusted");
}
