//! Reading a body: bounded in size, time, and in how many large ones are in memory at once.

use crate::server::{Service, listener::Shared, shares::Share};
use allod_proto::{Fault, FaultCode, Fingerprint};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming as Body};
use std::time::Duration;

/// What is small enough to be held without a share.
pub(super) const SMALL: usize = 64 * 1024;

/// A body and the right to hold it.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _share: Option<Share>,
}

/// Reads the body of somebody who is known. A large one waits until its key may hold one more.
///
/// # Errors
/// `TooLarge`, `Timeout`, `Malformed`, or `Busy`.
pub(super) async fn read_large<S: Service>(
    shared: &Shared<S>,
    key: &Fingerprint,
    body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<Held, Fault> {
    let declared = declared(&body, limit)?;
    let share = if declared.is_some_and(|declared| declared <= SMALL) {
        None
    } else {
        let share = shared.bodies.take(key, deadline).await;
        Some(share.ok_or_else(|| {
            Fault::new(FaultCode::Busy, "too many large bodies are on their way")
                .hint("try again in a moment")
        })?)
    };
    Ok(Held { bytes: read(body, limit, deadline).await?, _share: share })
}

/// Reads a body.
///
/// # Errors
/// `TooLarge`, `Timeout` or `Malformed`.
pub(super) async fn read(mut body: Body, limit: usize, deadline: Duration) -> Result<Bytes, Fault> {
    // Memory that is only promised costs nothing until bytes come, and a buffer that never grows is never there twice.
    let mut bytes = BytesMut::with_capacity(declared(&body, limit)?.unwrap_or(0));
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Fault::new(FaultCode::Malformed, format!("the body could not be read: {error}"))
            })?;
            let Ok(part) = frame.into_data() else { continue };
            if bytes.len().saturating_add(part.len()) > limit {
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(deadline, reading)
        .await
        .map_err(|_| Fault::new(FaultCode::Timeout, "the body took too long to arrive"))?
}

/// How long it says that it is; `None` when it comes in pieces without saying so.
fn declared(body: &Body, limit: usize) -> Result<Option<usize>, Fault> {
    let Some(exact) = body.size_hint().exact() else { return Ok(None) };
    match usize::try_from(exact) {
        Ok(exact) if exact <= limit => Ok(Some(exact)),
        _ => Err(too_large(limit)),
    }
}

fn too_large(limit: usize) -> Fault {
    Fault::new(FaultCode::TooLarge, format!("the body is larger than {limit} bytes"))
}
