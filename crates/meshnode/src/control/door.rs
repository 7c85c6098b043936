//! The way in: dial, learn the coordinator's Noise key and whether to believe it, upgrade, shake hands. Over plain http nothing
//! but a key that is pinned, or that the root key vouches for, proves the coordinator.

use crate::{
    NoiseStream,
    dial::{self, DialError, Place, Stream},
    upgrade::{HEAD, UpgradeError, Wanted, upgrade},
};
use allod_meshproto::{
    CAPABILITY_VERSION, MachineKey, MachinePrivate,
    control::{KeyReply, Message as _},
    limits,
    noise::{self, HANDSHAKE_HEADER, Initiator, NoiseError, Received},
    token::{self, RootKey, TokenError},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{io::AsyncReadExt as _, time::timeout};

/// How long the whole of it may take, per URL.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the coordinator's Noise key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is this one.
    Pinned(MachineKey),
    /// It is any that the root key vouches for, with this serial number or a higher one.
    Root {
        /// The root key, out of the join token.
        root: RootKey,
        /// The highest serial number that was seen.
        seen: u64,
    },
    /// It is whatever `/key` says over TLS; over plain http nothing is believed.
    Certificate,
    /// It is whatever `/key` says the first time. For laboratories, and only where a person asked for it.
    FirstUse,
}

impl Trust {
    /// Believes from now on what was vouched for.
    pub(super) const fn remember(&mut self, vouched: Vouched) {
        match self {
            Self::Pinned(_) => {}
            Self::Root { seen, .. } => *seen = vouched.serial,
            Self::Certificate | Self::FirstUse => *self = Self::Pinned(vouched.key),
        }
    }
}

/// By which key the coordinator was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vouched {
    /// Its Noise key.
    pub key: MachineKey,
    /// The serial number that the root key gave it; 0 without a root key.
    pub serial: u64,
}

/// Why there is no way in.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// There is no URL to try.
    #[error("no coordinator to ask")]
    NoUrl,
    /// It can't be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It took too long.
    #[error("{url} did not answer within {} s", PATIENCE.as_secs())]
    Silent {
        /// Where.
        url: String,
    },
    /// What answers is no coordinator.
    #[error("{url} does not answer as a coordinator does: {what}")]
    NotOne {
        /// Where.
        url: String,
        /// What it did.
        what: String,
    },
    /// The connection broke.
    #[error("the connection to {url} broke")]
    Http {
        /// Where.
        url: String,
        /// The cause.
        source: hyper::Error,
    },
    /// It does not switch protocols.
    #[error("{url} does not answer as a coordinator does")]
    Upgrade {
        /// Where.
        url: String,
        /// What it did.
        source: UpgradeError,
    },
    /// The connection broke.
    #[error("the connection to {url} broke")]
    Io {
        /// Where.
        url: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Its key is not to be believed.
    #[error("{url} is refused")]
    Key {
        /// Where.
        url: String,
        /// Why.
        source: TokenError,
    },
    /// There is nothing that could prove its key.
    #[error(
        "{url} is plain http, and nothing here says which key the coordinator has; use https or a join token"
    )]
    Unproven {
        /// Where.
        url: String,
    },
    /// It has another key than the one it must have.
    #[error("{url} does not have the key it must have, or somebody is between")]
    Noise {
        /// Where.
        url: String,
        /// What was wrong.
        source: NoiseError,
    },
}

/// A coordinator that has proven its key.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) stream: NoiseStream<TokioIo<Upgraded>>,
    pub(super) vouched: Vouched,
    pub(super) authority: String,
}

/// Tries each URL in turn.
pub(super) async fn connect(
    urls: &[String],
    trust: &Trust,
    tls: Option<&Arc<rustls::ClientConfig>>,
    machine: &MachinePrivate,
) -> Result<Met, DoorError> {
    let mut last = DoorError::NoUrl;
    for url in urls {
        match timeout(PATIENCE, through(url, trust, tls, machine)).await {
            Ok(Ok(met)) => return Ok(met),
            Ok(Err(error)) => last = error,
            Err(_) => last = DoorError::Silent { url: url.clone() },
        }
    }
    Err(last)
}

