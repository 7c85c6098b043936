//! One unit as meant: a process or a static site, its routes, waits and bounds. Keys of the other kind are complaints.

use crate::{
    complaint::{At, Complaint, Spot},
    health, measure,
    resolve::argv,
    written::UnitLayer,
};
use allod_proto::{
    limits,
    routes::{RouteLimits, RoutePattern},
    spec::{ProcessSpec, ResourceSpec, RuntimeSpec, StaticSpec, UnitKind, UnitSpec},
};

const HEALTH_TIMEOUT_MS: u64 = 30_000;
const DRAIN_MS: u64 = 30_000;
const STOP_GRACE_MS: u64 = 10_000;

/// The unit, unless it has to be complained about. `slip` is the unit that was probably meant by this one's name.
pub(crate) fn spec(unit: &UnitLayer, slip: Option<&str>, out: &mut Vec<Complaint>) -> Option<UnitSpec> {
    let routes = routes(unit, out);
    let limits = route_limits(unit, out);
    let kind = match unit.kind.as_ref().map(|kind| (&kind.spot, kind.value.as_str())) {
        None | Some((_, "process")) => process(unit, slip, &routes, out).map(UnitKind::Process),
        Some((_, "static")) => static_site(unit, out).map(UnitKind::Static),
        Some((spot, "container")) => {
            let complaint = spot.complain("containers are not yet supported by this version");
            out.push(complaint.hint("use type = \"process\" or \"static\""));
            None
        }
        Some((spot, other)) => {
            out.push(spot.complain(format!("expected \"process\" or \"static\", found {other:?}")));
            None
        }
    };
    let strip_prefix = unit.strip_prefix.as_ref().is_some_and(|strip| strip.value);
    Some(UnitSpec { kind: kind?, routes, strip_prefix, limits })
}

fn routes(unit: &UnitLayer, out: &mut Vec<Complaint>) -> Vec<RoutePattern> {
    let mut routes = Vec::new();
    for route in unit.routes.iter().flat_map(|list| &list.value) {
        match RoutePattern::parse(&route.value) {
            Ok(pattern) => routes.push(pattern),
            Err(error) => out.push(match route.value.split_once("://") {
                Some((_, rest)) => {
                    let message = format!("route {:?}: leave the scheme out", route.value);
                    route.spot.complain(message).hint(format!("write {rest:?}"))
                }
                None => route.spot.complain(error),
            }),
        }
    }
    routes
}

fn route_limits(unit: &UnitLayer, out: &mut Vec<Complaint>) -> RouteLimits {
    let defaults = RouteLimits::default();
    if unit.routes.as_ref().is_none_or(|routes| routes.value.is_empty()) {
        let without = "means nothing in a unit without routes";
        let spots = [
            unit.strip_prefix.as_ref().map(|at| &at.spot),
            unit.max_body.as_ref().map(|at| &at.spot),
            unit.response_timeout.as_ref().map(|at| &at.spot),
            unit.idle_timeout.as_ref().map(|at| &at.spot),
        ];
        out.extend(spots.into_iter().flatten().map(|spot| spot.complain(without)));
    }
    RouteLimits {
        body_bytes: measured(unit.max_body.as_ref(), measure::bytes, defaults.body_bytes, out),
        response_timeout_ms: span(unit.response_timeout.as_ref(), defaults.response_timeout_ms, out),
        idle_timeout_ms: span(unit.idle_timeout.as_ref(), defaults.idle_timeout_ms, out),
    }
}

fn measured(
    written: Option<&At<String>>,
    read: fn(&str) -> Result<u64, &'static str>,
    default: u64,
    out: &mut Vec<Complaint>,
) -> u64 {
    written.map_or(default, |written| {
        read(&written.value).unwrap_or_else(|error| {
            out.push(written.spot.complain(format!("{:?} is {error}", written.value)));
            default
        })
    })
}

/// A wait that is not zero.
pub(crate) fn span(written: Option<&At<String>>, default: u64, out: &mut Vec<Complaint>) -> u64 {
    let span = measured(written, measure::milliseconds, default, out);
    if let Some(written) = written.filter(|_| span == 0) {
        out.push(written.spot.complain("must be longer than 0"));
    }
    span
}

fn process(
    unit: &UnitLayer,
    slip: Option<&str>,
    routes: &[RoutePattern],
    out: &mut Vec<Complaint>,
) -> Option<ProcessSpec> {
    refuse(unit.root.as_ref().map(|at| &at.spot), "static", out);
    refuse(unit.fallback.as_ref().map(|at| &at.spot), "static", out);
    let start = start(unit, slip, out);
    let instances = unit.instances.as_ref().map_or(1, |instances| {
        if instances.value > limits::INSTANCES {
            out.push(instances.spot.complain(format!("must be at most {}", limits::INSTANCES)));
        }
        instances.value
    });
    let health = health::spec(unit.health.as_ref(), !routes.is_empty(), out);
    let process = ProcessSpec {
        start: start.unwrap_or_default(),
        instances,
        runtime: unit.runtime.as_ref().and_then(|written| runtime(written, out)),
        health_timeout_ms: span(unit.health_timeout.as_ref(), HEALTH_TIMEOUT_MS, out),
        drain_ms: measured(unit.drain.as_ref(), measure::milliseconds, DRAIN_MS, out),
        stop_grace_ms: measured(unit.stop_grace.as_ref(), measure::milliseconds, STOP_GRACE_MS, out),
        resources: resources(unit, out),
        health: health?,
    };
    (!process.start.is_empty()).then_some(process)
}

