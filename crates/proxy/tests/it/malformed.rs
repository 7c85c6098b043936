//! Bytes that two programs might read in two ways are refused or made unambiguous before an instance sees them. The
//! cases are data: `smuggling/http1.tsv` and `smuggling/http2.tsv` say what their columns are.

use crate::{
    raw_h2,
    support::{Instance, LONG, Proxy, status, to},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One line of a corpus.
struct Case {
    line: usize,
    expected: &'static str,
    why: &'static str,
    cells: Vec<&'static str>,
}

impl Case {
    /// Whether its head may reach the instance after the client has its answer, and be counted for the next case.
    fn may_linger(&self) -> bool {
        self.expected == "broken"
    }
}

fn cases(text: &'static str) -> Vec<Case> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let case = |(at, line): (usize, &'static str)| {
        let mut cells = line.split('\t');
        let (expected, why) = (cells.next().unwrap(), cells.next().unwrap());
        Case { line: at + 1, expected, why, cells: cells.collect() }
    };
    lines.map(case).collect()
}

/// The bytes of a cell.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("\\{} is no escape", char::from(other)),
            },
            plain => plain,
        });
    }
    bytes
}

/// An instance and what it has seen since it was last asked.
struct Watched {
    instance: Arc<Instance>,
    connections: usize,
}

impl Watched {
    fn new_connections(&mut self) -> usize {
        let now = self.instance.connections.load(Ordering::SeqCst);
        now - std::mem::replace(&mut self.connections, now)
    }

    fn new_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.instance.seen.lock().unwrap())
    }
}

async fn begin() -> (Watched, Proxy) {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start_with(to(&[instance.address]), |settings| {
        // Each case opens its own connection, so that one that was opened in vain shows.
        settings.limits.upstream_idle = 0;
    })
    .await;
    (Watched { instance, connections: 0 }, proxy)
}

/// What is wrong with what came of a case, if anything is.
fn judge(case: &Case, answered: Answered, connections: usize, requests: &[String]) -> Result<(), String> {
    let is_right = match case.expected.split_once(' ') {
        Some(("once", request)) => requests == [request] && answered == Answered::Ok(1),
        None => match case.expected {
            "twice" => requests == ["GET /", "GET /second"] && answered == Answered::Ok(2),
            "refused" => connections == 0 && requests.is_empty() && answered == Answered::Refused,
            "broken" => {
                let is_other = |request: &String| request.contains("smuggled");
                requests.len() <= 1 && !requests.iter().any(is_other) && answered == Answered::Refused
            }
            other => panic!("{other:?} is no expectation"),
        },
        Some(_) => panic!("{:?} is no expectation", case.expected),
    };
    let Case { line, expected, why, .. } = case;
    let got =
        || format!("line {line}, {why}: expected {expected}, got {answered:?}, {connections} {requests:?}");
    if is_right { Ok(()) } else { Err(got()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// So many times 200, and nothing else.
    Ok(usize),
    /// Once, by an error, and the connection or stream ended.
    Refused,
    Otherwise,
}

/// How a connection's whole answer is to be understood.
fn answered(text: &str) -> Answered {
    // A request line in a body ends with its version.
    let all = |start: &str| text.matches(start).count();
    let answers = all("HTTP/1.1 ") + all("HTTP/1.0 ");
    match answers {
        1 if (400..600).contains(&status(text)) => Answered::Refused,
        1.. if all("HTTP/1.1 200 ") + all("HTTP/1.0 200 ") == answers => Answered::Ok(answers),
        _ => Answered::Otherwise,
    }
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let (mut watched, mut proxy) = begin().await;
    let cases = cases(include_str!("smuggling/http1.tsv"));
    assert!(cases.len() > 120, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        // The proxy may hang up before it has all of what it refuses.
        let _ = stream.write_all(&unescape(case.cells[0])).await.is_ok();
        let (text, has_ended) = read_for(&mut stream, LONG / 5).await;
        let answered = if has_ended { answered(&text) } else { Answered::Otherwise };
        let judged = judge(&case, answered, watched.new_connections(), &watched.new_requests());
        wrong.extend(judged.err().map(|judged| format!("{judged} {text:?} ended: {has_ended}")));
        if case.may_linger() {
            (watched, proxy) = begin().await;
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What comes until the end or for this long, and whether the end came.
async fn read_for(stream: &mut TcpStream, long: Duration) -> (String, bool) {
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(long, stream.read_to_end(&mut bytes)).await;
    (String::from_utf8_lossy(&bytes).into_owned(), ended.is_ok())
}

#[tokio::test]
async fn nothing_that_http_2_can_say_becomes_two_requests_behind() {
    let (mut watched, mut proxy) = begin().await;
    let cases = cases(include_str!("smuggling/http2.tsv"));
    assert!(cases.len() > 60, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let fields = case.cells[0].split(" | ").map(|field| {
            let (name, value) = field.split_once('=').unwrap();
            (unescape(name), unescape(value))
        });
        let body = (case.cells[1] != "-").then(|| unescape(case.cells[1]));
        let answer = raw_h2::exchange(proxy.address, &fields.collect::<Vec<_>>(), body.as_deref()).await;
        let answered = match answer {
            raw_h2::Answer::Ok => Answered::Ok(1),
            raw_h2::Answer::Status | raw_h2::Answer::Reset | raw_h2::Answer::Ended => Answered::Refused,
        };
        let judged = judge(&case, answered, watched.new_connections(), &watched.new_requests());
        wrong.extend(judged.err().map(|judged| format!("{judged} {answer:?}")));
        if case.may_linger() {
            (watched, proxy) = begin().await;
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
