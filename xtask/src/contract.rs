//! docs/protocol.md is the contract for clients in other languages: each command, fault code, header and namespace
//! that `proto` has stands there, and each command and code that stands there is one that `proto` has.

use crate::finding::Finding;
use crate::tree;
use anyhow::{Context as _, Result};
use std::path::Path;

const PAGE: &str = "docs/protocol.md";
const HEADERS: &str = "crates/proto/src/headers.rs";

/// A table of the page, and the macro's table in the source that it must equal.
const TABLES: [(&str, &str, &str); 2] = [
    ("crates/proto/src/command.rs", "commands! {", "| Command | Kind |"),
    ("crates/proto/src/fault.rs", "codes! {", "| Code | HTTP |"),
];

/// Compares the page with the sources.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let read = |file: &str| tree::text(root, file).with_context(|| format!("can't read {file}"));
    let page = read(PAGE)?;
    let mut findings = absent_words(&page, &read(HEADERS)?);
    for (file, begin, head) in TABLES {
        findings.extend(compare(file, &source_table(&read(file)?, begin), &page_table(&page, head)));
    }
    Ok(findings)
}

/// One row: its line, its name, and what follows from it as text, in one form for both sides.
type Row = (usize, String, String);

fn compare(file: &str, source: &[Row], page: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.is_empty() {
        findings.push(Finding::failure(file, 0, "its table was not found: has the macro's form changed?"));
    }
    for (line, name, facts) in source {
        match page.iter().find(|(_, other, _)| other == name) {
            None => findings.push(Finding::failure(file, *line, format!("`{name}` has no row in {PAGE}"))),
            Some((row, _, told)) if told != facts => {
                findings.push(Finding::failure(
                    PAGE,
                    *row,
                    format!("`{name}` is {told} here and {facts} in {file}"),
                ));
            }
            Some(_) => {}
        }
    }
    let gone = page.iter().filter(|(_, name, _)| !source.iter().any(|(_, other, _)| other == name));
    findings
        .extend(gone.map(|(line, name, _)| Finding::failure(PAGE, *line, format!("{file} has no `{name}`"))));
    findings
}

/// Rows `Name = "text", a, b, c;` between `begin` and a line that is `}`.
fn source_table(text: &str, begin: &str) -> Vec<Row> {
    let rows =
        text.lines().enumerate().skip_while(|(_, line)| *line != begin).take_while(|(_, line)| *line != "}");
    rows.filter_map(|(index, line)| {
        let (_, rest) = line.trim().strip_suffix(';')?.split_once(" = \"")?;
        let (name, rest) = rest.split_once("\", ")?;
        Some((index + 1, name.to_owned(), source_facts(rest)))
    })
    .collect()
}

/// `params => reply, Kind, Role, Scope` becomes kind and role; `status, exit, retry` stays.
fn source_facts(rest: &str) -> String {
    let parts: Vec<&str> = rest.split(", ").map(str::trim).collect();
    match parts.as_slice() {
        [_, "Probe", _, _] => "probe".to_owned(),
        [types, kind, role, _] if types.contains("=>") => format!("{kind} {role}").to_lowercase(),
        [status, exit, retry] => format!("{status} {exit} {}", if *retry == "true" { "yes" } else { "no" }),
        _ => rest.to_owned(),
    }
}

/// The rows of the page's table whose head begins with `head`.
fn page_table(page: &str, head: &str) -> Vec<Row> {
    let rows = page.lines().enumerate().skip_while(|(_, line)| !line.starts_with(head));
    let rows = rows.take_while(|(_, line)| line.starts_with('|')).skip(2);
    rows.filter_map(|(index, line)| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (name, facts) = match cells.as_slice() {
            [name, "probe", ..] => (name, "probe".to_owned()),
            [name, kind, role, _, _, _] => (name, format!("{kind} {role}")),
            [name, status, exit, retry, _] => (name, format!("{status} {exit} {retry}")),
            _ => return None,
        };
        Some((index + 1, name.trim_matches('`').to_owned(), facts))
    })
    .collect()
}

/// The texts of a source's constants that the page does not have.
fn absent_words(page: &str, source: &str) -> Vec<Finding> {
    let words = source.lines().enumerate().filter_map(|(index, line)| {
        let value = line.strip_prefix("pub const ")?.split_once(": &str = \"")?.1;
        Some((index + 1, value.strip_suffix("\";")?))
    });
    let absent = words.filter(|(_, word)| !page.contains(word));
    absent
        .map(|(line, word)| Finding::failure(HEADERS, line, format!("{word:?} does not stand in {PAGE}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "macro_rules! codes { x }\ncodes! {\n    /// Doc.\n    Busy = \"busy\", 409, 6, true;\n}\n";
    const COMMANDS: &str = "commands! {\n    Hello = \"hello\", s::H => s::R, Probe, Caller, Filtered;\n    \
                            Stop = \"app.stop\", a::S => a::A, Change, Deployer, App;\n}\n";

    fn verdict(source: &[Row], page: &[Row]) -> Vec<String> {
        compare("source.rs", source, page).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_row_that_tells_something_else_is_refused() {
        let page = "| Code | HTTP | Exit | Retry | Meaning |\n|---|---|---|---|---|\n| `busy` | 409 | 6 | no | later |\n";
        let found = verdict(&source_table(SOURCE, "codes! {"), &page_table(page, "| Code | HTTP |"));
        assert_eq!(found, ["docs/protocol.md:3: `busy` is 409 6 no here and 409 6 yes in source.rs"]);
    }

    #[test]
    fn a_row_too_few_and_a_row_too_many_are_refused() {
        let page = "| Command | Kind | Role | Apps | p | r |\n|---|---|---|---|---|---|\n| `hello` | probe | – | – | | x |\n\
                    | `app.go` | change | deployer | own | | |\n\n| `app.stop` | in no table |\n";
        let found = verdict(&source_table(COMMANDS, "commands! {"), &page_table(page, "| Command | Kind |"));
        assert_eq!(
            found,
            [
                "source.rs:3: `app.stop` has no row in docs/protocol.md",
                "docs/protocol.md:4: source.rs has no `app.go`"
            ]
        );
    }

    #[test]
    fn a_source_whose_form_has_changed_is_refused_and_not_taken_for_empty() {
        assert!(verdict(&source_table("codes!(\n);\n", "codes! {"), &[]).concat().contains("was not found"));
    }

    #[test]
    fn a_header_that_the_page_does_not_have_is_refused() {
        let source = "/// Doc.\npub const NONCE: &str = \"x-allod-nonce\";\npub const PORT: u16 = 1;\n";
        assert_eq!(absent_words("nothing", source).len(), 1);
        assert_eq!(absent_words("`x-allod-nonce`", source), []);
    }
}
