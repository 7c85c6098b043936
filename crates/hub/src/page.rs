//! The status page: one document without scripts, pictures or links elsewhere. Whatever a server or person wrote is escaped.

use crate::{
    coordination::CoordinatorStatus,
    status::{HubStatus, ServerStatus, TroubleStatus},
};
use allod_proto::Timestamp;
use std::fmt::Write as _;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2320;--paper:#fbfaf6;--line:#d9d6ca;--good:#2e6b46;--bad:#b3261e;--faint:#6d7069}
@media(prefers-color-scheme:dark){:root{--ink:#e8e6dd;--paper:#171a18;--line:#343833;--good:#7fc79a;--bad:#ff8a80;--faint:#9a9d94}}
body{margin:0 auto;max-width:56rem;padding:2rem 1.2rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}header p,footer{color:var(--faint);margin:.2rem 0 1.6rem}
table{width:100%;border-collapse:collapse}th,td{text-align:left;padding:.55rem .6rem .55rem 0;border-top:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--faint);font-size:.85rem}code{font-size:.82rem;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.faint{color:var(--faint)}
section{border:2px solid var(--bad);border-radius:.5rem;padding:.8rem 1rem;margin:0 0 1rem}section h2{margin:0;font-size:1.05rem;color:var(--bad)}
section p{margin:.4rem 0 0}
";

/// The page for `status`.
#[must_use]
pub fn render(status: &HubStatus) -> String {
    let mut page = String::with_capacity(4096);
    let headline = if status.well { "All is well" } else { "Something needs a person" };
    let class = if status.well { "good" } else { "bad" };
    page.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    page.push_str("<meta http-equiv=\"refresh\" content=\"15\"><title>");
    page.push_str(headline);
    page.push_str("</title><style>");
    page.push_str(STYLE);
    // Writing to a String can't fail; the results are dropped throughout.
    let _ = write!(page, "</style></head><body><header><h1 class=\"{class}\">{headline}</h1>");
    let _ = write!(page, "<p>{}</p></header><main>", counted(status.servers.len()));
    for server in &status.servers {
        if let Some(trouble) = &server.trouble {
            write_trouble(&mut page, server, trouble, status.now);
        }
    }
    write_table(&mut page, status);
    if let Some(coordinator) = &status.coordinator {
        write_coordinator(&mut page, coordinator);
    }
    let _ = write!(
        page,
        "</main><footer><p>Allod hub {}, <code>{}</code></p></footer></body></html>",
        escape(&status.version),
        escape(status.identity.as_str())
    );
    page
}

fn write_coordinator(page: &mut String, coordinator: &CoordinatorStatus) {
    let _ = write!(
        page,
        "<h2>The mesh</h2><p>{} of {} nodes are there; {} waiting for approval. Reached at <code>{}</code>.</p>",
        coordinator.online,
        coordinator.nodes,
        coordinator.waiting,
        escape(&coordinator.urls.join(" "))
    );
    if let Some(root_key) = &coordinator.root_key {
        let class = if coordinator.root_key_is_overdue { "bad" } else { "faint" };
        let _ = write!(page, "<p class=\"{class}\">{}</p>", escape(root_key));
    }
}

fn counted(servers: usize) -> String {
    match servers {
        0 => "No server has reported yet.".to_owned(),
        1 => "One server reports here.".to_owned(),
        many => format!("{many} servers report here."),
    }
}

fn write_trouble(page: &mut String, server: &ServerStatus, trouble: &TroubleStatus, now: Timestamp) {
    let _ = write!(
        page,
        "<section><h2>{}: {}</h2><p>Since {}. Witnessed up to line {}, hash <code>{}</code>; the server now says line \
         {}, hash <code>{}</code>.</p><p>What to do: {}</p></section>",
        escape(&server.name),
        escape(&trouble.message),
        ago(trouble.since, now),
        trouble.kept.seq,
        trouble.kept.hash,
        trouble.reported.seq,
        trouble.reported.hash,
        escape(&trouble.fix)
    );
}

fn write_table(page: &mut String, status: &HubStatus) {
    if status.servers.is_empty() {
        return;
    }
    page.push_str("<table><thead><tr><th>Server</th><th>Answers</th><th>Record</th><th>Reported</th></tr></thead><tbody>");
    for server in &status.servers {
        let _ = write!(
            page,
            "<tr><td><strong>{}</strong><br><code class=\"faint\">{}</code></td><td>{}</td>\
             <td>line {}<br><code class=\"faint\">{}</code></td><td>{}</td></tr>",
            escape(&server.name),
            escape(server.identity.as_str()),
            answer(server, status.now),
            server.head.seq,
            server.head.hash.to_string().get(..16).unwrap_or_default(),
            ago(server.heard_at, status.now)
        );
    }
    page.push_str("</tbody></table>");
}

fn answer(server: &ServerStatus, now: Timestamp) -> String {
    let since = server.answers_since.map(|since| ago(since, now)).unwrap_or_default();
    match server.answers {
        None => "<span class=\"faint\">not asked yet</span>".to_owned(),
        Some(true) => format!("<span class=\"good\">yes</span>, since {since}"),
        Some(false) => {
            let why = escape(server.why.as_deref().unwrap_or_default());
            format!("<span class=\"bad\">no</span>, since {since}<br><span class=\"faint\">{why}</span>")
        }
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.since(then).as_secs() {
        0..=1 => "just now".to_owned(),
        seconds @ 2..=119 => format!("{seconds} seconds ago"),
        seconds @ 120..=7199 => format!("{} minutes ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} hours ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::{Digest, Fingerprint, record::Head, witness::Verdict};

    fn server(name: &str) -> ServerStatus {
        ServerStatus {
            name: name.to_owned(),
            identity: Fingerprint::new(format!("SHA256:{}", "a".repeat(43))).unwrap(),
            answers: Some(false),
            answers_since: Some(Timestamp(0)),
            why: Some("refused <b>".to_owned()),
            heard_at: Timestamp(100_000),
            head: Head { seq: 12, hash: Digest::of("x") },
            witnessed_at: Timestamp(90_000),
            record_key: "ssh-ed25519 AAAA".to_owned(),
            trouble: None,
            acknowledged_troubles: 0,
        }
    }

    fn status(servers: Vec<ServerStatus>) -> HubStatus {
        let identity = servers.first().map_or_else(|| server("").identity, |server| server.identity.clone());
        let version = "1".to_owned();
        HubStatus { identity, version, now: Timestamp(130_000), well: false, servers, coordinator: None }
    }

    #[test]
    fn the_root_key_that_lies_here_is_on_the_page() {
        let coordinator = CoordinatorStatus {
            urls: vec!["http://<b>".to_owned()],
            nodes: 3,
            online: 2,
            waiting: 1,
            root_key: Some("take it away".to_owned()),
            root_key_is_overdue: true,
        };
        let page = render(&HubStatus { coordinator: Some(coordinator), ..status(Vec::new()) });
        assert!(
            page.contains("<p class=\"bad\">take it away</p>") && page.contains("2 of 3 nodes"),
            "{page}"
        );
        assert!(!page.contains("http://<b>"), "{page}");
    }

    #[test]
    fn what_a_server_calls_itself_is_not_markup() {
        let page = render(&status(vec![server("<script>alert('1')</script>")]));
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)"));
    }

    #[test]
    fn trouble_is_shown_with_both_heads_and_what_to_do() {
        let mut bad = server("web1");
        bad.trouble = Some(TroubleStatus {
            verdict: Verdict::GoneBack,
            message: Verdict::GoneBack.in_words().to_owned(),
            since: Timestamp(10_000),
            kept: Head { seq: 12, hash: Digest::of("x") },
            reported: Head { seq: 7, hash: Digest::of("y") },
            fix: "look".to_owned(),
        });
        let page = render(&status(vec![bad]));
        assert!(page.contains("web1: its record has lost lines that this hub has witnessed"), "{page}");
        assert!(page.contains("up to line 12") && page.contains("now says line 7"));
        assert!(page.contains("Since 2 minutes ago") && page.contains("What to do: look"));
    }

    #[test]
    fn a_hub_without_servers_says_so() {
        assert!(render(&status(Vec::new())).contains("No server has reported yet."));
    }
}
