//! Connections to instances, kept alive between requests; one pool for each worker, so nothing is locked. A request
//! without a body drives its connection itself, in its own task: that saves waking a second one for each answer. A
//! request with a body gets a task for it, because sending and receiving must go on side by side.

use crate::{
    body::RequestBody,
    instance::{Instance, Socket},
};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use std::{
    cell::RefCell,
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

type Http1 = http1::Connection<TokioIo<TcpStream>, RequestBody>;

enum Driver {
    /// Driven by whoever uses the connection.
    Inline(Pin<Box<Http1>>),
    /// Driven by a task of its own.
    Spawned,
    Ended,
}

/// One connection to an instance, for one request at a time.
pub(crate) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
    instance: Arc<Instance>,
    socket: Socket,
    idle_since: Instant,
    is_reused: bool,
    is_single: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("to", &self.instance.address)
            .field("socket", &self.socket)
            .finish()
    }
}

impl Connection {
    /// Connects for any number of requests.
    pub(crate) async fn open(instance: &Arc<Instance>, patience: Duration) -> io::Result<Self> {
        let (stream, socket) = connect(instance, patience).await?;
        let (sender, http) = builder().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self::new(sender, Driver::Inline(Box::pin(http)), instance, socket))
    }

    /// Connects for one request that may leave HTTP.
    pub(crate) async fn open_for_upgrade(instance: &Arc<Instance>, patience: Duration) -> io::Result<Self> {
        let (stream, socket) = connect(instance, patience).await?;
        let (sender, http) = builder().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = http.with_upgrades().await {
                tracing::debug!(%error, "a connection to an instance ended");
            }
        });
        let single = Self::new(sender, Driver::Spawned, instance, socket);
        Ok(Self { is_single: true, ..single })
    }

    fn new(
        sender: http1::SendRequest<RequestBody>,
        driver: Driver,
        instance: &Arc<Instance>,
        socket: Socket,
    ) -> Self {
        let instance = Arc::clone(instance);
        Self {
            sender,
            driver,
            instance,
            socket,
            idle_since: Instant::now(),
            is_reused: false,
            is_single: false,
        }
    }

    /// Whether another request went over it before.
    pub(crate) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Lets the connection make progress, if that is its user's task.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Driver::Inline(http) = &mut self.driver
            && let Poll::Ready(outcome) = http.as_mut().poll(cx)
        {
            if let Err(error) = outcome {
                tracing::debug!(%error, to = %self.instance.address, "a connection to an instance broke");
            }
            self.driver = Driver::Ended;
        }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        if matches!(request.body(), RequestBody::Streaming { .. }) {
            self.spawn_driver();
        }
        std::future::poll_fn(|cx| {
            self.drive(cx);
            // An error here comes again, with the request, from sending.
            self.sender.poll_ready(cx).map(drop)
        })
        .await;
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|cx| {
            if let Driver::Inline(http) = &mut self.driver
                && http.as_mut().poll(cx).is_ready()
            {
                self.driver = Driver::Ended;
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    fn spawn_driver(&mut self) {
        match std::mem::replace(&mut self.driver, Driver::Spawned) {
            Driver::Inline(http) => {
                tokio::task::spawn_local(async move {
                    if let Err(error) = http.await {
                        tracing::debug!(%error, "a connection to an instance broke");
                    }
                });
            }
            Driver::Spawned => {}
            Driver::Ended => self.driver = Driver::Ended,
        }
    }

    /// Whether a request can be sent on it now, as far as can be known without waiting.
    fn is_alive(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !matches!(self.driver, Driver::Ended) && self.sender.is_ready() && !self.instance.is_closed()
    }
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(512 * 1024);
    builder
}

async fn connect(instance: &Arc<Instance>, patience: Duration) -> io::Result<(TcpStream, Socket)> {
    let stream = timeout(patience, TcpStream::connect(instance.address)).await??;
    stream.set_nodelay(true)?;
    let socket = instance.register(&stream)?;
    Ok((stream, socket))
}

/// Idle connections, by instance.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<u64, Vec<Connection>>>,
    most: usize,
    keep: Duration,
}

impl Pool {
    pub(crate) fn new(most: usize, keep: Duration) -> Self {
        Self { idle: RefCell::default(), most, keep }
    }

    /// An idle connection that still works. The last one used is the least likely to be closed meanwhile.
    pub(crate) fn take(&self, instance: &Instance) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().get_mut(&instance.id)?.pop()?;
            if connection.is_alive() {
                connection.is_reused = true;
                return Some(connection);
            }
            instance.forget_check();
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn put(&self, mut connection: Connection) {
        if connection.is_single || connection.sender.is_closed() || connection.instance.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(connection.instance.id).or_default();
        if connections.len() < self.most {
            connections.push(connection);
        }
    }

    /// Drops what has been idle too long or was closed by the other side.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain_mut(|connection| {
                let is_alive = connection.is_alive();
                if !is_alive {
                    connection.instance.forget_check();
                }
                is_alive && now.duration_since(connection.idle_since) < self.keep
            });
            !connections.is_empty()
        });
    }
}
