//! `allod hub keys`: what lets machines join. A token is printed alone, so that it can be piped to where it is needed.

use super::{Place, span, unexpected};
use crate::show::{ago, table, until};
use allod_daemon::Clock;
use allod_proto::{
    Fault, Timestamp,
    hub::{HubAnswer, HubAsk, HubKey},
};
use std::time::Duration;

/// `allod hub keys`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  allod hub keys create\n  allod hub keys create --tag tag:server --uses 3 --for 1d\n  \
    allod hub keys list\n  allod hub keys revoke 8Zl2w0cQpVbF"
)]
pub(crate) struct Keys {
    #[command(subcommand)]
    deed: KeysDeed,
}

#[derive(Debug, clap::Subcommand)]
enum KeysDeed {
    /// Print a join token: for one machine, for an hour, unless told otherwise
    ///
    /// Without a tag it makes what joins a machine of your own, which by the first policy reaches everything; `--tag tag:server`
    /// is for servers. The token alone is on stdout.
    #[command(
        after_help = "Example:\n  allod hub keys create | ssh web1 'cat > token'\n  allod hub keys create --tag tag:server --uses 3 --for 1d"
    )]
    Create {
        /// For so many machines
        #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "reusable", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// For any number of machines
        #[arg(long)]
        reusable: bool,
        /// For so long: 30m, 1h, 7d; 366d at most
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = span)]
        lasting: Duration,
        /// A tag of what joins with it; may be given more than once
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// Forget what joined with it a few minutes after it goes away
        #[arg(long)]
        ephemeral: bool,
    },
    /// All of them; nothing of what is shown lets anybody in
    #[command(after_help = "Example:\n  allod hub keys list")]
    List,
    /// Let nobody in with it any more; whom it let in stays
    #[command(after_help = "Example:\n  allod hub keys revoke 8Zl2w0cQpVbF")]
    Revoke {
        /// Its first half, which `list` shows
        id: String,
    },
}

/// Does it.
pub(super) async fn run(place: &Place, keys: Keys) -> Result<(), Fault> {
    let ask = match keys.deed {
        KeysDeed::Create { uses, reusable, lasting, tag, ephemeral } => HubAsk::JoinToken {
            uses: (!reusable).then_some(uses),
            seconds: lasting.as_secs(),
            tags: tag,
            ephemeral,
        },
        KeysDeed::List => HubAsk::Keys {},
        KeysDeed::Revoke { id } => return place.tell(&HubAsk::RevokeKey { id }).await,
    };
    let now = Clock::start().now();
    match place.ask(&ask).await? {
        HubAnswer::JoinToken { key, token, warning } => {
            let document = serde_json::json!({ "token": *token.0, "key": key });
            place.show.document(&document, || format!("{}\n", &*token.0))?;
            place.show.note(&about(&key, now));
            if let Some(warning) = warning {
                place.show.note(&warning);
            }
            Ok(())
        }
        HubAnswer::Keys { keys } => {
            place.show.document(&serde_json::json!({ "keys": keys }), || list(&keys, now))
        }
        _ => Err(unexpected()),
    }
}

fn about(key: &HubKey, now: Timestamp) -> String {
    let uses = match key.uses_left {
        Some(1) => "one machine".to_owned(),
        Some(many) => format!("{many} machines"),
        None => "any number of machines".to_owned(),
    };
    let kind = if key.tags.is_empty() {
        "of your own, which by the first policy reach everything".to_owned()
    } else {
        format!("with {}", key.tags.join(", "))
    };
    format!("lets in {uses} {kind}; ends {}; as secret as a password", until(key.expires_at, now))
}

fn list(keys: &[HubKey], now: Timestamp) -> String {
    if keys.is_empty() {
        return "no join key yet\n".to_owned();
    }
    let row = |key: &HubKey| {
        let state = match (key.good, key.revoked, key.uses_left) {
            (true, ..) => "good",
            (false, true, _) => "revoked",
            (false, false, Some(0)) => "used up",
            (false, false, _) => "over",
        };
        vec![
            key.id.clone(),
            state.to_owned(),
            key.uses_left.map_or_else(|| "any".to_owned(), |uses| uses.to_string()),
            until(key.expires_at, now),
            if key.tags.is_empty() { "-".to_owned() } else { key.tags.join(",") },
            if key.ephemeral { "yes" } else { "no" }.to_owned(),
            ago(key.created_at, now),
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    table(&["ID", "STATE", "USES LEFT", "ENDS", "TAGS", "EPHEMERAL", "MADE"], &rows)
}