async fn through(
    url: &str,
    trust: &Trust,
    tls: Option<&Arc<rustls::ClientConfig>>,
    machine: &MachinePrivate,
) -> Result<Met, DoorError> {
    let place = Place::parse(url)?;
    let vouched = match trust {
        Trust::Pinned(key) => Vouched { key: *key, serial: 0 },
        Trust::Certificate if !place.is_tls() => return Err(DoorError::Unproven { url: url.to_owned() }),
        Trust::Root { .. } | Trust::Certificate | Trust::FirstUse => {
            let reply = ask_for_key(url, place.connect(tls).await?, &place).await?;
            believe(url, &reply, trust)?
        }
    };
    let stream = place.connect(tls).await?;
    let stream = shake_hands(url, stream, &place, machine, vouched.key).await?;
    Ok(Met { stream, vouched, authority: place.authority().to_owned() })
}

fn believe(url: &str, reply: &KeyReply, trust: &Trust) -> Result<Vouched, DoorError> {
    match trust {
        Trust::Root { root, seen } => token::newest(&reply.allod_keys, *root, *seen)
            .map(|(key, serial)| Vouched { key, serial })
            .map_err(|source| DoorError::Key { url: url.to_owned(), source }),
        Trust::Pinned(key) => Ok(Vouched { key: *key, serial: 0 }),
        Trust::Certificate | Trust::FirstUse if reply.public_key.is_zero() => {
            Err(DoorError::NotOne { url: url.to_owned(), what: "it says no key".to_owned() })
        }
        Trust::Certificate | Trust::FirstUse => Ok(Vouched { key: reply.public_key, serial: 0 }),
    }
}

async fn ask_for_key(url: &str, stream: Stream, place: &Place) -> Result<KeyReply, DoorError> {
    let failed = |source| DoorError::Http { url: url.to_owned(), source };
    let not_one = |what: String| DoorError::NotOne { url: url.to_owned(), what };
    let request = Request::builder()
        .uri(format!("/key?v={CAPABILITY_VERSION}"))
        .header(HOST, place.authority())
        .body(Empty::<Bytes>::new())
        .map_err(|error| not_one(error.to_string()))?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driving = dial::spawn(connection);
    let answer = sender.send_request(request).await.map_err(failed)?;
    if answer.status() != StatusCode::OK {
        return Err(not_one(format!("/key has status {}", answer.status())));
    }
    let body = Limited::new(answer.into_body(), limits::KEY_REPLY).collect().await;
    let body = body.map_err(|_| not_one("/key is too long or broke off".to_owned()))?.to_bytes();
    drop(driving);
    KeyReply::read(&body).map_err(|error| not_one(format!("/key: {error}")))
}

async fn shake_hands(
    url: &str,
    stream: Stream,
    place: &Place,
    machine: &MachinePrivate,
    server: MachineKey,
) -> Result<NoiseStream<TokioIo<Upgraded>>, DoorError> {
    let noise_failed = |source| DoorError::Noise { url: url.to_owned(), source };
    let io_failed = |source| DoorError::Io { url: url.to_owned(), source };
    let (mut initiator, initiation) =
        Initiator::start(machine, server, CAPABILITY_VERSION).map_err(noise_failed)?;
    let initiation = HeaderValue::from_str(&initiation.to_header())
        .map_err(|_| noise_failed(NoiseError::NotAnInitiation))?;
    let wanted = Wanted {
        method: Method::POST,
        path: noise::PATH,
        protocol: noise::UPGRADE,
        authority: place.authority(),
        header: Some((HeaderName::from_static(HANDSHAKE_HEADER), initiation)),
    };
    let upgraded = upgrade(stream, wanted).await;
    let mut upgraded = upgraded.map_err(|source| DoorError::Upgrade { url: url.to_owned(), source })?;
    let mut buffer = [0; 512];
    loop {
        let count = upgraded.read(&mut buffer).await.map_err(io_failed)?;
        if count == 0 {
            return Err(io_failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        if let Received::Done { session, consumed } = initiator.receive(bytes).map_err(noise_failed)? {
            let rest = bytes.get(consumed..).unwrap_or_default();
            return NoiseStream::of_node(upgraded, session, rest).map_err(io_failed);
        }
    }
}
