//! The life of one request: refuse what is malformed, find its route, wait if the app is paused, pass it to an instance
//! that works, pass the answer back. A request is sent a second time only if the first instance can't have acted on it.

use crate::{
    answer::{self, Reason},
    body::{AnswerBody, BodyError, InstanceBody, RequestBody, Upload},
    ending::Ending,
    front::{Activity, Verdict},
    headers::{self, RequestIds, Sender},
    instance::Instance,
    listener_uid::{self, CheckError},
    pause::WaitError,
    pool::{Connection, Pool},
    routing::{Entry, Target},
    shared::{Choice, Shared},
    statics, tunnel,
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;
use hyper::body::Incoming;
use std::{net::SocketAddr, rc::Rc, sync::Arc};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// What the requests of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) ids: RequestIds,
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) address: SocketAddr,
    pub(crate) is_trusted: bool,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    pub(crate) activity: Arc<Activity>,
    /// Held by whatever must end before the worker may.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Answers one request.
pub(crate) async fn answer(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, std::convert::Infallible> {
    let (active, verdict) = client.activity.begin();
    let is_h2 = request.version() == Version::HTTP_2;
    let mut ending = Some(Box::new(Ending::new(&client, &request, active)));
    let mut answer = match Inbound::read(request, verdict) {
        Ok(inbound) => match inbound.elsewhere(&client) {
            Some(answer) => answer,
            None => inbound.route(&client, &mut ending).await,
        },
        Err(sentence) => {
            tracing::debug!(client = %client.address, sentence, "refused a request");
            Reason::Malformed.answer()
        }
    };
    if !is_h2 && answer::gives_up_on_body(&answer) {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        client.activity.linger();
    } else if !is_h2
        && client.worker.shared.is_retiring()
        && answer.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // After a switch of protocols the tunnel has taken it.
    if let Some(mut ending) = ending {
        ending.set_answer(&answer);
        answer.body_mut().end_with(ending);
    }
    Ok(answer)
}

/// A request that was read and found sane.
struct Inbound {
    request: Request<Incoming>,
    host: Option<String>,
    uri: Uri,
}

impl Inbound {
    fn read(request: Request<Incoming>, verdict: Verdict) -> Result<Self, &'static str> {
        let host = headers::host_of(&request)?.map(std::borrow::Cow::into_owned);
        if request.headers().contains_key(TRANSFER_ENCODING) {
            if verdict != Verdict::Clear {
                return Err("Content-Length together with Transfer-Encoding, or a pipelined body");
            }
            if !headers::is_chunked_only(request.headers()) {
                return Err("a transfer coding that is not chunked alone");
            }
        }
        let uri = request.uri().clone();
        Ok(Self { request, host, uri })
    }

    /// The answer that sends a client to https, where that is wished and the client, or a trusted hop, is not there.
    fn elsewhere(&self, client: &Client) -> Option<Response<AnswerBody>> {
        let port = client.worker.shared.https_redirect.filter(|_| client.scheme == "http")?;
        if client.is_trusted && headers::was_https(self.request.headers()) {
            return None;
        }
        let Some(host) = &self.host else { return Some(Reason::Malformed.answer()) };
        let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Some(answer::to_https(host, port, path))
    }

    /// Finds who answers, and again after each failure that may be repeated.
    async fn route(self, client: &Rc<Client>, ending: &mut Option<Box<Ending>>) -> Response<AnswerBody> {
        let Self { request, host, uri } = self;
        let shared = &client.worker.shared;
        let mut outbound = Outbound::Unread(request);
        let mut tried = Vec::new();
        let mut last = Reason::NoInstance;
        loop {
            let choice = shared.choose(host.as_deref(), uri.path(), &tried);
            let entry = match &choice {
                Choice::Nowhere => return Reason::NoRoute.answer(),
                Choice::Route(entry) | Choice::Instance { entry, .. } => Arc::clone(entry),
            };
            if let Some(ending) = ending {
                ending.set_route(&entry);
            }
            if let Some(pause) = shared.pauses.of(&entry.route.app).filter(|_| entry.stopped().is_none()) {
                drop(choice);
                match pause.wait(shared.limits.queue).await {
                    Ok(()) => continue,
                    Err(WaitError::QueueFull) => return Reason::QueueFull.answer(),
                    Err(WaitError::TooLong) => return Reason::Paused.answer(),
                }
            }
            let Choice::Instance { in_flight, uid, generation, .. } = choice else {
                return without_instance(&entry, outbound, &uri, last).await;
            };
            let instance = Arc::clone(in_flight.instance());
            if let Some(ending) = ending {
                ending.set_instance(in_flight);
            }
            if let Err(reason) = is_ours(&instance, uid, generation).await {
                last = reason;
                tried.push(instance.address);
                continue;
            }
            let prepared = match outbound.prepare(client, &entry, &uri, ending) {
                Ok(prepared) => prepared,
                Err(reason) => return reason.answer(),
            };
            match prepared.send(client, &entry, &instance, ending).await {
                Attempt::Answer(answer) => return answer,
                Attempt::Failed(reason) => return reason.answer(),
                Attempt::Elsewhere(reason, prepared) => {
                    last = reason;
                    tried.push(instance.address);
                    outbound = Outbound::Prepared(prepared);
                }
            }
        }
    }
}

