//! What a person types on the hub's own machine: `allod hub nodes`, `keys`, `policy`, `backup` and their like. Most are asked of the
//! running hub; what is done with files alone is done with the rights of their owner.

mod backup;
mod keys;
mod nodes;
mod owner;
mod policy;
mod root_key;

use crate::{control, show::Show};
use allod_proto::{
    Fault, FaultCode, Fingerprint,
    hub::{HubAnswer, HubAsk},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What is done at a running hub, or in place of running one.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Deed {
    /// Take what a marked server says now for what counts (on the hub's own machine)
    #[command(
        after_help = "Example:\n  allod hub acknowledge SHA256:beyk9U/WpAyHiOkDShcVSPWjzJDgFyWLsgM/rfKLvig"
    )]
    Acknowledge {
        /// The server's identity, SHA256:…
        identity: Fingerprint,
    },
    /// Forget a server and what was witnessed of it (on the hub's own machine)
    #[command(after_help = "Example:\n  allod hub forget SHA256:beyk9U/WpAyHiOkDShcVSPWjzJDgFyWLsgM/rfKLvig")]
    Forget {
        /// The server's identity, SHA256:…
        identity: Fingerprint,
    },
    /// The nodes of the mesh: list, waiting, approve, reject, rename, tag, expire, delete
    Nodes(nodes::Nodes),
    /// What lets machines join: create, list, revoke
    Keys(keys::Keys),
    /// Who may reach whom: show, set, test, example
    Policy(policy::PolicyDeed),
    /// Write the whole network, its keys too, into one new file
    Backup(backup::Backup),
    /// Make the network of a backup this hub's; the hub must not run
    Restore(backup::Restore),
    /// Another Noise key for the coordinator: prepare, take
    NoiseKey(root_key::NoiseKey),
    /// The network's root key: take it away from here, sign with it
    RootKey(root_key::RootKey),
}

/// What every deed needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder that everything lives under.
    pub(crate) state: PathBuf,
    /// How to print.
    pub(crate) show: Show,
}

impl Place {
    fn hub(&self) -> PathBuf {
        self.state.join("hub")
    }

    async fn ask(&self, ask: &HubAsk) -> Result<HubAnswer, Fault> {
        control::ask(&self.hub(), ask).await
    }

    /// Asks for something to be done, and says what was.
    async fn tell(&self, ask: &HubAsk) -> Result<(), Fault> {
        match self.ask(ask).await? {
            HubAnswer::Done { message } => {
                self.show.document(&serde_json::json!({ "message": message }), || {
                    format!("{}\n", allod_proto::shown::safe(&message))
                })
            }
            _ => Err(unexpected()),
        }
    }
}

/// Does it.
pub(crate) async fn run(place: &Place, deed: Deed) -> Result<(), Fault> {
    match deed {
        Deed::Acknowledge { identity } => place.tell(&HubAsk::Acknowledge { identity }).await,
        Deed::Forget { identity } => place.tell(&HubAsk::Forget { identity }).await,
        Deed::Nodes(nodes) => nodes::run(place, nodes).await,
        Deed::Keys(keys) => keys::run(place, keys).await,
        Deed::Policy(policy) => policy::run(place, policy).await,
        Deed::Backup(backup) => backup::backup(place, backup).await,
        Deed::Restore(restore) => backup::restore(place, restore),
        Deed::NoiseKey(deed) => root_key::noise_key(place, deed).await,
        Deed::RootKey(deed) => root_key::root_key(place, deed),
    }
}

fn unexpected() -> Fault {
    Fault::new(FaultCode::Version, "the hub answers something else than what was asked")
        .hint("does it run another version than this?")
}

/// `45s`, `30m`, `1h`, `7d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and s, m, h or d, such as 1h".to_owned();
    let at = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at_checked(at).ok_or_else(wrong)?;
    let scale: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(scale).map(Duration::from_secs).ok_or_else(wrong)
}

/// The text of a file, or of stdin for `-`, of at most so many bytes.
fn read_text(file: &Path, most: u64) -> Result<String, Fault> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => FaultCode::NotFound,
            _ => FaultCode::Invalid,
        };
        Fault::new(code, format!("{}: {error}", file.display()))
    };
    let mut text = String::new();
    let limit = most.saturating_add(1);
    let read = if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(limit).read_to_string(&mut text))
    };
    if u64::try_from(read.map_err(failed)?).unwrap_or(u64::MAX) > most {
        return Err(Fault::new(
            FaultCode::TooLarge,
            format!("{} has more than {most} bytes", file.display()),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_span_is_refused() {
        for bad in
            ["", "1", "h", "1 h", "-1h", "1.5h", "1w", "99999999999999999999s", "18446744073709551615d", "ä"]
        {
            assert!(span(bad).is_err(), "{bad:?}");
        }
        assert_eq!(span("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!((span("0s"), span("2d")), (Ok(Duration::ZERO), Ok(Duration::from_secs(172_800))));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_text(&file, 4).unwrap_err().code, FaultCode::TooLarge);
        assert_eq!(read_text(&folder.path().join("none"), 4).unwrap_err().code, FaultCode::NotFound);
        assert_eq!(read_text(&file, 5).unwrap(), "12345");
    }
}
