//! A line of the record for people. What a newer server writes is shown as it is.

use crate::render::{
    Style, safe,
    time::{local, took},
};
use allod_proto::Timestamp;
use serde_json::{Map, Value};

/// One line for people, ended by a newline.
pub(super) fn describe(line: &str, style: Style) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
        return format!("{}\n", safe(line));
    };
    let seq = fields.get("seq").and_then(Value::as_u64).unwrap_or_default();
    let at = fields.get("at").and_then(Value::as_u64).map(|at| local(Timestamp(at))).unwrap_or_default();
    format!("{} {}  {}\n", style.dim(&format!("{seq:>8}")), at, words(&fields, style))
}

fn words(fields: &Map<String, Value>, style: Style) -> String {
    let text = |name: &str| safe(fields.get(name).and_then(Value::as_str).unwrap_or_default());
    let number = |name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or_default();
    match fields.get("entry").and_then(Value::as_str) {
        Some("intent") => format!("{} {}{}", who(fields), style.bold(&text("command")), object(fields)),
        Some("outcome") => {
            let detail = match (text("code"), text("message")) {
                (code, message) if code.is_empty() && message.is_empty() => String::new(),
                (code, message) => format!(" {code}: {message}"),
            };
            let result = ending(&text("result"), style);
            format!("  line {} {result}{detail} ({})", number("intent"), took(number("took_ms")))
        }
        Some("counted") => {
            format!("{} more by {}", style.warn(&number("count").to_string()), text("name"))
        }
        Some("denied") => {
            format!(
                "{} {}{} {}",
                who(fields),
                style.bold(&text("command")),
                object(fields),
                style.bad(&text("code"))
            )
        }
        Some("read") => {
            let code = text("code");
            let code = if code.is_empty() { code } else { format!(" {}", style.bad(&code)) };
            style.dim(&format!("{} {}{}", who(fields), text("command"), object(fields))) + &code
        }
        Some("refusals") => {
            format!(
                "{} refused from {}: {}",
                style.warn(&number("count").to_string()),
                text("source"),
                text("reason")
            )
        }
        Some("start") => format!("{} {} starts", text("program"), text("version")),
        Some("note") => format!("{} {}", style.warn(&text("what")), text("detail")),
        Some(_) | None => safe(&Value::Object(fields.clone()).to_string()),
    }
}

fn who(fields: &Map<String, Value>) -> String {
    let who = fields.get("who").and_then(Value::as_object);
    let text = |name: &str| who.and_then(|who| who.get(name)).and_then(Value::as_str).unwrap_or_default();
    let source = text("source");
    let source = if source.is_empty() { String::new() } else { format!(" from {source}") };
    let by = if text("delegate").is_empty() { "" } else { ", by a login" };
    safe(&format!("{} ({}{source}{by})", text("name"), text("door")))
}

fn object(fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(|text| format!(" {}", safe(text)));
    [text("app"), text("target")].into_iter().flatten().collect()
}

fn ending(result: &str, style: Style) -> String {
    match result {
        "ok" => style.good("ok"),
        "failed" => style.bad("failed"),
        other => style.warn(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style::new(false);

    fn described(line: &str) -> String {
        let text = describe(line, PLAIN);
        // Without the local time, which depends on the machine.
        text.split_once("  ")
            .map_or(text.clone(), |(_, rest)| rest.split_once("  ").map_or(rest, |x| x.1).to_owned())
    }

    #[test]
    fn a_line_that_is_none_is_shown_harmless() {
        assert_eq!(describe("\u{1b}[2J", PLAIN), "\\u{1b}[2J\n");
    }

    #[test]
    fn an_entry_of_a_newer_server_is_shown_as_it_is() {
        assert!(describe(r#"{"seq":1,"at":0,"entry":"newer","x":"\u001b"}"#, PLAIN).contains("\"newer\""));
    }

    #[test]
    fn who_did_what_to_what_stands_on_one_line() {
        let line = r#"{"prev":"","seq":7,"at":0,"entry":"intent","who":{"name":"ana","door":"rpc","source":"100.64.0.2"},
            "command":"app.deploy","app":"blog/production","target":"0123456789ab"}"#;
        assert!(
            described(line).ends_with("ana (rpc from 100.64.0.2) app.deploy blog/production 0123456789ab\n")
        );
    }
}