/// Files, a stopped app, or an app none of whose instances is left to try.
async fn without_instance(
    entry: &Entry,
    outbound: Outbound,
    uri: &Uri,
    last: Reason,
) -> Response<AnswerBody> {
    match (&entry.target, outbound) {
        (Target::Static { root, fallback }, Outbound::Unread(request)) => {
            let path = entry.rewrite(uri.path()).into_owned();
            let site = statics::Site { root, fallback: fallback.as_deref(), release: &entry.route.release };
            site.answer(request.method(), &path, request.headers()).await
        }
        (Target::Stopped(message), _) => answer::stopped(message),
        (Target::Instances(_) | Target::Static { .. }, _) => last.answer(),
    }
}

async fn is_ours(instance: &Arc<Instance>, uid: Option<u32>, generation: u64) -> Result<(), Reason> {
    let Err(error) = listener_uid::check(instance, uid, generation).await else { return Ok(()) };
    tracing::warn!(address = %instance.address, %error, "an instance is passed over");
    Err(match error {
        CheckError::Foreign { .. } => Reason::ForeignListener,
        CheckError::Nobody => Reason::Connect,
        CheckError::Unreadable(_) => Reason::Internal,
    })
}

/// A request before and after it was made ready for an instance.
enum Outbound {
    Unread(Request<Incoming>),
    Prepared(Prepared),
}

impl Outbound {
    fn prepare(
        self,
        client: &Client,
        entry: &Entry,
        uri: &Uri,
        ending: &mut Option<Box<Ending>>,
    ) -> Result<Prepared, Reason> {
        match self {
            Self::Unread(request) => Prepared::new(request, client, entry, uri, ending),
            Self::Prepared(prepared) => Ok(prepared),
        }
    }
}

/// A request as an instance gets it.
struct Prepared {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: RequestBody,
    upload: Option<Arc<Upload>>,
    upgrade: Option<(hyper::upgrade::OnUpgrade, HeaderValue)>,
}

/// What became of one try.
enum Attempt {
    Answer(Response<AnswerBody>),
    Failed(Reason),
    /// The instance can't have seen the request.
    Elsewhere(Reason, Prepared),
}

