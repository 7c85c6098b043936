//! A stand-in for a coordinator: HTTP/1.1 on loopback, a network's state, and a language that a test gives it.

use allod_mesh::coordination::Endpoint;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the administrator has.
pub(crate) const SECRET: &str = "s3cret-of-the-administrator";

/// One request, read.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.split('/').skip(1).collect()
    }
}

/// What is answered.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into_bytes() }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }
}

/// A machine of the network.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) expiry: Option<String>,
}

/// A key to join with.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) asked: Value,
    pub(crate) expires: String,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) secret: String,
    pub(crate) machines: Vec<Machine>,
    pub(crate) keys: Vec<Key>,
    pub(crate) users: Vec<(String, String)>,
    pub(crate) policy: String,
    pub(crate) tokens: Vec<String>,
    pub(crate) asked: Vec<Asked>,
}

/// How a coordinator answers.
pub(crate) type Language = fn(&mut State, &Asked) -> Said;

/// A running stand-in.
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn speaking(language: Language) -> Self {
        let machine = |id: &str, name: &str, tags: &[&str], expiry: Option<&str>| Machine {
            id: id.to_owned(),
            name: name.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            expiry: expiry.map(str::to_owned),
        };
        let state = State {
            secret: SECRET.to_owned(),
            machines: vec![
                machine("1", "laptop", &[], Some("2027-01-02T03:04:05Z")),
                machine("2", "web1", &["tag:server"], None),
            ],
            users: vec![("1".to_owned(), "ann@example.org".to_owned())],
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = answer(stream, &state, language).await;
                });
            }
        });
        Self { state, address, serving }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&format!("http://{}", self.address), true).unwrap()
    }

    /// Accepts this secret from now on, and no token that it gave before.
    pub(crate) fn accepts(&self, secret: &str) {
        let mut state = self.state.lock().unwrap();
        state.secret = secret.to_owned();
        state.tokens.clear();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, state: &Mutex<State>, language: Language) -> std::io::Result<()> {
    let asked = read(&mut stream).await?;
    let said = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        language(&mut state, &asked)
    };
    let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", said.status, said.body.len());
    for (name, value) in said.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    stream.write_all(&said.body).await
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let first: Vec<_> = lines.next().unwrap().split(' ').collect();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (path, query) = first[1].split_once('?').unwrap_or((first[1], ""));
    Ok(Asked {
        method: first[0].to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}
