//! What came of a deploy, server by server: which release serves where, how much was sent, where it answers.

use super::prepare::Prepared;
use crate::{
    commands::servers::bytes,
    failure::Failure,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
    },
    session::Session,
};
use allod_proto::{AppRef, OperationId, ReleaseId, routes::RoutePattern, spec::AppSpec};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// How a server stands after a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Deployed,
    Unchanged,
    Failed,
    Reverted,
    Untouched,
    /// Left alone by Ctrl-C.
    Running,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Reverted => "reverted",
            Self::Untouched => "not touched",
            Self::Running => "still running",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Deployed => Tone::Good,
            Self::Unchanged | Self::Untouched => Tone::Dim,
            Self::Failed => Tone::Bad,
            Self::Reverted | Self::Running => Tone::Warn,
        }
    }
}

/// What came of one server.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) server: String,
    pub(super) state: State,
    pub(super) operation: Option<OperationId>,
    /// The release that was brought.
    pub(super) release: Option<ReleaseId>,
    /// The release that serves.
    pub(super) serving: Option<ReleaseId>,
    pub(super) sent_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) seconds: f64,
    pub(super) urls: Vec<String>,
    pub(super) failure: Option<Failure>,
    /// The operation's own report: probe, exit, log.
    pub(super) why: Option<Value>,
}

impl Row {
    /// Of a server as it was found.
    pub(super) fn new(one: &Prepared, state: State) -> Self {
        Self {
            server: one.server.name.clone(),
            state,
            operation: None,
            release: None,
            serving: one.found.current.as_ref().map(|release| release.id.clone()),
            sent_bytes: 0,
            total_bytes: one.upload.bytes,
            seconds: 0.0,
            urls: Vec::new(),
            failure: None,
            why: None,
        }
    }

    /// Of a server that serves the same already.
    pub(super) fn unchanged(one: &Prepared) -> Self {
        let row = Self::new(one, State::Unchanged);
        Self { release: row.serving.clone(), ..row }
    }

    /// Whether the server serves the release.
    pub(super) fn ended_well(&self) -> bool {
        self.failure.is_none() && matches!(self.state, State::Deployed | State::Unchanged)
    }

    fn value(&self) -> Value {
        let mut value = json!({
            "server": self.server, "state": self.state.as_str().replace(' ', "_"), "operation": self.operation,
            "release": self.release, "serving": self.serving, "sent_bytes": self.sent_bytes,
            "total_bytes": self.total_bytes, "seconds": (self.seconds * 10.0).round() / 10.0, "urls": self.urls,
        });
        if let (Some(failure), Value::Object(fields)) = (&self.failure, &mut value) {
            fields.insert("fault".to_owned(), serde_json::to_value(&failure.fault).unwrap_or_default());
            fields.insert("failure".to_owned(), self.why.clone().unwrap_or_default());
        }
        value
    }
}

/// Ends the deploy: its document, or the first failure with the same rows beside it.
pub(super) fn conclude(session: &Session, app: &AppRef, mut rows: Vec<Row>) -> Result<(), Failure> {
    let values: Vec<Value> = rows.iter().map(Row::value).collect();
    let failures: Vec<Failure> = rows.iter_mut().filter_map(|row| row.failure.take()).collect();
    let mut each = failures.into_iter();
    let Some(first) = each.next() else {
        let value = json!({"app": app, "servers": values});
        return session.output.document(&value, |style| text(app, &rows, style));
    };
    if !session.output.is_json() {
        each.for_each(|failure| session.output.failure(&failure));
        if rows.len() > 1 {
            session.output.print(&table(&rows, session.output.style()))?;
        }
    }
    Err(first.with("app", app.to_string()).with("servers", values))
}

/// A failure after the deploy, with what came of each server beside it.
pub(super) fn beside(failure: Failure, app: &AppRef, rows: &[Row]) -> Failure {
    let values: Vec<Value> = rows.iter().map(Row::value).collect();
    failure.with("app", app.to_string()).with("servers", values)
}

fn text(app: &AppRef, rows: &[Row], style: Style) -> String {
    let mut text = match rows {
        [Row { state: State::Unchanged, server, serving, .. }] => {
            let serving = serving.as_ref().map_or("it", ReleaseId::as_str);
            format!("nothing changed: {serving} serves {app} on {server}; --force deploys it again\n")
        }
        [row] => {
            let serving = row.serving.as_ref().map_or("the release", ReleaseId::as_str);
            let (mark, seconds) = (style.good("✓"), row.seconds);
            format!("{mark} {app} serves {serving} on {} after {seconds:.1} s\n", row.server)
        }
        several => table(several, style),
    };
    let mut urls: Vec<&String> = rows.iter().flat_map(|row| &row.urls).collect();
    urls.sort();
    urls.dedup();
    urls.into_iter().for_each(|url| text.push_str(&format!("  {}\n", safe(url))));
    text
}

fn table(rows: &[Row], style: Style) -> String {
    let mut table = Table::new(&["server", "outcome", "serves", "sent", "of", "took"]);
    for row in rows {
        table.row(vec![
            (&row.server).into(),
            Cell::toned(row.state.tone(), row.state.as_str()),
            row.serving.as_ref().map_or("nothing", ReleaseId::as_str).into(),
            bytes(row.sent_bytes).into(),
            bytes(row.total_bytes).into(),
            format!("{:.1} s", row.seconds).into(),
        ]);
    }
    table.render(style)
}

/// Where the app answers, as far as the proxy's ports tell.
pub(super) fn urls(spec: &AppSpec, listen: &[SocketAddr], host: &str) -> Vec<String> {
    let has = |port: u16| listen.iter().any(|address| address.port() == port);
    let (scheme, port) = match listen.first() {
        _ if has(443) => ("https", String::new()),
        _ if has(80) => ("http", String::new()),
        Some(first) => ("http", format!(":{}", first.port())),
        None => ("http", String::new()),
    };
    let own = listen.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    let own = own.unwrap_or_else(|| host.to_owned());
    let own = if own.contains(':') { format!("[{own}]") } else { own };
    let routes = spec.units.values().flat_map(|unit| &unit.routes);
    let url = |RoutePattern { host, path }: &RoutePattern| {
        format!("{scheme}://{}{port}{path}", host.as_deref().unwrap_or(&own))
    };
    routes.map(url).collect()
}

#[cfg(test)]
mod tests;