fn resources(unit: &UnitLayer, out: &mut Vec<Complaint>) -> ResourceSpec {
    const LEAST_FILES: u32 = 16;
    let memory = unit.memory.as_ref().map(|written| {
        let bytes = measured(Some(written), measure::bytes, measure::LEAST_MEMORY, out);
        if bytes < measure::LEAST_MEMORY {
            out.push(written.spot.complain("must be at least 4MB"));
        }
        bytes
    });
    let files = unit.open_files.as_ref().map(|written| {
        if written.value < LEAST_FILES {
            out.push(written.spot.complain(format!("must be at least {LEAST_FILES}")));
        }
        u64::from(written.value)
    });
    ResourceSpec { memory_bytes: memory, open_files: files }
}

fn start(unit: &UnitLayer, slip: Option<&str>, out: &mut Vec<Complaint>) -> Option<Vec<String>> {
    let Some(written) = &unit.start else {
        if !unit.broken.contains("start") && !unit.broken.contains("type") {
            let complaint = unit.spot.complain("start is missing");
            out.push(complaint.hint(match slip {
                Some(known) => format!("did you mean {known}? A unit of its own needs start = [\"…\"]"),
                None => "write start = [\"node\", \"server.js\"], or type = \"static\"".to_owned(),
            }));
        }
        return None;
    };
    let start = argv(written, out)?;
    let program = written.value.first()?;
    let parts = || program.value.split('/');
    if program.value.starts_with('/') {
        let name = parts().next_back().unwrap_or_default();
        let complaint =
            program.spot.complain("a program is looked up in PATH or lies in the release's folder");
        out.push(complaint.hint(format!("write {name:?} or {:?}", format!("./{name}"))));
        return None;
    }
    if parts().any(|part| part == "..") {
        out.push(program.spot.complain("the program must lie in the release's folder"));
        return None;
    }
    Some(start)
}

fn runtime(written: &At<String>, out: &mut Vec<Complaint>) -> Option<RuntimeSpec> {
    let (name, version) = match written.value.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (written.value.as_str(), None),
    };
    let good_name = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    let good_part =
        |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !good_name || !version.is_none_or(|version| version.split('.').all(good_part)) {
        let complaint = written.spot.complain(format!("{:?} is not a runtime", written.value));
        out.push(complaint.hint("write a program and perhaps the version it must begin with: \"node@22\""));
        return None;
    }
    Some(RuntimeSpec { name: name.to_owned(), version: version.map(str::to_owned) })
}

fn refuse(spot: Option<&Spot>, kind: &str, out: &mut Vec<Complaint>) {
    out.extend(spot.map(|spot| spot.complain(format!("belongs to a unit of type = \"{kind}\""))));
}

fn static_site(unit: &UnitLayer, out: &mut Vec<Complaint>) -> Option<StaticSpec> {
    let of_a_process = [
        unit.start.as_ref().map(|at| &at.spot),
        unit.runtime.as_ref().map(|at| &at.spot),
        unit.instances.as_ref().map(|at| &at.spot),
        unit.health.as_ref().map(|at| &at.spot),
        unit.health_timeout.as_ref().map(|at| &at.spot),
        unit.drain.as_ref().map(|at| &at.spot),
        unit.stop_grace.as_ref().map(|at| &at.spot),
        unit.memory.as_ref().map(|at| &at.spot),
        unit.open_files.as_ref().map(|at| &at.spot),
    ];
    of_a_process.into_iter().for_each(|spot| refuse(spot, "process", out));
    if unit.routes.as_ref().is_none_or(|routes| routes.value.is_empty()) && !unit.broken.contains("routes") {
        out.push(
            unit.spot
                .complain("a static unit without routes is never seen")
                .hint("add routes = [\"example.com\"]"),
        );
    }
    let root = unit.root.as_ref().map_or(Some(String::new()), |root| below(root, true, out));
    let fallback = match &unit.fallback {
        Some(written) => Some(below(written, false, out)?),
        None => None,
    };
    Some(StaticSpec { root: root?, fallback })
}

/// A path below the release's folder, without `.` and `..`; empty for the folder itself.
fn below(written: &At<String>, folder: bool, out: &mut Vec<Complaint>) -> Option<String> {
    let text = written.value.strip_prefix("./").unwrap_or(&written.value).trim_end_matches('/');
    if folder && (text == "." || written.value.is_empty()) {
        return Some(String::new());
    }
    let good =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    if !text.split('/').all(good) {
        out.push(
            written.spot.complain(format!("{:?} is not a path below the release's folder", written.value)),
        );
        return None;
    }
    Some(text.to_owned())
}
