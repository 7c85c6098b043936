//! When a copy counts as healthy: exactly one way, an HTTP path where there are routes and nothing is said.

use crate::{
    complaint::{At, Complaint},
    measure,
    resolve::argv,
    written::HealthWritten,
};
use allod_proto::spec::HealthSpec;

const RUNNING_MS: u64 = 2_000;

/// The unit's health as meant.
pub(crate) fn spec(
    written: Option<&At<HealthWritten>>,
    has_routes: bool,
    out: &mut Vec<Complaint>,
) -> Option<HealthSpec> {
    let Some(At { spot, value }) = written else {
        return Some(if has_routes {
            HealthSpec::Http { path: "/".to_owned(), host: None }
        } else {
            HealthSpec::Running { for_ms: RUNNING_MS }
        });
    };
    if let Some(host) = value.host.as_ref().filter(|_| value.http.is_none()) {
        out.push(host.spot.complain("means nothing without http"));
    }
    for flag in value.tcp.iter().chain(&value.ready).filter(|flag| !flag.value) {
        out.push(flag.spot.complain("can only be true").hint("leave it out otherwise"));
    }
    let ways = [
        value.http.as_ref().map(|path| http(path, value.host.as_ref(), out)),
        value.tcp.as_ref().map(|_| Some(HealthSpec::Tcp)),
        value.command.as_ref().map(|list| argv(list, out).map(|run| HealthSpec::Command { run })),
        value.ready.as_ref().map(|_| Some(HealthSpec::Ready)),
        value.running.as_ref().map(|span| running(span, out)),
    ];
    let mut ways = ways.into_iter().flatten();
    match (ways.next(), ways.next()) {
        (Some(way), None) => way,
        (None, _) | (Some(_), Some(_)) => {
            out.push(spot.complain("must name exactly one of http, tcp, command, ready and running"));
            None
        }
    }
}

fn http(path: &At<String>, host: Option<&At<String>>, out: &mut Vec<Complaint>) -> Option<HealthSpec> {
    let good_path =
        path.value.starts_with('/') && path.value.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if !good_path {
        let complaint = path.spot.complain(format!("{:?} is not a path", path.value));
        out.push(complaint.hint("write what is asked of the app itself, beginning with /: \"/health\""));
    }
    let good_host = host.is_none_or(|host| {
        let fits = !host.value.is_empty()
            && host.value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
        if !fits {
            out.push(host.spot.complain(format!("{:?} is not a host", host.value)));
        }
        fits
    });
    let host = host.map(|host| host.value.clone());
    (good_path && good_host).then(|| HealthSpec::Http { path: path.value.clone(), host })
}

fn running(span: &At<String>, out: &mut Vec<Complaint>) -> Option<HealthSpec> {
    match measure::milliseconds(&span.value) {
        Ok(for_ms) => Some(HealthSpec::Running { for_ms }),
        Err(error) => {
            out.push(span.spot.complain(format!("{:?} is {error}", span.value)));
            None
        }
    }
}
