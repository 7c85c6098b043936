//! The listener: reports in, health and status out. One request a connection, all of it within one deadline; bodies, heads
//! and connections are bounded. Nothing here changes anything but a signed report.

use crate::{coordination::Coordination, page, registry::Registry, status::HubStatus};
use allod_daemon::Clock;
use allod_mesh::{Connection, FollowingListener, Mesh};
use allod_proto::{
    Fault, FaultCode, Fingerprint, limits,
    witness::{self, Witnessed, WitnessedAll},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};

/// The most connections at a time.
pub const CONNECTIONS: usize = 256;
/// How long a connection may take from its first to its last byte.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long its head may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// A disk with less room than this is not ready.
const ROOM: u64 = 64 * 1024 * 1024;
const CONTENT_SECURITY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// What the listener needs to know.
#[derive(Debug)]
pub struct Hub {
    /// Its own identity.
    pub identity: Fingerprint,
    /// The servers.
    pub registry: Arc<Registry>,
    /// The clock.
    pub clock: Clock,
    /// The folder that must be writable.
    pub folder: PathBuf,
    /// The coordinator, where this hub runs one.
    pub coordination: Option<Arc<Coordination>>,
    /// Names, besides addresses, localhost and its own on the mesh, that requests may ask for.
    pub names: Vec<String>,
}

/// Serves until told otherwise: dropping the future ends it with its connections.
pub async fn run(hub: Arc<Hub>, mesh: Arc<dyn Mesh>, mut listener: FollowingListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let connection = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (hub, mesh) = (Arc::clone(&hub), Arc::clone(&mesh));
        connections.spawn(async move {
            let _place = place;
            if tokio::time::timeout(PATIENCE, serve(hub, mesh.as_ref(), connection)).await.is_err() {
                tracing::debug!("a connection took too long and was cut");
            }
        });
    }
}

async fn serve(hub: Arc<Hub>, mesh: &dyn Mesh, connection: Connection) {
    let source = connection.peer().ip().to_canonical();
    match mesh.whois(connection.peer()).await {
        Ok(Some(_)) => {}
        Ok(None) => return tracing::warn!(%source, "dropped a connection of somebody the mesh does not know"),
        Err(error) => {
            return tracing::warn!(%source, %error, "dropped a connection: the mesh does not answer");
        }
    }
    let names: Arc<[String]> = names(&hub.names, mesh.watch().borrow().name.as_deref()).into();
    let answering = service_fn(move |request| {
        let (hub, names) = (Arc::clone(&hub), Arc::clone(&names));
        async move { Ok::<_, Infallible>(answer(&hub, request, source, &names).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(limits::HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), answering)
        .await;
    if let Err(error) = served {
        tracing::debug!(%source, %error, "a connection ended early");
    }
}

type Reply = Response<Full<Bytes>>;

/// The names that may be asked for: those of the settings, and what the mesh calls this machine, whole or without its domain.
fn names(told: &[String], own: Option<&str>) -> Vec<String> {
    let own = own.map(|own| own.trim_end_matches('.')).into_iter();
    let labels = own.clone().filter_map(|own| own.split('.').next());
    let all = own.chain(labels).filter(|name| !name.is_empty()).map(str::to_owned);
    all.chain(told.iter().cloned()).collect()
}

async fn answer(hub: &Arc<Hub>, request: Request<Incoming>, source: IpAddr, names: &[String]) -> Reply {
    if !asks_for_us(&request, names) {
        return refuse(&Fault::new(
            FaultCode::NotAllowed,
            "this hub is asked for by its address or its name only",
        ));
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (&method, path.as_str()) {
        (&Method::GET | &Method::HEAD, "/health") => {
            json(StatusCode::OK, &serde_json::json!({"ok": true, "identity": hub.identity}))
        }
        (&Method::GET | &Method::HEAD, "/ready") => ready(hub).await,
        (&Method::GET | &Method::HEAD, "/") => html(&page::render(&status(hub))),
        (&Method::GET | &Method::HEAD, "/status.json") => json(StatusCode::OK, &status(hub)),
        (&Method::GET | &Method::HEAD, witness::PATH) => json(StatusCode::OK, &witnessed(hub)),
        (&Method::POST, witness::PATH) => receive_report(hub, request, source).await,
        (_, "/health" | "/ready" | "/" | "/status.json" | witness::PATH) => refuse_with(
            StatusCode::METHOD_NOT_ALLOWED,
            &Fault::new(FaultCode::Invalid, format!("{path} is not there for {method}")),
        ),
        _ => refuse(&Fault::new(FaultCode::NotFound, "there is nothing here")),
    }
}

// A page in a browser must not reach a hub on loopback or the mesh by a name that its owner points there.
fn asks_for_us<B>(request: &Request<B>, names: &[String]) -> bool {
    let Some(host) = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    if request.headers().get_all(header::HOST).iter().count() != 1 {
        return false;
    }
    let Ok(authority) = host.parse::<hyper::http::uri::Authority>() else { return false };
    let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || bare.eq_ignore_ascii_case("localhost")
        || names.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

fn status(hub: &Hub) -> HubStatus {
    let coordinator = hub.coordination.as_ref().map(|coordination| coordination.status());
    HubStatus::of(&hub.identity, &hub.registry.all(), coordinator, hub.clock.now())
}

fn witnessed(hub: &Hub) -> WitnessedAll {
    let servers = hub.registry.all().into_iter().map(|watched| Witnessed {
        identity: watched.record.identity,
        head: watched.record.head,
        witnessed_at: watched.record.witnessed_at,
        trouble: watched.record.trouble.map(|trouble| trouble.verdict),
    });
    WitnessedAll { servers: servers.collect() }
}

async fn ready(hub: &Arc<Hub>) -> Reply {
    let folder = hub.folder.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let free = allod_store::free_bytes(&folder)?;
        allod_store::write_atomic(&folder.join("ready"), b"ready\n", 0o600)?;
        Ok::<_, allod_store::StoreError>(free)
    });
    match looked.await {
        Ok(Ok(free)) if free >= ROOM => {
            json(StatusCode::OK, &serde_json::json!({"ready": true, "disk_free": free}))
        }
        Ok(Ok(_)) => not_ready("the disk is nearly full"),
        Ok(Err(error)) => {
            tracing::error!(%error, "not ready");
            not_ready("the hub's folder can't be written")
        }
        Err(_) => not_ready("looking failed"),
    }
}

fn not_ready(why: &str) -> Reply {
    json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"ready": false, "why": why}))
}

