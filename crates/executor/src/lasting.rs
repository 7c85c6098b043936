//! What the executor keeps, and a power cut before every operation on the disk: each store in turn, and then all of it as
//! the program opens it.

use crate::{
    Executor, apps::Apps, authorize::bench::Bench, executor::load_or_make, groups::Base, identity::Identity,
    isolation::Isolation, keys::KeyStore, layout::Layout, secrets,
};
use allod_proto::{
    AppRef, Digest, Fingerprint, OperationId, SecretName, Timestamp,
    executor::{Goal, OpenOperation},
    messages::secrets::SealedSecret,
};
use allod_signing::{KeySigner, PublicKey, Signer as _};
use allod_store::power_cut::{Story, survives, survives_kills, survives_samples};
use std::{collections::BTreeMap, path::Path};

const NOW: Timestamp = Timestamp(1_780_000_000_000);
const OWN: Isolation = Isolation::OwnUids { base: 61_200, agent: 61_100, proxy: 61_201 };

fn layout(root: &Path) -> Layout {
    Layout::new(root.join("state"), root.join("run"))
}

fn prepare(root: &Path) {
    layout(root).create().unwrap();
    std::fs::create_dir_all(layout(root).agent()).unwrap();
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn app() -> AppRef {
    "shop".parse().unwrap()
}

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], &format!("person-{seed}"))
}

fn line(seed: u8) -> String {
    format!("role=owner {}", key(seed).public_openssh())
}

/// Opened as at the start of the program.
fn settled<S>(root: &Path, open: impl FnOnce(Layout) -> Result<S, String>) -> Result<S, String> {
    allod_store::settle(&layout(root).executor()).map_err(text)?;
    open(layout(root))
}

/// Both ways: the power goes, and the program is killed before.
fn holds<S: Clone + PartialEq + std::fmt::Debug>(
    tell: impl Fn(&mut Story<S>),
    open: impl Fn(Layout) -> Result<S, String>,
) {
    survives(200, prepare, &tell, |root| settled(root, &open)).unwrap();
    survives_kills(60, prepare, &tell, |root| settled(root, &open)).unwrap();
}

/// How an app is wanted: scale, whether stopped, what is in progress.
type Wanted = BTreeMap<String, (bool, Option<String>)>;

fn wanted(layout: Layout) -> Result<Wanted, String> {
    let apps = Apps::load(layout).map_err(text)?;
    let of = |record: &crate::apps::AppRecord| {
        let open = record.operation.as_ref().map(|open| open.operation.id.to_string());
        (record.app.to_string(), (record.stopped, open))
    };
    Ok(apps.all().map(of).collect())
}

#[test]
fn how_apps_are_wanted_survives_a_power_cut_anywhere() {
    let change = |root: &Path, app: &str, change: &dyn Fn(&mut crate::apps::AppRecord)| {
        let mut apps = Apps::load(layout(root)).map_err(text)?;
        apps.change(&app.parse().unwrap(), |record| change(record)).map_err(text)?;
        wanted(layout(root))
    };
    let stop = |record: &mut crate::apps::AppRecord| {
        let operation = OpenOperation {
            id: OperationId::of(&Digest::of("stop")),
            app: record.app.clone(),
            command: "app.stop".to_owned(),
            by: "ann".to_owned(),
            at: NOW,
            goal: Goal::Stop {},
            promoted: false,
        };
        record.operation = Some(crate::apps::InProgress { operation, intent: 7, release_command: None });
    };
    let tell = |story: &mut Story<Wanted>| {
        story.step(|root| change(root, "shop", &|_| {}));
        story.step(|root| change(root, "blog/staging", &|record| record.stopped = true));
        story.step(|root| change(root, "shop", &stop));
        story.step(|root| change(root, "shop", &|record| record.promote(NOW)));
        story.step(|root| change(root, "shop", &|record| record.operation = None));
        story.step(|root| {
            let mut apps = Apps::load(layout(root)).map_err(text)?;
            apps.remove(&app()).map_err(text)?;
            wanted(layout(root))
        });
    };
    holds(tell, wanted);
}

/// Who may call now: enrolled and not revoked.
fn who_may(layout: Layout) -> Result<Vec<Fingerprint>, String> {
    let keys = KeyStore::load(layout)?;
    let in_force = |entry: &&allod_signing::EnrolledKey| !keys.revoked().has(entry.fingerprint());
    Ok(keys.enrolled().entries().iter().filter(in_force).map(|entry| entry.fingerprint().clone()).collect())
}

