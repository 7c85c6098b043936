//! Says what a failed probe means and what to do about it: the wrong port, a redirect, a host check, a missing path.

use allod_proto::{Fault, FaultCode, executor::Instance, operation::ProbeReport};
use std::net::SocketAddr;

/// The fault for an instance that did not become healthy.
pub(crate) fn unhealthy(instance: &Instance, report: &ProbeReport, timeout_ms: u64) -> Fault {
    let id = &instance.id;
    let waited = seconds(timeout_ms);
    let why = match (&report.error, report.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => match &report.location {
            Some(location) => format!("{status} to {location}"),
            None => format!("status {status}"),
        },
        (None, None) => "no answer".to_owned(),
    };
    let message = format!("{id} did not become healthy within {waited}: {}: {why}", report.target);
    Fault::new(FaultCode::Unhealthy, message).hint(hint(instance, report))
}

/// The fault for an instance that ended while it was waited for.
pub(crate) fn ended(instance: &Instance, exit: &str) -> Fault {
    Fault::new(FaultCode::Unhealthy, format!("{} ended before it was healthy: {exit}", instance.id))
        .hint("the last lines of its log say why; run its start command here to see more")
}

fn hint(instance: &Instance, report: &ProbeReport) -> String {
    if let (Some(_), Some(address)) = (&report.error, instance.address) {
        return port_hint(address, &instance.listens_on);
    }
    match report.status {
        Some(300..400) => "the health path must answer 2xx itself; name one that does not redirect, or the host it wants: health = { http = \"/health\", host = \"example.com\" }".to_owned(),
        Some(400 | 403 | 421) => "the app may check the Host header: health = { http = \"/health\", host = \"example.com\" }".to_owned(),
        Some(401) => "the health path must answer without a login; name one that does: health = \"/health\"".to_owned(),
        Some(404) => "the app has no such path; name one that answers 2xx: health = \"/health\"".to_owned(),
        Some(500..600) => "the app answers, but with an error of its own; the last lines of its log may say why".to_owned(),
        Some(_) | None => "the last lines of its log may say why; health_timeout gives it longer".to_owned(),
    }
}

fn port_hint(told: SocketAddr, listens_on: &[SocketAddr]) -> String {
    let port = told.port();
    if listens_on.is_empty() {
        return format!(
            "the app listens on no port yet; it must listen on HOST and PORT ({told}); health_timeout gives it longer"
        );
    }
    if let Some(right) = listens_on.iter().find(|address| address.port() == port) {
        if right.ip() == told.ip() || right.ip().is_unspecified() {
            return "the app listens on the right port but does not answer; the last lines of its log may say why".to_owned();
        }
        return format!("your app listens on {right}, HOST said {}", told.ip());
    }
    let mut ports: Vec<u16> = listens_on.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("your app listens on {}, PORT said {port}; let it listen on the port in PORT", ports.join(", "))
}

pub(crate) fn seconds(milliseconds: u64) -> String {
    if milliseconds.is_multiple_of(1000) {
        format!("{} s", milliseconds / 1000)
    } else {
        format!("{milliseconds} ms")
    }
}
