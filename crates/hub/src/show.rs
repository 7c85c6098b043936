//! How the hub's deeds print: results on stdout, everything else on stderr; with `--json` one document on stdout. Text from
//! elsewhere is made harmless first.

use allod_proto::{Fault, FaultCode, Timestamp, shown::safe};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

/// Where a deed prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    /// For programs.
    pub(crate) json: bool,
}

impl Show {
    /// The deed's result: `{"ok":true}` and the fields of `value`, or a text for people.
    pub(crate) fn document(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Fault> {
        if !self.json {
            return print(&text());
        }
        let mut document = Map::new();
        document.insert("ok".to_owned(), Value::Bool(true));
        let value = serde_json::to_value(value);
        if let Value::Object(fields) =
            value.map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?
        {
            document.extend(fields.into_iter().filter(|(name, _)| name != "answer"));
        }
        let mut document = Value::Object(document);
        iso_times(&mut document);
        print(&format!("{document}\n"))
    }

    /// A line for the person, beside the result.
    pub(crate) fn note(self, text: &str) {
        // There is no one left to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "{}", safe(text));
    }

    /// How a deed failed.
    pub(crate) fn failure(self, fault: &Fault) -> ExitCode {
        if self.json {
            let _ = print(&format!("{}\n", serde_json::json!({"ok": false, "fault": fault})));
        } else {
            self.note(&format!("allod hub: {}", fault.message));
            if let Some(hint) = &fault.hint {
                self.note(&format!("  hint: {hint}"));
            }
        }
        ExitCode::from(fault.code.exit_code())
    }
}

fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::new(FaultCode::Internal, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Columns that line up, under a heading.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|word| (*word).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&heading)
        .chain(rows)
        .map(|row| row.iter().map(|cell| safe(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = vec![0; heading.len()];
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, widest)| format!("{cell:widest$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

/// `3 min ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(then)))
}

/// `in 5 h`, or that it is over.
pub(crate) fn until(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        None => "never".to_owned(),
        Some(then) if then <= now => "over".to_owned(),
        Some(then) => format!("in {}", span(then.since(now))),
    }
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Turns points in time of a document, numbers under names that end in `_at`, into ISO 8601.
fn iso_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(iso_times),
        Value::Object(fields) => {
            for (name, value) in fields {
                let number = value.as_i64().filter(|_| name.ends_with("_at"));
                match number.and_then(|number| jiff::Timestamp::from_millisecond(number).ok()) {
                    Some(at) => *value = Value::String(format!("{at:.3}")),
                    None => iso_times(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_can_not_break_a_table_nor_fool_a_terminal() {
        let rows = [vec!["a\nb\u{1b}[2J".to_owned(), "x".to_owned()], vec!["c".to_owned(), "y".to_owned()]];
        let text = table(&["NAME", "X"], &rows);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("a\\u{a}b\\u{1b}[2J  x") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let rows = [vec!["web1".to_owned(), "ok".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "STATE"], &rows), "NAME    STATE\nweb1    ok\nlonger\n");
    }

    #[test]
    fn times_of_documents_are_iso_and_other_numbers_stay() {
        let mut value = serde_json::json!({"nodes": [{"seen_at": 1000, "id": 1000}]});
        iso_times(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"nodes": [{"seen_at": "1970-01-01T00:00:01.000Z", "id": 1000}]})
        );
    }
}
