//! `allod example-app`: a small real web app to deploy, for the demonstration, the tests and people who want to try. It
//! listens where it is told, says which version and instance answers, and ends as an app should: no new connections,
//! what is in flight first.

mod answers;
mod body;
mod folder;
mod page;
mod websocket;

pub use folder::{ExampleOptions, write_example};

use crate::failure::Failure;
use allod_proto::FaultCode;
use answers::App;
use clap::Args;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

/// How long requests in flight may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// `allod example-app`.
#[derive(Debug, Clone, Default, Args)]
pub struct ExampleApp {
    /// Answer /health with 503 for ever
    #[arg(long)]
    never_healthy: bool,
    /// Exit with status 3 after this many milliseconds
    #[arg(long, value_name = "MS")]
    exit_after: Option<u64>,
    /// Listen only after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    start_delay: u64,
    /// Go on after SIGTERM
    #[arg(long)]
    ignore_term: bool,
}

/// What the app is told by its surroundings.
#[derive(Debug, Clone)]
struct Surroundings {
    address: SocketAddr,
    version: String,
    instance: String,
    release: String,
}

/// Serves until SIGTERM.
///
/// # Errors
/// [`Failure`] when it can't listen, or as `--exit-after` wants it.
pub async fn run(flags: ExampleApp) -> Result<(), Failure> {
    let surroundings = Surroundings::look(Path::new("page.txt"))?;
    let (end, ended) = watch::channel(false);
    if !flags.ignore_term {
        watch_for_end(end.clone())?;
    } else {
        ignore_term()?;
    }
    tokio::time::sleep(Duration::from_millis(flags.start_delay)).await;
    let listener = TcpListener::bind(surroundings.address)
        .await
        .map_err(|error| cannot(&format!("listen on {}", surroundings.address), &error))?;
    println_line(&format!("{} listens on {}", surroundings.version, surroundings.address));
    let app = Arc::new(App::new(surroundings, !flags.never_healthy, ended.clone()));
    tokio::select! {
        () = serve(listener, app, ended) => {}
        () = crash_after(flags.exit_after) => {
            println_line("ending as --exit-after wants it");
            return Err(Failure { exit: 3, ..Failure::new(FaultCode::Internal, "ended by --exit-after").already_said() });
        }
    }
    println_line("ended well");
    Ok(())
}

impl Surroundings {
    fn look(page: &Path) -> Result<Self, Failure> {
        let text = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let host = text("HOST").unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = text("PORT").unwrap_or_else(|| "8080".to_owned());
        let address = format!("{host}:{port}");
        let version = std::fs::read_to_string(page).unwrap_or_else(|_| "v0".to_owned());
        Ok(Self {
            address: address
                .parse()
                .map_err(|_| Failure::usage(format!("HOST and PORT make {address:?}, no address")))?,
            version: version.lines().next().unwrap_or("v0").trim().chars().take(40).collect(),
            instance: text("ALLOD_INSTANCE").unwrap_or_else(|| "none".to_owned()),
            release: text("ALLOD_RELEASE").unwrap_or_else(|| "none".to_owned()),
        })
    }
}

fn watch_for_end(end: watch::Sender<bool>) -> Result<(), Failure> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| cannot("watch for SIGTERM", &error))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| cannot("watch for SIGINT", &error))?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        println_line("told to end");
        end.send_replace(true);
    });
    Ok(())
}

fn ignore_term() -> Result<(), Failure> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| cannot("watch for SIGTERM", &error))?;
    tokio::spawn(async move { while terminate.recv().await.is_some() {} });
    Ok(())
}

async fn crash_after(milliseconds: Option<u64>) {
    match milliseconds {
        Some(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        None => std::future::pending().await,
    }
}

async fn serve(listener: TcpListener, app: Arc<App>, mut ended: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = wish(&mut ended) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_one(stream, Arc::clone(&app)))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // Nobody new comes in; those who are here get their answers.
    drop(listener);
    let _ = tokio::time::timeout(GRACE, connections.join_all()).await;
}

async fn serve_one(stream: TcpStream, app: Arc<App>) {
    let _ = stream.set_nodelay(true);
    let mut ended = app.ended();
    let answering = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), answering)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = wish(&mut ended) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Resolves when the app is to end.
async fn wish(ended: &mut watch::Receiver<bool>) {
    // If nobody can wish any more, the app ends too.
    let _ = ended.wait_for(|ended| *ended).await;
}

fn cannot(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(FaultCode::Internal, format!("the example app can't {what}: {error}"))
}

/// An app's log is what it prints.
fn println_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests;