async fn receive_report(hub: &Arc<Hub>, request: Request<Incoming>, source: IpAddr) -> Reply {
    let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json {
        // A browser sends this type only after asking, and is not answered.
        let fault = Fault::new(FaultCode::Malformed, "a report is application/json");
        return refuse_with(StatusCode::UNSUPPORTED_MEDIA_TYPE, &fault);
    }
    let body = match Limited::new(request.into_body(), witness::BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("a report has at most {} bytes", witness::BODY);
            return refuse(&Fault::new(FaultCode::TooLarge, message));
        }
        Err(_) => return refuse(&Fault::new(FaultCode::Malformed, "the report was cut off")),
    };
    let report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            return refuse(&Fault::new(FaultCode::Malformed, format!("the body is not a report: {error}")));
        }
    };
    let (registry, now) = (Arc::clone(&hub.registry), hub.clock.now());
    match tokio::task::spawn_blocking(move || registry.witness(report, source, now)).await {
        Ok(Ok(reply)) => json(StatusCode::OK, &reply),
        Ok(Err(fault)) => refuse(&fault),
        Err(_) => refuse(&Fault::new(FaultCode::Internal, "the hub failed; its log has the cause")),
    }
}

fn refuse(fault: &Fault) -> Reply {
    refuse_with(StatusCode::from_u16(fault.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), fault)
}

fn refuse_with(status: StatusCode, fault: &Fault) -> Reply {
    json(status, &serde_json::json!({ "fault": fault }))
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Reply {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    reply(status, "application/json", text)
}

fn html(page: &str) -> Reply {
    reply(StatusCode::OK, "text/html; charset=utf-8", page.as_bytes().to_vec())
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(CONTENT_SECURITY));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hosts: &[&str]) -> bool {
        let mut request = Request::builder();
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let names = names(&["hub.example".to_owned()], Some("web1.mesh.internal."));
        asks_for_us(&request.body(()).unwrap(), &names)
    }

    #[test]
    fn without_a_name_on_the_mesh_there_are_those_of_the_settings() {
        for none in [None, Some(""), Some(".")] {
            assert_eq!(names(&["hub.example".to_owned()], none), ["hub.example"]);
        }
    }

    #[test]
    fn a_name_that_somebody_else_points_here_is_refused() {
        for bad in [
            &["evil.example"][..],
            &["web2"],
            &["mesh.internal"],
            &["web1.mesh.internal.evil.example"],
            &[],
            &["127.0.0.1", "evil.example"],
            &["127.0.0.1.evil.example"],
            &["@"],
        ] {
            assert!(!asked(bad), "{bad:?}");
        }
    }

    #[test]
    fn addresses_localhost_and_own_names_are_answered() {
        for good in [
            "web1:9845",
            "Web1.Mesh.internal",
            "127.0.0.1:80",
            "[::1]:9845",
            "100.64.0.1",
            "localhost:1",
            "HUB.example:443",
        ] {
            assert!(asked(&[good]), "{good}");
        }
    }
}