impl Prepared {
    fn new(
        mut request: Request<Incoming>,
        client: &Client,
        entry: &Entry,
        uri: &Uri,
        ending: &mut Option<Box<Ending>>,
    ) -> Result<Self, Reason> {
        let upgrade = if headers::wants_upgrade(&request) {
            let to = request.headers().get(UPGRADE).cloned();
            to.map(|to| (hyper::upgrade::on(&mut request), to))
        } else {
            None
        };
        let (parts, body) = request.into_parts();
        let host = match parts.headers.get(HOST) {
            Some(host) => Some(host.clone()),
            None => uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()),
        };
        let mut headers = parts.headers;
        let is_trusted = client.is_trusted;
        let sender = Sender { ip: client.address.ip(), is_trusted, scheme: client.scheme };
        headers::prepare(&mut headers, sender, host, &client.worker.ids);
        if let Some((_, to)) = &upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, to.clone());
        }
        if let (Some(ending), Some(id)) = (ending, headers.get(headers::REQUEST_ID)) {
            ending.set_request_id(id);
        }
        let uri = upstream_uri(entry, uri).ok_or(Reason::Malformed)?;
        let (body, upload) = bound_body(body, entry)?;
        Ok(Self { method: parts.method, uri, headers, body, upload, upgrade })
    }

    /// Whether doing it twice is doing it once (RFC 9110, 9.2.2), so that a broken connection may be answered by a new try.
    fn is_repeatable(&self) -> bool {
        matches!(self.body, RequestBody::Empty) && self.upgrade.is_none() && self.method.is_idempotent()
    }

    async fn send(
        mut self,
        client: &Rc<Client>,
        entry: &Entry,
        instance: &Arc<Instance>,
        ending: &mut Option<Box<Ending>>,
    ) -> Attempt {
        let worker = &client.worker;
        let mut pooled = if self.upgrade.is_some() { None } else { worker.pool.take(instance) };
        loop {
            let connection = match pooled.take() {
                Some(connection) => Ok(connection),
                None => self.connect(worker, instance).await,
            };
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    instance.forget_check();
                    tracing::debug!(%error, to = %instance.address, "an instance can't be reached");
                    return Attempt::Elsewhere(Reason::Connect, self);
                }
            };
            let is_reused = connection.is_reused();
            let again = (is_reused && self.is_repeatable()).then(|| self.head());
            let request = self.take_request();
            let failure = match self.exchange(&mut connection, request, entry).await {
                Ok(answer) => return self.pass_back(answer, connection, client, entry, ending),
                Err(failure) => failure,
            };
            instance.forget_check();
            if let Some(reason) = self.known_reason(instance, &failure) {
                return Attempt::Failed(reason);
            }
            match (failure, again) {
                (Failure::Unsent(request), _) => self.put_back(*request),
                (Failure::Broken, Some(head)) => self.put_back(head),
                (Failure::Broken | Failure::Timeout, _) => return Attempt::Failed(Reason::BadAnswer),
            }
            if !is_reused {
                return Attempt::Elsewhere(Reason::BadAnswer, self);
            }
        }
    }

    async fn connect(&self, worker: &Worker, instance: &Arc<Instance>) -> std::io::Result<Connection> {
        let patience = worker.shared.limits.connect_timeout;
        if self.upgrade.is_some() {
            Connection::open_for_upgrade(instance, patience).await
        } else {
            Connection::open(instance, patience).await
        }
    }

    /// Sends and waits for the head; the wait begins anew with each part of the body that the instance takes.
    async fn exchange(
        &self,
        connection: &mut Connection,
        request: Request<RequestBody>,
        entry: &Entry,
    ) -> Result<Response<Incoming>, Failure> {
        let mut deadline = Instant::now() + entry.response_timeout;
        let mut sending = std::pin::pin!(connection.send(request));
        loop {
            match timeout_at(deadline, sending.as_mut()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(mut error)) => {
                    return Err(error
                        .take_message()
                        .map_or(Failure::Broken, |r| Failure::Unsent(Box::new(r))));
                }
                Err(_) => {
                    let last =
                        self.upload.as_ref().map(|upload| upload.last_progress() + entry.response_timeout);
                    deadline = last.filter(|later| *later > Instant::now()).ok_or(Failure::Timeout)?;
                }
            }
        }
    }

    /// Why a failure is nobody's but the client's, the drain's or the clock's.
    fn known_reason(&self, instance: &Instance, failure: &Failure) -> Option<Reason> {
        match self.upload.as_ref().and_then(|upload| upload.error()) {
            Some(BodyError::TooLarge) => return Some(Reason::BodyTooLarge),
            Some(BodyError::Silent) => return Some(Reason::BodySlow),
            Some(BodyError::Broken) => return Some(Reason::Malformed),
            None => {}
        }
        if matches!(failure, Failure::Timeout) {
            return Some(Reason::Timeout);
        }
        (instance.is_closed() && matches!(failure, Failure::Broken)).then_some(Reason::Drained)
    }

    fn head(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn take_request(&mut self) -> Request<RequestBody> {
        let mut request = Request::new(std::mem::replace(&mut self.body, RequestBody::Empty));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = std::mem::take(&mut self.headers);
        request
    }

    fn put_back(&mut self, request: Request<RequestBody>) {
        let (parts, body) = request.into_parts();
        self.headers = parts.headers;
        self.body = body;
    }

    fn pass_back(
        self,
        answer: Response<Incoming>,
        connection: Connection,
        client: &Rc<Client>,
        entry: &Entry,
        ending: &mut Option<Box<Ending>>,
    ) -> Attempt {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match self.upgrade {
                Some((on_client, _)) => switch(answer, on_client, connection, client, entry, ending),
                None => Attempt::Failed(Reason::BadAnswer),
            };
        }
        let (mut parts, body) = answer.into_parts();
        parts.version = Version::HTTP_11;
        headers::remove_hop_by_hop(&mut parts.headers);
        // Programs take this header for the proxy's own word.
        parts.headers.remove(answer::ERROR);
        let pool = Rc::clone(&client.worker.pool);
        let body = InstanceBody::new(body, connection, pool, entry.idle_timeout);
        Attempt::Answer(Response::from_parts(parts, AnswerBody::instance(body)))
    }
}

