//! The page of a machine that waits: what it says it is, and the command that lets it in. It decides nothing; whoever has its
//! address sees it, and only an administrator's command acts.

use super::with_type;
use crate::{state::Pending, view::View};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use std::net::IpAddr;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) fn show(view: &View, id: &str, from: IpAddr) -> Response<Full<Bytes>> {
    let (status, inner) = match view.state.waiting(id) {
        Some(waiting) => (StatusCode::OK, waiting_page(waiting, from)),
        None => (
            StatusCode::NOT_FOUND,
            "<h1>Nothing waits here</h1><p>The machine was let in already, was sent away, or waited too long. \
             Begin again on the machine.</p>"
                .to_owned(),
        ),
    };
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Let a machine in</title><style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;\
         padding:0 1em}}code{{background:#eee;padding:.2em .4em;overflow-wrap:anywhere}}</style>{inner}</html>"
    );
    let mut response = with_type(status, "text/html; charset=utf-8", page.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn waiting_page(waiting: &Pending, from: IpAddr) -> String {
    let named = if waiting.host.hostname.is_empty() { "(no name)" } else { &waiting.host.hostname };
    let same = if waiting.source.to_canonical() == from.to_canonical() {
        "the address that you come from too"
    } else {
        "not the address that you come from"
    };
    format!(
        "<h1>A machine wants to join</h1><p>It calls itself <b>{}</b> ({} {}), which anybody could. It asks from <b>{}</b>, \
         {same}. Its node key is <code>{}</code>: compare it with what the machine shows.</p>\
         <p>To let it in, run on the machine that administers the network:</p>\
         <p><code>allod hub nodes approve {}</code></p>",
        escape(named),
        escape(&waiting.host.os),
        escape(&waiting.host.os_version),
        waiting.source.to_canonical(),
        waiting.key,
        escape(&waiting.id),
    )
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_meshproto::{MachineKey, NodeKey, control::Hostinfo};
    use allod_proto::Timestamp;

    #[test]
    fn what_a_machine_calls_itself_is_text_and_nothing_else() {
        let host = Hostinfo { hostname: "<script>x</script>\"'&".to_owned(), ..Hostinfo::default() };
        let waiting = Pending {
            id: "abc".to_owned(),
            machine: MachineKey::default(),
            key: NodeKey::new([3; 32]),
            source: "192.0.2.1".parse().unwrap(),
            host,
            version: 130,
            ephemeral: false,
            since: Timestamp(1),
        };
        let page = waiting_page(&waiting, "192.0.2.2".parse().unwrap());
        assert!(page.contains("&lt;script&gt;x&lt;/script&gt;&quot;&#39;&amp;") && !page.contains("<script"));
        assert!(page.contains("not the address") && page.contains("approve abc"));
    }
}
