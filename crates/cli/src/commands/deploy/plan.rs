//! What would change, line by line; servers with the same plan share it.

use super::prepare::Prepared;
use crate::{
    failure::Failure,
    render::{Style, safe},
    session::Session,
};
use allod_apps::{Packed, plan::PlanLine};
use allod_proto::AppRef;
use serde_json::{Value, json};

/// The plan as the command's result.
pub(super) fn document(
    session: &Session,
    app: &AppRef,
    packed: &Packed,
    all: &[Prepared],
) -> Result<(), Failure> {
    let servers: Vec<Value> = all.iter().map(|one| row(packed, one)).collect();
    let value = json!({"app": app, "plan": true, "servers": servers});
    session.output.document(&value, |style| text(packed, all, style))
}

fn row(packed: &Packed, one: &Prepared) -> Value {
    let lines: Vec<Value> = one
        .lines(packed)
        .iter()
        .map(|line| json!({"sign": line.sign.to_string(), "text": line.text}))
        .collect();
    let upload = one.upload;
    json!({
        "server": one.server.name, "unchanged": one.is_unchanged(packed), "lines": lines,
        "serving": one.found.current.as_ref().map(|release| &release.id),
        "files": upload.files, "total_bytes": upload.bytes,
        "missing_chunks": upload.missing, "missing_bytes": upload.missing_bytes,
    })
}

/// The plan for people.
pub(super) fn text(packed: &Packed, all: &[Prepared], style: Style) -> String {
    let plans = all.iter().map(|one| {
        let lines = if one.is_unchanged(packed) { Vec::new() } else { one.lines(packed) };
        (one.server.name.as_str(), lines)
    });
    grouped(packed.manifest.spec.app.to_string().as_str(), plans, style)
}

fn grouped<'s>(app: &str, plans: impl Iterator<Item = (&'s str, Vec<PlanLine>)>, style: Style) -> String {
    let mut groups: Vec<(Vec<&str>, Vec<PlanLine>)> = Vec::new();
    for (server, lines) in plans {
        match groups.iter_mut().find(|(_, known)| *known == lines) {
            Some((servers, _)) => servers.push(server),
            None => groups.push((vec![server], lines)),
        }
    }
    let mut text = String::new();
    for (servers, lines) in groups {
        text.push_str(&format!("{}\n", style.bold(&safe(&format!("{app} on {}", servers.join(", "))))));
        if lines.is_empty() {
            text.push_str("    nothing changes: the same release serves\n");
        }
        for line in lines {
            let shown = format!("  {} {}", line.sign, safe(&line.text));
            let shown = match line.sign {
                '+' => style.good(&shown),
                '-' => style.bad(&shown),
                '~' => style.warn(&shown),
                _ => shown,
            };
            text.push_str(&format!("{shown}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_apps::plan::{Upload, describe};
    use allod_proto::spec::AppSpec;
    use std::collections::BTreeMap;

    fn spec(text: &str) -> AppSpec {
        allod_appspec::parse(text).unwrap().resolve(&allod_proto::EnvName::default()).unwrap().spec
    }

    #[test]
    fn servers_with_the_same_plan_share_it() {
        let old = spec(
            "name = \"shop\"\n[vars]\nA = \"1\"\n[units.web]\nstart = [\"./web\"]\nroutes = [\"a.example\"]\n",
        );
        let new = spec(
            "name = \"shop\"\nrelease = [\"./migrate\"]\n[secrets]\nKEY = \"descriptor\"\n\
             [units.web]\nstart = [\"./web\", \"\u{202e}\"]\nroutes = [\"b.example\"]\ninstances = 2\n",
        );
        let upload = Upload { files: 3, bytes: 5 << 20, missing: 1, missing_bytes: 1 << 20 };
        let changes = describe(Some(&old), &new, &BTreeMap::new(), upload);
        let first = describe(None, &new, &BTreeMap::new(), upload);
        let plans = [("web1", changes.clone()), ("web2", first), ("web3", changes), ("web4", Vec::new())];
        insta::assert_snapshot!(grouped("shop/production", plans.into_iter(), Style::new(false)), @r"
        shop/production on web1, web3
          - route a.example -> web
          + route b.example -> web
          ~ web: start: ./web -> ./web \u{202e}
          ~ web: instances: 1 -> 2
          - variable A
          + secret KEY (descriptor)
          ~ 3 files, 5 MB: 1 MB to upload
          ~ runs ./migrate before anything new starts
          ~ starts 2 copies of web, then stops the old
        shop/production on web2
          + unit web: ./web \u{202e}, 2 copies
          + route b.example -> web
          + secret KEY (descriptor)
          ~ 3 files, 5 MB: 1 MB to upload
          ~ runs ./migrate before anything new starts
          ~ starts 2 copies of web, then stops the old
        shop/production on web4
            nothing changes: the same release serves
        ");
    }
}