/// Why there is no head of an answer.
enum Failure {
    /// Nothing was sent; here it is again.
    Unsent(Box<Request<RequestBody>>),
    Broken,
    Timeout,
}

fn switch(
    mut answer: Response<Incoming>,
    on_client: hyper::upgrade::OnUpgrade,
    connection: Connection,
    client: &Rc<Client>,
    entry: &Entry,
    ending: &mut Option<Box<Ending>>,
) -> Attempt {
    let on_instance = hyper::upgrade::on(&mut answer);
    let (mut parts, _) = answer.into_parts();
    let to = parts.headers.get(UPGRADE).cloned();
    headers::remove_hop_by_hop(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.extend(to.map(|to| (UPGRADE, to)));
    let answer = Response::from_parts(parts, AnswerBody::full(bytes::Bytes::new()));
    if let Some(mut ending) = ending.take() {
        ending.set_answer(&answer);
        let alive = client.alive.clone();
        let patience = entry.idle_timeout;
        tokio::task::spawn_local(async move {
            tunnel::run(on_client, on_instance, patience, ending).await;
            drop((connection, alive));
        });
    }
    Attempt::Answer(answer)
}

fn upstream_uri(entry: &Entry, uri: &Uri) -> Option<Uri> {
    let whole = uri.path_and_query()?;
    let path = match entry.rewrite(whole.as_str()) {
        std::borrow::Cow::Borrowed(same) if same.len() == whole.as_str().len() => whole.clone(),
        other => other.parse().ok()?,
    };
    Some(Uri::from(path))
}

fn bound_body(body: Incoming, entry: &Entry) -> Result<(RequestBody, Option<Arc<Upload>>), Reason> {
    if body.is_end_stream() {
        return Ok((RequestBody::Empty, None));
    }
    if body.size_hint().lower() > entry.body_bytes {
        return Err(Reason::BodyTooLarge);
    }
    let (body, upload) = RequestBody::streaming(body, entry.body_bytes, entry.idle_timeout);
    Ok((body, Some(upload)))
}
