//! The server's identity: which key it is, who it was before, and how it is replaced. The first one lies in the agent's
//! folder; one that was rotated to is in `identity.json`, in one piece with the chain that leads to it, and the agent
//! gets it when it attaches. Writing that file is the one moment at which the identity changes.

use crate::{apps::store_fault, executor::random, isolation::Isolation, layout::Layout};
use allod_proto::{
    Fault, FaultCode, Fingerprint, Timestamp,
    executor::IdentityKey,
    messages::server::{SUCCESSIONS, Succession},
};
use allod_signing::{KeySigner, PublicKey, Signer as _, sign_succession};
use allod_store::Format;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::Zeroizing;

/// An identity that was rotated to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotated {
    key: IdentityKey,
    succession: Vec<Succession>,
}

impl Format for Rotated {
    const NAME: &'static str = "rotated identity";
    const FORMAT: u32 = 1;
}

/// Who the server is.
pub(crate) struct Identity {
    layout: Layout,
    fingerprint: Fingerprint,
    rotated: Option<Rotated>,
}

impl Identity {
    /// Reads who the server is, or makes its first identity.
    pub(crate) fn open(layout: &Layout, isolation: &Isolation) -> Result<Self, String> {
        let path = layout.rotated_identity();
        let rotated: Option<Rotated> = allod_store::load(&path).map_err(|error| error.to_string())?;
        let Some(rotated) = rotated else {
            let fingerprint = first(layout, isolation)?;
            return Ok(Self { layout: layout.clone(), fingerprint, rotated: None });
        };
        let signer = KeySigner::from_openssh(rotated.key.expose(), None)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        // What was cut off after the change is made good here.
        write_public(layout, &signer)?;
        Ok(Self { layout: layout.clone(), fingerprint: signer.fingerprint(), rotated: Some(rotated) })
    }

    /// The fingerprint that requests are signed for.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The key, where the agent does not have it in its own folder.
    pub(crate) fn key(&self) -> Option<IdentityKey> {
        self.rotated.as_ref().map(|rotated| rotated.key.clone())
    }

    /// How it came from the ones before.
    pub(crate) fn succession(&self) -> Vec<Succession> {
        self.rotated.as_ref().map(|rotated| rotated.succession.clone()).unwrap_or_default()
    }

    /// Takes another identity, which the old one names. `from` is the one that the caller believes to be there.
    pub(crate) fn rotate(&mut self, from: &Fingerprint, now: Timestamp) -> Result<Succession, Fault> {
        if *from != self.fingerprint {
            let message = format!("the server's identity is {}, not {from}", self.fingerprint);
            return Err(Fault::new(FaultCode::Conflict, message).hint("look at `allod servers list`"));
        }
        let internal = |why: String| Fault::new(FaultCode::Internal, why);
        let old = self.old_key().map_err(internal)?;
        if old.fingerprint() != self.fingerprint {
            let message = "the identity key in the agent's folder is not the server's".to_owned();
            return Err(internal(message));
        }
        let new = KeySigner::generate(random().map_err(internal)?, "allod server identity");
        let link = sign_succession(&old, &new.fingerprint(), now).map_err(|why| internal(why.to_string()))?;
        let mut succession = self.succession();
        succession.push(link.clone());
        let surplus = succession.len().saturating_sub(SUCCESSIONS);
        succession.drain(..surplus);
        let rotated = Rotated { key: IdentityKey::new(new.to_openssh().to_string()), succession };
        allod_store::save(&self.layout.rotated_identity(), &rotated, 0o600).map_err(store_fault)?;
        self.fingerprint = new.fingerprint();
        self.rotated = Some(rotated);
        if let Err(why) = write_public(&self.layout, &new) {
            tracing::error!(why, "the public half of the identity is written at the next start");
        }
        Ok(link)
    }

    fn old_key(&self) -> Result<KeySigner, String> {
        if let Some(rotated) = &self.rotated {
            return KeySigner::from_openssh(rotated.key.expose(), None).map_err(|error| error.to_string());
        }
        // The folder is the agent's: no link in it is followed.
        let folder = self.layout.agent();
        let bytes = allod_store::read_beneath(&folder, Path::new("identity.key"), 64 * 1024)
            .map_err(|error| error.to_string())?;
        let text =
            Zeroizing::new(String::from_utf8(bytes).map_err(|_| "identity.key is not text".to_owned())?);
        KeySigner::from_openssh(&text, None).map_err(|error| format!("identity.key: {error}"))
    }
}

