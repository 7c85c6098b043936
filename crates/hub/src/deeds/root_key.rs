//! `allod hub root-key` and `noise-key`: the key that the network's trust hangs on leaves the machine, and signs another Noise key
//! wherever it is kept.

use super::{
    Place,
    backup::{create_new, settle},
    owner::as_owner,
    read_text, span, unexpected,
};
use crate::coordination;
use allod_coordinator::{CoordinatorError, has_root_key, read_root_key, remove_root_key};
use allod_meshproto::{MachineKey, token::RootPrivate};
use allod_proto::{
    Fault, FaultCode,
    hub::{HubAnswer, HubAsk},
};
use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// Bytes of a root key's private half.
const BYTES: usize = 32;
/// Bytes of what it signed, at most.
const SIGNED: u64 = 4096;

/// `allod hub root-key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  allod hub root-key take --to /media/stick/mesh-root.key\n  \
    allod hub root-key sign --key mesh-root.key mkey:9c1f… 2 > signed.json")]
pub(crate) struct RootKey {
    #[command(subcommand)]
    deed: RootDeed,
}

#[derive(Debug, clap::Subcommand)]
enum RootDeed {
    /// Move the private half into a new file: a stick, another machine's disk, never this machine's
    #[command(after_help = "Example:\n  allod hub root-key take --to /media/stick/mesh-root.key")]
    Take {
        /// A new file; it is yours alone
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Sign a Noise key; works anywhere, asks nobody
    #[command(
        after_help = "Example:\n  allod hub root-key sign --key mesh-root.key mkey:9c1f… 2 > signed.json"
    )]
    Sign {
        /// The file that `take` wrote
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What `allod hub noise-key prepare` printed
        public: String,
        /// Its number
        serial: u64,
    },
}

/// `allod hub noise-key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  allod hub noise-key prepare\n  allod hub noise-key take signed.json\n\n\
    After a theft of the machine: allod hub noise-key take signed.json --overlap 0s")]
pub(crate) struct NoiseKey {
    #[command(subcommand)]
    deed: NoiseDeed,
}

#[derive(Debug, clap::Subcommand)]
enum NoiseDeed {
    /// Make another Noise key, and print what the root key is to sign
    #[command(after_help = "Example:\n  allod hub noise-key prepare")]
    Prepare,
    /// Take it into use, now that it is signed
    #[command(
        after_help = "Example:\n  allod hub noise-key take signed.json\n  allod hub noise-key take signed.json --overlap 0s"
    )]
    Take {
        /// What `allod hub root-key sign` printed, or `-` for stdin
        file: PathBuf,
        /// For how long the one before answers still
        #[arg(long, value_name = "TIME", default_value = "14d", value_parser = span)]
        overlap: Duration,
    },
}

/// Does it.
pub(super) async fn noise_key(place: &Place, deed: NoiseKey) -> Result<(), Fault> {
    match deed.deed {
        NoiseDeed::Prepare => {
            let HubAnswer::NoiseKey { key, serial } = place.ask(&HubAsk::PrepareNoiseKey {}).await? else {
                return Err(unexpected());
            };
            let document = serde_json::json!({ "key": key, "serial": serial });
            place.show.document(&document, || format!("{key} {serial}\n"))?;
            place.show.note("where the root key is: allod hub root-key sign --key FILE and these two words");
            Ok(())
        }
        NoiseDeed::Take { file, overlap } => {
            let text = read_text(&file, SIGNED)?;
            let signed = serde_json::from_str(&text)
                .map_err(|_| Fault::new(FaultCode::Invalid, "not what `allod hub root-key sign` prints"))?;
            place.tell(&HubAsk::TakeNoiseKey { signed, overlap_seconds: overlap.as_secs() }).await
        }
    }
}

/// Does it.
pub(super) fn root_key(place: &Place, deed: RootKey) -> Result<(), Fault> {
    match deed.deed {
        RootDeed::Take { to } => take(place, &to),
        RootDeed::Sign { key, public, serial } => sign(place, &key, &public, serial),
    }
}

/// It is whole in the new file before it is gone from the old.
fn take(place: &Place, to: &Path) -> Result<(), Fault> {
    let (hub, folder) = (place.hub(), coordination::folder(&place.state));
    let from = folder.clone();
    let root = as_owner(&hub, move || {
        if !has_root_key(&from) {
            return Err(Fault::new(
                FaultCode::NotFound,
                "no root key lies here: it was taken away, or no network was made yet",
            ));
        }
        read_root_key(&from).map_err(|error| failed(&error))
    })?;
    let mut file = create_new(to)?;
    let written = file
        .write_all(root.export().as_ref())
        .map_err(|error| Fault::new(FaultCode::Internal, format!("{}: {error}", to.display())))
        .and_then(|()| settle(to, &file))
        .and_then(|()| check(to, &root));
    if let Err(fault) = written {
        let _ = std::fs::remove_file(to);
        return Err(fault);
    }
    as_owner(&hub, move || remove_root_key(&folder).map_err(|error| failed(&error)))?;
    let document = serde_json::json!({ "file": to, "root": root.public().to_string() });
    place
        .show
        .document(&document, || format!("{} is in {} and nowhere else\n", root.public(), to.display()))?;
    place
        .show
        .note("keep it away from this machine: it is needed for another Noise key, and for nothing else");
    Ok(())
}

/// What was written is what was read: nothing is removed before.
fn check(file: &Path, root: &RootPrivate) -> Result<(), Fault> {
    if read_private(file)?.public() == root.public() {
        return Ok(());
    }
    Err(Fault::new(FaultCode::Internal, format!("{} does not keep what is written to it", file.display())))
}

fn read_private(file: &Path) -> Result<RootPrivate, Fault> {
    let wrong =
        || Fault::new(FaultCode::Invalid, format!("{} holds no root key: it has 32 bytes", file.display()));
    let opened = std::fs::File::open(file)
        .map_err(|error| Fault::new(FaultCode::NotFound, format!("{}: {error}", file.display())))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES + 1));
    opened.take(33).read_to_end(&mut bytes).map_err(|_| wrong())?;
    let seed: &[u8; BYTES] = bytes.as_slice().try_into().map_err(|_| wrong())?;
    RootPrivate::import(seed).map_err(|_| wrong())
}

fn sign(place: &Place, key: &Path, public: &str, serial: u64) -> Result<(), Fault> {
    let root = read_private(key)?;
    let public: MachineKey = public.parse().map_err(|_| {
        Fault::new(
            FaultCode::Invalid,
            "the public half is `mkey:` and 64 hexadecimal digits, as `noise-key prepare` prints it",
        )
    })?;
    if public.is_zero() || serial < 2 {
        return Err(Fault::new(FaultCode::Invalid, "that is no prepared key: its number is 2 or higher"));
    }
    let signed = root.sign(public, serial);
    let text =
        serde_json::to_string(&signed).map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
    place.show.document(&signed, || format!("{text}\n"))
}

fn failed(error: &CoordinatorError) -> Fault {
    Fault::new(FaultCode::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_root_key_signs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        assert_eq!(read_private(&file).unwrap_err().code, FaultCode::NotFound);
        for length in [0, 31, 33, 1000] {
            std::fs::write(&file, vec![1; length]).unwrap();
            assert_eq!(read_private(&file).unwrap_err().code, FaultCode::Invalid, "{length} bytes");
        }
        std::fs::write(&file, [1; 32]).unwrap();
        assert!(read_private(&file).is_ok());
    }
}
