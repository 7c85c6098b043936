//! What the hub keeps, and a power cut before every operation on its disk.

use crate::reports::Server;
use allod_hub::{identity, registry::Registry};
use allod_proto::{Timestamp, witness::Verdict};
use allod_signing::Signer as _;
use allod_store::power_cut::{Story, survives, survives_kills};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Of each server the highest head, and what is wrong with it.
type Shown = Vec<(String, u64, Option<Verdict>)>;

fn shown(folder: &Path) -> Result<Shown, String> {
    let registry = Registry::open(folder).map_err(|error| error.to_string())?;
    let of = |watched: &allod_hub::registry::Watched| {
        let record = &watched.record;
        (record.identity.to_string(), record.head.head.seq, record.trouble.as_ref().map(|it| it.verdict))
    };
    Ok(registry.all().iter().map(of).collect())
}

fn witness(folder: &Path, server: &Server, after: u64, seq: u64) -> Result<Shown, String> {
    let now = NOW.plus(std::time::Duration::from_secs(after));
    let registry = Registry::open(folder).map_err(|error| error.to_string())?;
    registry.witness(server.report(now, seq, &seq.to_string()), HERE, now).map_err(|fault| fault.message)?;
    shown(folder)
}

#[test]
fn what_was_witnessed_survives_a_power_cut_anywhere() {
    let (one, two) = (Server::new(1), Server::new(2));
    let tell = |story: &mut Story<Shown>| {
        story.step(|folder| witness(folder, &one, 1, 10));
        story.step(|folder| witness(folder, &two, 2, 5));
        story.step(|folder| witness(folder, &one, 3, 12));
        story.step(|folder| witness(folder, &one, 4, 3));
        story.step(|folder| {
            let registry = Registry::open(folder).map_err(|error| error.to_string())?;
            registry.acknowledge(&one.identity(), NOW).map_err(|fault| fault.message)?;
            shown(folder)
        });
        story.step(|folder| {
            let registry = Registry::open(folder).map_err(|error| error.to_string())?;
            registry.forget(&two.identity()).map_err(|fault| fault.message)?;
            shown(folder)
        });
    };
    survives(200, |_| {}, tell, shown).unwrap();
    survives_kills(60, |_| {}, tell, shown).unwrap();
}

#[test]
fn the_hubs_key_is_whole_after_a_power_cut_anywhere_and_so_is_its_public_half() {
    let open = |folder: &Path| {
        if !folder.join("identity").exists() {
            return Ok(None);
        }
        let key = identity::load_or_make(folder).map_err(|error| error.to_string())?;
        let public =
            std::fs::read_to_string(folder.join("identity.pub")).map_err(|error| error.to_string())?;
        assert_eq!(public.trim(), key.public_openssh());
        Ok(Some(key.fingerprint()))
    };
    let tell = |story: &mut Story<Option<_>>| {
        story.step(|folder| {
            identity::load_or_make(folder)
                .map(|key| Some(key.fingerprint()))
                .map_err(|error| error.to_string())
        });
    };
    survives(100, |_| {}, tell, open).unwrap();
}
