//! `routes.json`: written by sync and rename, acknowledged by the proxy, put back when the proxy does not follow.

use allod_apps::routes::merge;
use allod_proto::{
    AppRef, Fault, FaultCode,
    routes::{FORMAT, ProxyAnswer, ProxyAsk, ProxyStatus, Route, RouteTable, RouteTarget},
};
use allod_proxy::Control;
use serde::Deserialize;
use std::{
    collections::HashSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};

/// How long the proxy may take to follow; it may be just starting.
const FOLLOW: Duration = Duration::from_secs(10);

/// The table, with one writer at a time.
pub(crate) struct RouteTables {
    file: PathBuf,
    control: PathBuf,
    table: Mutex<RouteTable>,
}

impl RouteTables {
    /// Reads the file; an absent one is an empty table.
    ///
    /// # Errors
    /// A sentence when the file is there and can't be understood: it is never taken for "no routes".
    pub(crate) fn load(file: &Path, control: &Path) -> Result<Self, String> {
        let named = |error: String| format!("{}: {error}", file.display());
        if let Some(folder) = file.parent().filter(|folder| folder.is_dir()) {
            allod_store::settle(folder).map_err(|error| error.to_string())?;
        }
        let table = match std::fs::read(file) {
            Ok(bytes) => parse(&bytes).map_err(named)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => RouteTable::empty(),
            Err(error) => return Err(named(error.to_string())),
        };
        Ok(Self { file: file.to_owned(), control: control.to_owned(), table: Mutex::new(table) })
    }

    /// Makes these the routes of the app and waits until the proxy follows them.
    pub(crate) async fn set(&self, app: &AppRef, routes: Vec<Route>) -> Result<(), Fault> {
        self.set_unless(app, routes, || false).await
    }

    /// The same, unless what the routes were made from has been overtaken; asked when nobody else can write.
    pub(crate) async fn set_unless(
        &self,
        app: &AppRef,
        routes: Vec<Route>,
        overtaken: impl Fn() -> bool,
    ) -> Result<(), Fault> {
        let mut table = self.table.lock().await;
        if overtaken() {
            return Ok(());
        }
        let merged = merge(&table, app, routes).map_err(|conflict| {
            Fault::new(
                FaultCode::Conflict,
                format!("the route {} belongs to {}", conflict.pattern, conflict.owner),
            )
            .hint("choose another route in allod.toml")
        })?;
        if merged.routes == table.routes {
            return Ok(());
        }
        self.write(&merged)?;
        match self.acknowledged(merged.generation).await {
            Ok(()) => {
                *table = merged;
                Ok(())
            }
            Err(fault) => {
                let back = RouteTable { generation: merged.generation + 1, ..table.clone() };
                self.write(&back)?;
                *table = back;
                Err(fault)
            }
        }
    }

    /// Every address that is routed to.
    pub(crate) async fn upstreams(&self) -> HashSet<SocketAddr> {
        let table = self.table.lock().await;
        let targets = table.routes.iter().filter_map(|route| match &route.target {
            RouteTarget::Instances(upstreams) => Some(upstreams),
            RouteTarget::Static { .. } | RouteTarget::Stopped { .. } => None,
        });
        targets.flatten().map(|upstream| upstream.address).collect()
    }

    /// Waits until no request is in flight to an address.
    pub(crate) async fn drain(&self, upstream: SocketAddr, timeout: Duration) -> Result<u64, Fault> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let ask = ProxyAsk::Drain { upstream, timeout_ms };
        match Control::ask_once(&self.control, &ask, timeout + Duration::from_secs(5)).await {
            Ok(ProxyAnswer::Drained { cut }) => Ok(cut),
            Ok(ProxyAnswer::Failed { message }) => Err(Fault::new(FaultCode::Internal, message)),
            Ok(
                ProxyAnswer::Loaded { .. }
                | ProxyAnswer::Done
                | ProxyAnswer::Certificates { .. }
                | ProxyAnswer::Status(_),
            ) => Err(Fault::new(FaultCode::Internal, "the proxy answered something else")),
            Err(error) => Err(unreachable_proxy(&error)),
        }
    }

    /// What the proxy is doing; `None` when it does not answer.
    pub(crate) async fn proxy_status(&self) -> Option<ProxyStatus> {
        match Control::ask_once(&self.control, &ProxyAsk::Status, Duration::from_secs(1)).await {
            Ok(ProxyAnswer::Status(status)) => Some(status),
            Ok(_) | Err(_) => None,
        }
    }

    pub(crate) fn write(&self, table: &RouteTable) -> Result<(), Fault> {
        let bytes = serde_json::to_vec_pretty(table).map_err(|error| {
            Fault::new(FaultCode::Internal, format!("the routes can't be written: {error}"))
        })?;
        allod_store::write_atomic(&self.file, &bytes, 0o644).map_err(|error| {
            let code = if error.is_disk_full() { FaultCode::DiskFull } else { FaultCode::Internal };
            Fault::new(code, format!("the routes can't be written: {error}"))
        })
    }

    async fn acknowledged(&self, generation: u64) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let answer = Control::ask_once(&self.control, &ProxyAsk::Load, FOLLOW).await;
            let error = match answer {
                Ok(ProxyAnswer::Loaded { generation: served }) if served >= generation => return Ok(()),
                Ok(ProxyAnswer::Failed { message }) => {
                    return Err(Fault::new(
                        FaultCode::Internal,
                        format!("the proxy refuses the routes: {message}"),
                    ));
                }
                Ok(_) => Fault::new(FaultCode::Internal, "the proxy serves other routes than were written"),
                // It may be starting anew; it loads the file by itself then.
                Err(error) => unreachable_proxy(&error),
            };
            if begun.elapsed() >= FOLLOW {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Looks at the number first: a newer table need not be readable.
fn parse(bytes: &[u8]) -> Result<RouteTable, String> {
    #[derive(Deserialize)]
    struct Numbered {
        format: u32,
    }
    let Numbered { format } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if format != FORMAT {
        return Err(format!(
            "the routes have format {format}; this program reads {FORMAT}, use a version that reads {format}"
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn unreachable_proxy(error: &allod_proxy::ControlError) -> Fault {
    Fault::new(FaultCode::Unreachable, format!("the proxy does not answer: {error}"))
        .hint("`allod doctor` looks at the server's programs")
}
