//! What a coordinator means by its refusal. Three ways of saying it are known: gRPC's status as JSON (Headscale to 0.29),
//! RFC 9457 problems (Headscale from 0.30), and `message` (Tailscale); OAuth has a fourth.

use crate::{
    coordination::{CoordinationError, Secret},
    tailscaled::plain,
};
use hyper::StatusCode;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    /// gRPC's number.
    code: Option<i64>,
    message: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    errors: Option<Vec<Part>>,
    error: Option<String>,
    error_description: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part {
    message: Option<String>,
}

/// What it means.
pub(super) fn of(status: StatusCode, body: &[u8], bearer: Option<&Secret>) -> CoordinationError {
    let written: Written = serde_json::from_slice(body).unwrap_or_default();
    let says = say(&written, body, status);
    let says = bearer.map_or_else(|| says.clone(), |bearer| bearer.struck_from(&says));
    // Of the older ones, a thing that isn't there often is an internal error in these words.
    let absent = written.code.is_some() && says.ends_with("not found");
    match (written.code, status.as_u16()) {
        (Some(7 | 16), _) | (_, 401 | 403) => CoordinationError::NotAccepted { says },
        (Some(5), _) | (_, 404) => CoordinationError::NotFound { says },
        (Some(_), 500) if absent => CoordinationError::NotFound { says },
        (Some(6 | 10), _) | (_, 409 | 412) => CoordinationError::Conflict { says },
        (Some(3 | 9), code) | (None | Some(_), code @ 400..500) => {
            CoordinationError::Rejected { status: code, says }
        }
        (_, code) => CoordinationError::Failing { status: code, says },
    }
}

fn say(written: &Written, body: &[u8], status: StatusCode) -> String {
    let parts = written.errors.iter().flatten().take(5).filter_map(|part| part.message.as_deref());
    let first =
        [&written.detail, &written.message, &written.error_description, &written.error, &written.title];
    let first = first.into_iter().find_map(|words| words.as_deref());
    let words: Vec<&str> = first.into_iter().chain(parts).collect();
    let says = if words.is_empty() {
        plain(&String::from_utf8_lossy(body), 200)
    } else {
        plain(&words.join(": "), 300)
    };
    if says.is_empty() { status.canonical_reason().unwrap_or("without a word").to_owned() } else { says }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> CoordinationError {
        super::of(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
            Some(&Secret::new("s3cret".to_owned())),
        )
    }

    #[test]
    fn a_refusal_never_repeats_our_key_nor_fools_a_terminal() {
        let error = of(401, "{\"message\":\"bad key s3cret\\u001b[2J\"}").to_string();
        assert!(!error.contains("s3cret") && !error.contains('\u{1b}'), "{error}");
        let error = of(500, &"x".repeat(100_000)).to_string();
        assert!(error.len() < 400, "{error}");
        assert!(of(502, "").to_string().contains("Bad Gateway"));
    }

    #[test]
    fn all_ways_of_saying_no_are_understood() {
        let grpc = |code, message| format!(r#"{{"code":{code},"message":"{message}","details":[]}}"#);
        let problem =
            r#"{"title":"Not Found","status":404,"detail":"getting node","errors":[{"message":"gone"}]}"#;
        let oauth = r#"{"error":"invalid_client","error_description":"invalid client credentials"}"#;
        for (status, body, meant) in [
            (404, grpc(5, "node not found"), "has no such thing: node not found"),
            (500, grpc(2, "node not found"), "has no such thing: node not found"),
            (500, grpc(2, "database is locked"), "failed (500): database is locked"),
            (500, grpc(16, "invalid token"), "does not accept our key or client: invalid token"),
            (400, grpc(3, "bad tag"), "refuses (400): bad tag"),
            (409, grpc(6, "exists"), "refuses, because something else is so now: exists"),
            (401, "Unauthorized".to_owned(), "does not accept our key or client: Unauthorized"),
            (404, problem.to_owned(), "has no such thing: getting node: gone"),
            (
                412,
                r#"{"message":"old hash"}"#.to_owned(),
                "refuses, because something else is so now: old hash",
            ),
            (401, oauth.to_owned(), "does not accept our key or client: invalid client credentials"),
            (302, String::new(), "failed (302): Found"),
            (429, "{}".to_owned(), "refuses (429): {}"),
        ] {
            assert_eq!(of(status, &body).to_string(), format!("the coordinator {meant}"));
        }
    }
}