#[test]
fn who_may_call_survives_a_power_cut_anywhere() {
    let tell = |story: &mut Story<Vec<Fingerprint>>| {
        let mut keys = |change: &dyn Fn(&mut KeyStore) -> Result<(), String>| {
            story.step(|root| {
                let mut keys = KeyStore::load(layout(root))?;
                change(&mut keys)?;
                who_may(layout(root))
            });
        };
        keys(&|keys| keys.enroll_first(&line(1)).map(drop).map_err(text));
        keys(&|keys| keys.add(&line(2), NOW).map(drop).map_err(text));
        keys(&|keys| keys.add(&line(3), NOW).map(drop).map_err(text));
        keys(&|keys| keys.revoke(&key(2).fingerprint(), NOW).map(drop).map_err(text));
        keys(&|keys| {
            keys.add(&format!("role=viewer {}", key(3).public_openssh()), NOW).map(drop).map_err(text)
        });
    };
    holds(tell, who_may);
}

#[test]
fn a_rotation_that_a_power_cut_interrupts_locks_nobody_out_and_can_be_finished() {
    let (old, new) = (key(1).fingerprint(), key(2));
    // Whether the old key still may; somebody always may.
    let open = |layout: Layout| {
        let may = who_may(layout.clone())?;
        if may.len() == 2 {
            let mut keys = KeyStore::load(layout.clone())?;
            keys.rotate(&old, &new.public_openssh()).map_err(|fault| format!("asked again: {fault}"))?;
        }
        match who_may(layout.clone())?.as_slice() {
            [] if !layout.enrolled().exists() => Ok(None),
            [one] => Ok(Some(*one == old)),
            others => Err(format!("{others:?} may call")),
        }
    };
    let tell = |story: &mut Story<Option<bool>>| {
        story.step(|root| {
            KeyStore::load(layout(root))?.enroll_first(&line(1)).map(|_| Some(true)).map_err(text)
        });
        story.step(|root| {
            let mut keys = KeyStore::load(layout(root))?;
            keys.rotate(&old, &new.public_openssh()).map(|_| Some(false)).map_err(text)
        });
    };
    holds(tell, open);
}

type Values = BTreeMap<String, (u64, String)>;

fn values(layout: Layout) -> Result<Values, String> {
    let store = secrets::SecretStore::open(&layout, &app()).map_err(text)?;
    let versions = store.current_versions();
    let open = store.open_versions(&versions).map_err(text)?;
    let value = |(name, version): (&SecretName, &u64)| {
        let value = open.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        (name.to_string(), (*version, value.unwrap_or_default()))
    };
    Ok(versions.iter().map(value).collect())
}

#[test]
fn secrets_and_the_key_they_are_sealed_to_survive_a_power_cut_anywhere() {
    let set = |root: &Path, name: &str, value: &[u8]| {
        let (layout, name) = (layout(root), SecretName::new(name).map_err(text)?);
        let recipient = secrets::recipient(&layout).map_err(text)?;
        let sealed = allod_apps::seal::seal(&recipient, &app(), &name, value).map_err(text)?;
        let mut store = secrets::SecretStore::open(&layout, &app()).map_err(text)?;
        store.set(&[SealedSecret { name, sealed }], "ann", NOW).map_err(text)?;
        values(layout)
    };
    let tell = |story: &mut Story<Values>| {
        story.step(|root| secrets::recipient(&layout(root)).map(|_| Values::new()).map_err(text));
        story.step(|root| set(root, "KEY", b"one"));
        story.step(|root| set(root, "KEY", b"two"));
        story.step(|root| set(root, "OTHER", b"three"));
        story.step(|root| {
            let mut store = secrets::SecretStore::open(&layout(root), &app()).map_err(text)?;
            store.remove(&SecretName::new("KEY").unwrap()).map_err(text)?;
            values(layout(root))
        });
        story.step(|root| {
            let mut store = secrets::SecretStore::open(&layout(root), &app()).map_err(text)?;
            store.prune(&std::collections::BTreeSet::new()).map_err(text)?;
            values(layout(root))
        });
    };
    holds(tell, values);
}

#[test]
fn which_app_has_which_uid_survives_a_power_cut_anywhere() {
    let names = ["shop", "blog", "blog/staging"];
    let open = |layout: Layout| {
        // Those that are there say so without asking for new ones.
        let text = std::fs::read_to_string(layout.uids()).unwrap_or_default();
        let there =
            names.iter().filter(|name| text.contains(&format!("\"{}\"", name.parse::<AppRef>().unwrap())));
        there.map(|name| OWN.uid_of(&layout, &name.parse().unwrap()).map_err(crate::lasting::text)).collect()
    };
    let tell = |story: &mut Story<Vec<Option<u32>>>| {
        for name in names {
            story.step(|root| {
                OWN.uid_of(&layout(root), &name.parse().unwrap()).map_err(text)?;
                open(layout(root))
            });
        }
    };
    holds(tell, open);
}

