//! `allod hub nodes`: who is on the mesh, who wants to be, and what becomes of them.

use super::{Place, unexpected};
use crate::show::{ago, table, until};
use allod_daemon::Clock;
use allod_proto::{
    Fault, FaultCode, Timestamp,
    hub::{Expiry, HubAnswer, HubAsk, HubNode, HubNodes, WaitingMachine},
    shown::safe,
};

/// `allod hub nodes`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  allod hub nodes\n  allod hub nodes waiting\n  \
    allod hub nodes approve 3q5wJw --tag tag:server --name web1\n  allod hub nodes expire old-laptop --now\n\n\
    NODE is a name, an address on the mesh, or the number.")]
pub(crate) struct Nodes {
    #[command(subcommand)]
    deed: Option<NodesDeed>,
}

#[derive(Debug, clap::Subcommand)]
enum NodesDeed {
    /// All nodes; what `allod hub nodes` does too
    #[command(after_help = "Example:\n  allod hub nodes list --json")]
    List,
    /// The machines that wait for a person
    #[command(after_help = "Example:\n  allod hub nodes waiting")]
    Waiting,
    /// Let a machine in that waits
    #[command(
        after_help = "Example:\n  allod hub nodes approve 3q5wJw --name phone\n  allod hub nodes approve 3q5wJw --tag tag:server"
    )]
    Approve {
        /// The id on the page that the machine was sent to
        id: String,
        /// A tag, which makes it a server instead of a machine of your own; may be given more than once
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// Its name, instead of what it calls itself
        #[arg(long)]
        name: Option<String>,
    },
    /// Send a machine away that waits
    #[command(after_help = "Example:\n  allod hub nodes reject 3q5wJw")]
    Reject {
        /// The id on the page that the machine was sent to
        id: String,
    },
    /// Give a node another name
    #[command(after_help = "Example:\n  allod hub nodes rename laptop-1 laptop")]
    Rename {
        /// Which
        node: String,
        /// Lower-case letters, digits and inner hyphens
        name: String,
    },
    /// Give a node these tags and no others
    #[command(
        after_help = "Example:\n  allod hub nodes tag web1 tag:server tag:blue\n  allod hub nodes tag laptop --none"
    )]
    Tag {
        /// Which
        node: String,
        /// `tag:server` and the like
        #[arg(required_unless_present = "none")]
        tags: Vec<String>,
        /// No tags: a machine of your own, which by the first policy reaches everything
        #[arg(long, conflicts_with = "tags")]
        none: bool,
    },
    /// Say when a node's key ends; one that has ended is cut off until it joins anew
    #[command(
        after_help = "Example:\n  allod hub nodes expire old-laptop --now\n  allod hub nodes expire web1 --at 2030-12-31"
    )]
    Expire {
        /// Which
        node: String,
        #[command(flatten)]
        when: When,
    },
    /// Delete a node; its number and address are never given again
    #[command(after_help = "Example:\n  allod hub nodes delete old-laptop --yes")]
    Delete {
        /// Which
        node: String,
        /// Yes, this one
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct When {
    /// At once
    #[arg(long)]
    now: bool,
    /// Not at all
    #[arg(long)]
    never: bool,
    /// Then: 2030-12-31 or 2030-12-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

impl When {
    fn expiry(&self) -> Expiry {
        match (self.at, self.never) {
            (Some(at), _) => Expiry::At(at),
            (None, true) => Expiry::Never,
            (None, false) => Expiry::Now,
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || "a day such as 2030-12-31, or a time such as 2030-12-31T12:00:00Z".to_owned();
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        // A time without a zone would be read as its day.
        Err(_) if text.len() != 10 => return Err(wrong()),
        Err(_) => {
            let day: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
            day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?.timestamp()
        }
    };
    u64::try_from(at.as_millisecond()).map(Timestamp).map_err(|_| wrong())
}

/// Does it.
pub(super) async fn run(place: &Place, nodes: Nodes) -> Result<(), Fault> {
    let ask = match nodes.deed.unwrap_or(NodesDeed::List) {
        NodesDeed::List => HubAsk::Nodes {},
        NodesDeed::Waiting => HubAsk::Waiting {},
        NodesDeed::Approve { id, tag, name } => HubAsk::Approve { id, tags: tag, name },
        NodesDeed::Reject { id } => return place.tell(&HubAsk::Reject { id }).await,
        NodesDeed::Rename { node, name } => HubAsk::Rename { node, name },
        NodesDeed::Tag { node, tags, none: _ } => HubAsk::Tag { node, tags },
        NodesDeed::Expire { node, when } => HubAsk::Expire { node, when: when.expiry() },
        NodesDeed::Delete { node, yes } => return delete(place, node, yes).await,
    };
    let now = Clock::start().now();
    match place.ask(&ask).await? {
        HubAnswer::Nodes(nodes) => list(place, &nodes, now),
        HubAnswer::Waiting { machines } => {
            let document = serde_json::json!({ "machines": machines });
            place.show.document(&document, || waiting(&machines, now))
        }
        HubAnswer::Node(node) => {
            let rows = [row(&node, now)];
            place.show.document(&serde_json::json!({ "node": node }), || table(&HEADING, &rows))
        }
        _ => Err(unexpected()),
    }
}

async fn delete(place: &Place, node: String, yes: bool) -> Result<(), Fault> {
    if yes {
        return place.tell(&HubAsk::Delete { node }).await;
    }
    let HubAnswer::Node(meant) = place.ask(&HubAsk::Node { node }).await? else { return Err(unexpected()) };
    let address = meant.addresses.first().map(ToString::to_string).unwrap_or_default();
    let message = format!("that is node {} ({}, {address}): delete it?", meant.id, meant.name);
    Err(Fault::new(FaultCode::Confirmation, message).hint("--yes says so"))
}

fn list(place: &Place, nodes: &HubNodes, now: Timestamp) -> Result<(), Fault> {
    place.show.document(nodes, || {
        if nodes.nodes.is_empty() {
            return "no node yet: `allod hub keys create` prints what a machine joins with\n".to_owned();
        }
        let rows: Vec<_> = nodes.nodes.iter().map(|node| row(node, now)).collect();
        table(&HEADING, &rows)
    })?;
    if nodes.waiting > 0 {
        place.show.note(&format!("{} waiting for you: allod hub nodes waiting", nodes.waiting));
    }
    if !nodes.without_relay.is_empty() {
        place.show.note(&format!(
            "{}: stock clients, and told of no relay, since this hub has no certificate; they reach only whom a direct path leads \
             to, and `tailscale up` may wait for ever. Give the hub --certificate and --certificate-key, and --url https://…",
            nodes.without_relay.join(", ")
        ));
    }
    if let Some(root_key) = &nodes.root_key {
        place.show.note(root_key);
    }
    Ok(())
}

const HEADING: [&str; 7] = ["NAME", "ADDRESS", "TAGS", "SEEN", "KEY ENDS", "SYSTEM", "NUMBER"];

fn row(node: &HubNode, now: Timestamp) -> Vec<String> {
    let seen = match (node.online, node.seen_at) {
        (true, _) => "now".to_owned(),
        (false, Some(seen)) => ago(seen, now),
        (false, None) => "never".to_owned(),
    };
    let tags = if node.tags.is_empty() { "-".to_owned() } else { node.tags.join(",") };
    vec![
        node.name.clone(),
        node.addresses.first().map(ToString::to_string).unwrap_or_default(),
        tags,
        seen,
        if node.expired { "over".to_owned() } else { until(node.expires_at, now) },
        if node.os.is_empty() { "-".to_owned() } else { node.os.clone() },
        node.id.to_string(),
    ]
}

fn waiting(machines: &[WaitingMachine], now: Timestamp) -> String {
    if machines.is_empty() {
        return "no machine waits\n".to_owned();
    }
    let row = |machine: &WaitingMachine| {
        vec![
            machine.id.clone(),
            machine.hostname.clone(),
            machine.os.clone(),
            machine.source.to_string(),
            ago(machine.since_at, now),
            machine.key.clone(),
        ]
    };
    let rows: Vec<_> = machines.iter().map(row).collect();
    let table = table(&["ID", "CALLS ITSELF", "SYSTEM", "FROM", "SINCE", "NODE KEY"], &rows);
    let first = machines.first().map(|machine| safe(&machine.id)).unwrap_or_default();
    format!(
        "{table}compare the node key with what the machine shows, then: allod hub nodes approve {first}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "soon", "2030-13-01", "1969-12-31", "12:00", "2030-12-31T12:00:00"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(time("1970-01-02"), Ok(Timestamp(86_400_000)));
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(Timestamp(1000)));
    }

    #[test]
    fn what_a_machine_calls_itself_is_one_cell_of_one_line() {
        let machine = WaitingMachine {
            id: "abc".to_owned(),
            hostname: "x\r\n\u{202e}approved".to_owned(),
            os: "\u{1b}]0;title\u{7}".to_owned(),
            source: [192, 0, 2, 1].into(),
            key: "nodekey:00".to_owned(),
            since_at: Timestamp(0),
        };
        let text = waiting(&[machine], Timestamp(60_000));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text}");
    }
}
