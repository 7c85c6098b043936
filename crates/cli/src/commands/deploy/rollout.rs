//! Server after server, or a few at a time. A failure ends it: the servers not yet touched stay as they are, and with
//! `on_failure = "revert"` those already deployed go back to what they ran.

use super::{
    prepare::Prepared,
    report::{Row, State, urls},
    upload::Upload,
};
use crate::{
    failure::{Failure, INTERRUPTED},
    inventory::Server,
    render::{
        follow,
        operation::{View, follow_with},
        steps::{began_line, line},
    },
    session::Session,
};
use allod_apps::Packed;
use allod_appspec::{OnFailure, Resolved};
use allod_proto::{
    AppRef, OperationId, ReleaseId,
    messages::{
        app::{AppDeploy, AppRollback},
        server::ServerStatus,
    },
    operation::Happening,
};
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Deploys to all of them; a row for each.
pub(super) async fn run(
    session: &Session,
    packed: &Arc<Packed>,
    mut todo: Vec<Prepared>,
    resolved: &Resolved,
) -> Vec<Row> {
    let size = usize::try_from(resolved.batch).unwrap_or(usize::MAX).max(1);
    let alone = size == 1 || todo.len() == 1;
    let many = todo.len() > 1;
    let (mut rows, mut failed) = (Vec::new(), false);
    for batch in todo.chunks_mut(size) {
        if failed {
            rows.extend(batch.iter().map(|one| Row::new(one, State::Untouched)));
            continue;
        }
        let deploying = batch.iter_mut().map(|one| Deploying { session, packed, alone, many }.one(one));
        rows.extend(join_all(deploying).await);
        failed = rows.iter().any(|row| row.failure.is_some());
    }
    let interrupted =
        rows.iter().filter_map(|row| row.failure.as_ref()).any(|failure| failure.exit == INTERRUPTED);
    if failed && !interrupted && resolved.on_failure == OnFailure::Revert {
        revert(session, &resolved.spec.app, &todo, &mut rows).await;
    }
    rows
}

/// One deploy among the others.
#[derive(Clone, Copy)]
struct Deploying<'d> {
    session: &'d Session,
    packed: &'d Arc<Packed>,
    /// Whether it has the terminal for itself.
    alone: bool,
    many: bool,
}

impl Deploying<'_> {
    async fn one(self, one: &mut Prepared) -> Row {
        let began = Instant::now();
        let mut row = Row::new(one, State::Deployed);
        if self.many && self.alone {
            self.session.output.note(&format!("{}:", one.server.name));
        }
        let sent = AtomicU64::new(0);
        let outcome = self.steps(one, &mut row, &sent).await;
        row.sent_bytes = sent.load(Ordering::Relaxed);
        row.seconds = began.elapsed().as_secs_f64();
        if let Err(failure) = outcome {
            row.state = if failure.exit == INTERRUPTED && row.operation.is_some() {
                State::Running
            } else {
                State::Failed
            };
            row.failure = Some(failure.on(&one.server.name));
        }
        row
    }

    async fn steps(self, one: &mut Prepared, row: &mut Row, sent: &AtomicU64) -> Result<(), Failure> {
        let Prepared { server, client, missing, upload, .. } = one;
        let upload = Upload {
            session: self.session,
            server,
            packed: self.packed,
            missing,
            missing_bytes: upload.missing_bytes,
            alone: self.alone,
            sent,
        };
        upload.run(client).await?;
        let app = &self.packed.manifest.spec.app;
        let accepted =
            client.call(AppDeploy { app: app.clone(), manifest: self.packed.index_digest }).await?;
        row.operation = Some(accepted.operation.clone());
        row.release = accepted.release;
        let ended = self.follow(one, &accepted.operation, row).await?;
        row.serving = ended.serving.clone();
        ended.into_result()?;
        remember(self.session, &one.server, app);
        // Where it answers is a courtesy: the deploy has ended well by now.
        let proxy = one.client.call(ServerStatus {}).await.ok().and_then(|status| status.proxy);
        let listen = proxy.map(|proxy| proxy.listen).unwrap_or_default();
        row.urls = urls(&self.packed.manifest.spec, &listen, crate::keys::host_of(&one.server.address));
        Ok(())
    }

    async fn follow(
        self,
        one: &mut Prepared,
        operation: &OperationId,
        row: &mut Row,
    ) -> Result<crate::render::Ended, Failure> {
        let (session, server) = (self.session, &one.server.name);
        let mut view = View::new(session);
        follow_with(session, &mut one.client, operation, |event| {
            if let Happening::Failure(why) = &event.what {
                row.why = serde_json::to_value(why).ok();
            }
            if self.alone {
                view.show(&event.what);
            } else {
                beside(session, server, &event.what);
            }
            Ok(())
        })
        .await
    }
}

/// Lines of several servers at once carry their server's name.
fn beside(session: &Session, server: &str, what: &Happening) {
    let style = session.output.error_style();
    let text = match what {
        Happening::Began { step, detail } => Some(began_line(*step, detail.as_deref(), style)),
        other => line(other, style),
    };
    for line in text.iter().flat_map(|text| text.lines()) {
        session.output.say(&format!("{server}  {line}\n"));
    }
}

/// For completion; nothing depends on it.
fn remember(session: &Session, server: &Server, app: &AppRef) {
    let remembered = session.known().change(&server.identity, |known| {
        if !known.apps.contains(app) {
            known.apps.push(app.clone());
        }
    });
    if let Err(error) = remembered {
        session.output.note(&error.to_string());
    }
}

async fn revert(session: &Session, app: &AppRef, todo: &[Prepared], rows: &mut [Row]) {
    for row in rows.iter_mut().filter(|row| row.state == State::Deployed) {
        let Some(one) = todo.iter().find(|one| one.server.name == row.server) else { continue };
        let before = one.found.current.as_ref().map(|release| release.id.clone());
        let (Some(from), Some(to)) = (row.serving.clone(), before) else {
            session
                .output
                .warn(&format!("{}: there is nothing to go back to; it keeps the new release", row.server));
            continue;
        };
        session.output.note(&format!("{}: back to {to}", row.server));
        match back(session, &one.server, app, from, to).await {
            Ok(serving) => {
                row.state = State::Reverted;
                row.serving = serving;
            }
            Err(failure) => {
                let message = format!("{}: could not go back: {}", row.server, failure.fault.message);
                session.output.warn(&message);
            }
        }
    }
}

async fn back(
    session: &Session,
    server: &Server,
    app: &AppRef,
    from: ReleaseId,
    to: ReleaseId,
) -> Result<Option<ReleaseId>, Failure> {
    let mut client = session.connect(server).await?;
    let accepted = client.call(AppRollback { app: app.clone(), from, to: Some(to) }).await?;
    follow(session, &mut client, &accepted.operation).await?.into_result()
}