/// The identity, and that its public half says the same.
fn identity(layout: &Layout) -> Result<Fingerprint, String> {
    let identity = Identity::open(layout, &Isolation::SameUser)?;
    let public = std::fs::read_to_string(layout.identity_public()).map_err(text)?;
    let public = PublicKey::from_openssh(public.trim()).map_err(text)?;
    if public.fingerprint() == identity.fingerprint() {
        Ok(identity.fingerprint().clone())
    } else {
        Err(format!("{} is not {}", public.fingerprint(), identity.fingerprint()))
    }
}

#[test]
fn the_servers_identity_survives_a_power_cut_anywhere() {
    let first = key(9);
    let prepare = |root: &Path| {
        prepare(root);
        let path = layout(root).agent().join("identity.key");
        allod_store::write_atomic(&path, first.to_openssh().as_bytes(), 0o600).unwrap();
    };
    let tell = |story: &mut Story<Fingerprint>| {
        story.step(|root| identity(&layout(root)));
        for _ in 0..2 {
            story.step(|root| {
                let mut identity = Identity::open(&layout(root), &Isolation::SameUser)?;
                let from = identity.fingerprint().clone();
                identity.rotate(&from, NOW).map_err(text)?;
                self::identity(&layout(root))
            });
        }
    };
    let open = |root: &Path| settled(root, |layout| identity(&layout));
    survives(200, prepare, tell, open).unwrap();
    survives_kills(60, prepare, tell, open).unwrap();
}

#[test]
fn a_key_that_is_made_at_the_first_start_is_made_once_and_whole() {
    let show = |layout: Layout| {
        let there = layout.record_key().exists();
        let key = there.then(|| load_or_make(&layout.record_key(), "record", None)).transpose()?;
        Ok(key.map(|key| key.fingerprint()))
    };
    let tell = |story: &mut Story<Option<Fingerprint>>| {
        story.step(|root| {
            load_or_make(&layout(root).record_key(), "record", None)?;
            show(layout(root))
        });
    };
    holds(tell, show);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The whole program, opened; who may call, and a record that nobody finds cut or damaged.
fn whole(root: &Path) -> Result<Vec<Fingerprint>, String> {
    let executor = open(root)?;
    executor.record().flush().map_err(text)?;
    let key = executor.record_public_key().clone();
    allod_audit::verify(&layout(root).record(), Some(&key), &[]).map_err(text)?;
    let cut = executor.record().read(1, 100).map_err(text)?;
    if let Some(line) =
        cut.iter().find(|line| line.contains(r#""what":"cut""#) || line.contains(r#""what":"damaged""#))
    {
        return Err(format!("the record says: {line}"));
    }
    let of = |record: &str| -> Result<Fingerprint, String> {
        Ok(PublicKey::from_openssh(record).map_err(text)?.fingerprint().clone())
    };
    of(executor.record_key())?;
    runtime().block_on(executor.close(false));
    drop(executor);
    who_may(layout(root))
}

/// Another test that starts a program at this moment has, until that begins, a copy of every descriptor, the last life's lock too.
fn open(root: &Path) -> Result<std::sync::Arc<Executor>, String> {
    let ours = format!("in use by process {}", std::process::id());
    for _ in 0..500 {
        match runtime().block_on(Executor::open(layout(root), Isolation::SameUser, &Base::None, None)) {
            Err(why) if why.contains(&ours) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened,
        }
    }
    Err("the last life's lock is still held".to_owned())
}

#[test]
fn the_executor_starts_by_itself_after_a_power_cut_or_a_kill_anywhere() {
    let call = |root: &Path, command: &str, params: &str, nonce: &str| {
        runtime().block_on(async {
            let first = line(1);
            let executor =
                Executor::open(layout(root), Isolation::SameUser, &Base::None, Some(&first)).await?;
            let bench = Bench { executor, owner: key(1), _folder: tempfile::tempdir().map_err(text)? };
            let body =
                format!(r#"{{"v":1,"id":"{}","command":"{command}","params":{params}}}"#, nonce.repeat(16));
            if !command.is_empty() {
                bench.done(&body, nonce).await.map_err(text)?;
            }
            bench.executor.close(false).await;
            Ok::<_, String>(())
        })?;
        who_may(layout(root))
    };
    let tell = |story: &mut Story<Vec<Fingerprint>>| {
        story.step(|root| call(root, "", "", ""));
        story.step(|root| call(root, "keys.add", &format!(r#"{{"line":"{}"}}"#, line(2)), "a"));
    };
    let prepare = |root: &Path| {
        prepare(root);
        // Made once, so that each life has the same.
        allod_store::write_atomic(&layout(root).record_key(), key(8).to_openssh().as_bytes(), 0o600).unwrap();
    };
    survives_samples(60, prepare, tell, whole).unwrap();
    survives_kills(25, prepare, tell, whole).unwrap();
}