fn write_public(layout: &Layout, signer: &KeySigner) -> Result<(), String> {
    allod_store::write_atomic(&layout.identity_public(), signer.public_openssh().as_bytes(), 0o644)
        .map_err(|error| error.to_string())
}

/// The first identity key belongs to the agent, which signs replies with it; the executor made it and remembers what it is.
fn first(layout: &Layout, isolation: &Isolation) -> Result<Fingerprint, String> {
    let public = layout.identity_public();
    if let Ok(text) = std::fs::read_to_string(&public) {
        let key =
            PublicKey::from_openssh(text.trim()).map_err(|error| format!("{}: {error}", public.display()))?;
        return Ok(key.fingerprint().clone());
    }
    let owner = match isolation {
        Isolation::SameUser => None,
        Isolation::OwnUids { agent, .. } => Some(*agent),
    };
    let signer =
        crate::executor::load_or_make(&layout.agent().join("identity.key"), "allod server identity", owner)?;
    write_public(layout, &signer)?;
    Ok(signer.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_signing::follow;

    const NOW: Timestamp = Timestamp(1_780_000_000_000);

    fn place() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path().join("run"));
        layout.create().unwrap();
        std::fs::create_dir_all(layout.agent()).unwrap();
        (folder, layout)
    }

    fn open(layout: &Layout) -> Identity {
        Identity::open(layout, &Isolation::SameUser).unwrap()
    }

    #[test]
    fn an_identity_that_is_not_there_any_more_is_not_rotated() {
        let (_folder, layout) = place();
        let mut identity = open(&layout);
        let first = identity.fingerprint().clone();
        identity.rotate(&first, NOW).unwrap();
        let second = identity.fingerprint().clone();
        assert_eq!(identity.rotate(&first, NOW).unwrap_err().code, FaultCode::Conflict);
        assert_eq!(*open(&layout).fingerprint(), second);
    }

    #[test]
    fn a_key_that_the_agent_put_in_the_place_of_the_identity_names_no_successor() {
        let (_folder, layout) = place();
        let mut identity = open(&layout);
        let first = identity.fingerprint().clone();
        let file = layout.agent().join("identity.key");
        std::fs::write(&file, KeySigner::generate([9; 32], "x").to_openssh().as_bytes()).unwrap();
        assert_eq!(identity.rotate(&first, NOW).unwrap_err().code, FaultCode::Internal);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert_eq!(identity.rotate(&first, NOW).unwrap_err().code, FaultCode::Internal);
        assert_eq!(*open(&layout).fingerprint(), first);
    }

    #[test]
    fn a_rotation_that_was_cut_off_after_its_one_moment_is_whole_at_the_next_start() {
        let (_folder, layout) = place();
        let mut identity = open(&layout);
        let (first, public) =
            (identity.fingerprint().clone(), std::fs::read(layout.identity_public()).unwrap());
        identity.rotate(&first, NOW).unwrap();
        std::fs::write(layout.identity_public(), public).unwrap();
        std::fs::remove_file(layout.agent().join("identity.key")).unwrap();
        let again = open(&layout);
        assert_eq!(again.fingerprint(), identity.fingerprint());
        let text = std::fs::read_to_string(layout.identity_public()).unwrap();
        assert_eq!(PublicKey::from_openssh(&text).unwrap().fingerprint(), identity.fingerprint());
        let key = KeySigner::from_openssh(again.key().unwrap().expose(), None).unwrap();
        assert_eq!(key.fingerprint(), *identity.fingerprint());
    }

    #[test]
    fn the_chain_leads_from_every_identity_it_still_holds_to_the_last() {
        let (_folder, layout) = place();
        let mut identity = open(&layout);
        let mut all = vec![identity.fingerprint().clone()];
        for _ in 0..SUCCESSIONS + 2 {
            let now = identity.fingerprint().clone();
            identity.rotate(&now, NOW).unwrap();
            all.push(identity.fingerprint().clone());
        }
        let chain = open(&layout).succession();
        assert_eq!(chain.len(), SUCCESSIONS);
        let last = all.pop().unwrap();
        let lost = all.len() - SUCCESSIONS;
        for (at, pinned) in all.iter().enumerate() {
            assert_eq!(follow(&chain, pinned, &last).is_ok(), at >= lost, "{at}");
        }
    }
}
