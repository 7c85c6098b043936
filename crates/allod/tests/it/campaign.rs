//! The crash campaign: round after round a deploy under load, and SIGKILL for one program, or all of them, at a moment
//! that a seed chooses. Afterwards the server is as before the deploy or as after it, and knows whatever it acknowledged.
//! `ALLOD_ROUNDS` and `ALLOD_SEED` choose; each round says what it did and what it took.

use crate::{
    app::App,
    cli::{Output, ended},
    load::{Load, Seen},
    processes::{PATIENCE, eventually, signal},
    visitor::get,
    world::World,
};
use allod_proto::{CommandId, Fingerprint, messages::keys::KeysAdd};
use allod_rpc::client::{Client, Forgetful};
use allod_signing::{KeySigner, Signer as _};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// How long visitors may be without an answer. It is 3 s on a machine that has nothing else to do; the true figures are
/// printed.
const SERVING_AGAIN: Duration = Duration::from_secs(20);
/// Copies of the app.
const COPIES: usize = 2;
const PROGRAMS: [&str; 4] = ["executor", "agent", "proxy", "hub"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Agent,
    Executor,
    Proxy,
    Hub,
    Shim,
    /// The four programs at once.
    Programs,
    /// `allod up` alone; what it started ends after it.
    Supervisor,
    /// `allod up` and the four programs at once; the app's processes stay.
    Server,
    /// Every process there is, as when the machine dies.
    Machine,
}

const VICTIMS: [Victim; 9] = [
    Victim::Agent,
    Victim::Executor,
    Victim::Proxy,
    Victim::Machine,
    Victim::Programs,
    Victim::Shim,
    Victim::Server,
    Victim::Hub,
    Victim::Supervisor,
];

impl Victim {
    /// Whether visitors can't notice its death.
    fn is_unseen(self) -> bool {
        matches!(self, Self::Agent | Self::Executor | Self::Hub)
    }

    /// Whether `allod up` dies and must be started again.
    fn is_up(self) -> bool {
        matches!(self, Self::Supervisor | Self::Server | Self::Machine)
    }
}

/// SplitMix64: the same seed, the same choices.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// What came of a round.
struct Found {
    victim: Victim,
    /// From the kill to the first answer to a request that was sent after it.
    served_after: Duration,
    /// From the kill to the last failure.
    last_failure: Duration,
    failed: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_at_whatever_moment_nothing_acknowledged_is_lost_and_nothing_is_half() {
    let (rounds, seed) = (setting("ALLOD_ROUNDS", 4), setting("ALLOD_SEED", 1));
    eprintln!("campaign: ALLOD_ROUNDS={rounds} ALLOD_SEED={seed}");
    let mut campaign = Campaign::begin(seed).await;
    let begin = Instant::now();
    let mut found = Vec::new();
    for round in 1..=rounds {
        found.push(campaign.round(round).await);
    }
    eprintln!("{}", summary(&found, begin.elapsed()));
    assert_eq!(campaign.world.stop(), Some(0));
    for word in ["shim", "example-app", "executor", "agent", "proxy", "hub"] {
        eventually(&format!("no {word} is left"), async || {
            campaign.world.own_processes(word).is_empty().then_some(())
        })
        .await;
    }
}

fn summary(found: &[Found], took: Duration) -> String {
    let mut of: BTreeMap<Victim, Vec<&Found>> = BTreeMap::new();
    found.iter().for_each(|one| of.entry(one.victim).or_default().push(one));
    let mut text = format!("campaign: {} rounds in {:.0} s\n", found.len(), took.as_secs_f64());
    for (victim, mut all) in of {
        all.sort_by_key(|one| one.served_after);
        let (middle, most) = (all[all.len() / 2].served_after, all[all.len() - 1].served_after);
        let last = all.iter().map(|one| one.last_failure).max().unwrap_or_default();
        let failed: usize = all.iter().map(|one| one.failed).sum();
        let count = all.len();
        writeln!(
            text,
            "  {victim:?}: {count} rounds, served again after {middle:.0?} (median) {most:.0?} (most), \
             {failed} requests failed, the last {last:.0?} after the kill"
        )
        .unwrap();
    }
    text
}

struct Campaign {
    world: World,
    app: App,
    dice: Dice,
    /// The version that serves for certain.
    version: String,
    number: u64,
}

impl Campaign {
    async fn begin(seed: u64) -> Self {
        let world = World::up().await;
        let app = world.app("blog").with(|options| {
            options.instances = u32::try_from(COPIES).unwrap();
            options.arguments = ["--start-delay", "200"].map(str::to_owned).into();
            options.drain = "2s";
        });
        let campaign = Self { world, app, dice: Dice(seed), version: "v0".to_owned(), number: 0 };
        campaign.write("v0");
        campaign.app.run(&campaign.world, &["deploy"]).await.ok();
        campaign
    }

    /// The app as this version, with half a megabyte that is this version's own.
    fn write(&self, version: &str) {
        self.app.write(version);
        std::fs::write(self.app.folder.join("data.bin"), data_of(version)).unwrap();
    }

    async fn round(&mut self, round: u64) -> Found {
        let first = usize::try_from(round - 1).unwrap() % VICTIMS.len();
        // Each in turn to begin with, so that a short campaign is not all of one kind.
        let victim = match round {
            1..=9 => VICTIMS[first],
            _ => VICTIMS[usize::try_from(self.dice.below(9)).unwrap()],
        };
        let moment = Moment { line: self.dice.below(18), more: Duration::from_millis(self.dice.below(150)) };
        self.number += 1;
        let next = format!("v{}", self.number);
        self.write(&next);
        let load = Load::of(self.world.http, "/", 3, Duration::from_millis(15));
        let acknowledged = Key::fresh(self.number * 2);
        let on_the_way = Key::fresh(self.number * 2 + 1);
        acknowledged.add(&self.world).await;
        let mut deploy = self.world.cli.command(&["deploy", "--yes"]);
        let mut deploy = deploy.current_dir(&self.app.folder).spawn().unwrap();
        let told = moment.wait(deploy.stderr.take().unwrap()).await;
        // Some of the time a change is on its way when it happens.
        let adding = on_the_way.add(&self.world);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(self.number % 7 * 3)).await;
            kill(&mut self.world, victim, &mut self.dice);
            let at = load.elapsed();
            if victim.is_up() {
                self.world.up_again().await;
            }
            at
        };
        let (at, ()) = tokio::join!(killing, adding);
        let served = eventually(&format!("visitors are served after {victim:?} died"), async || {
            load.first_answer_after(at)
        })
        .await;
        let told_later = tokio::time::timeout(PATIENCE * 3, deploy.wait_with_output()).await;
        let deployed = ended(told_later.expect("the deploy does not end").unwrap());
        eprintln!(
            "round {round}: {victim:?} after {told:?} + {:?}: deploy ended with {}, served after {:.0?}",
            moment.more,
            deployed.code,
            served.saturating_sub(at)
        );
        self.is_whole(&next, &deployed).await;
        for key in [&acknowledged, &on_the_way] {
            key.is_known_once(&self.world).await;
        }
        self.world.allod(&["keys", "revoke", acknowledged.fingerprint.as_str()]).await.ok();
        self.world.allod(&["keys", "revoke", on_the_way.fingerprint.as_str()]).await.ok();
        let after: Vec<Seen> = load.stop().await.failed;
        if victim.is_unseen() {
            assert!(after.is_empty(), "{victim:?} died and visitors noticed: {:?}", after.first());
        }
        let last_failure = after
            .iter()
            .filter(|seen| seen.done > at)
            .map(|seen| seen.done.saturating_sub(at))
            .max()
            .unwrap_or_default();
        assert!(served - at < SERVING_AGAIN, "{victim:?}: served again only after {:?}", served - at);
        assert!(last_failure < SERVING_AGAIN, "{victim:?}: still failing after {last_failure:?}");
        Found { victim, served_after: served - at, last_failure, failed: after.len() }
    }

    /// The server is as before the deploy or as after it; after it, if the deploy was said to have ended well.
    async fn is_whole(&mut self, next: &str, deployed: &Output) {
        let world = &self.world;
        world.is_idle().await;
        let state = world.operations().await[0]["state"].as_str().unwrap().to_owned();
        assert!(["done", "failed", "cancelled"].contains(&state.as_str()), "{state}");
        let unit = eventually("all copies are well", async || {
            let status = self.app.status(world).await;
            let unit = status["units"][0].clone();
            let copies = unit["instances"].as_array()?.clone();
            let well = copies
                .iter()
                .all(|copy| copy["state"] == "healthy" && copy["release"] == status["release"]["id"]);
            (well && copies.len() == COPIES).then_some(unit)
        })
        .await;
        let mut versions = BTreeSet::new();
        for _ in 0..8 {
            let answer = get(world.http, "a", "/").await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            versions.insert(answer.header("x-version").unwrap().to_owned());
        }
        assert_eq!(versions.len(), 1, "half of one version and half of another: {versions:?}");
        let serves = versions.pop_first().unwrap();
        assert!(serves == self.version || serves == next, "{serves} after {} and {next}", self.version);
        if deployed.code == 0 {
            assert_eq!(serves, next, "the deploy was said to have ended well");
        } else {
            assert!(matches!(deployed.code, 1 | 6 | 7 | 8), "{deployed:?}");
        }
        self.releases_are_whole(&serves);
        for word in ["shim", "example-app"] {
            eventually(&format!("{COPIES} of {word}: {unit}"), async || {
                (world.own_processes(word).len() == COPIES).then_some(())
            })
            .await;
        }
        for program in PROGRAMS {
            assert_eq!(world.own_processes(program).len(), 1, "{program}");
        }
        let verified = world.allod(&["audit", "verify"]).await;
        assert_eq!(verified.code, 0, "{verified:?}");
        self.version = serves;
    }

    /// Every folder of a release is one that was deployed, byte for byte, and what serves is among them.
    fn releases_are_whole(&self, serves: &str) {
        let folder = self.world.state.join("releases/blog/production");
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let files = path.join("files");
            let page = std::fs::read_to_string(files.join("page.txt"))
                .unwrap_or_else(|error| panic!("half a release in {}: {error}", path.display()));
            let data = std::fs::read(files.join("data.bin")).unwrap();
            assert!(data == data_of(page.trim()), "{} is not {page}", path.display());
            assert!(files.join("run.sh").is_file());
            found.insert(page.trim().to_owned());
        }
        assert!(found.contains(serves), "{serves} is not among {found:?}");
    }
}

/// Bytes that only this version has.
fn data_of(version: &str) -> Vec<u8> {
    let seed = version.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut dice = Dice(seed);
    (0..65_536).flat_map(|_| dice.next().to_le_bytes()).collect()
}

/// When to kill: after so many lines that the deploy has said, and a little later.
struct Moment {
    line: u64,
    more: Duration,
}

impl Moment {
    /// Waits for it, and says after which line it is. The rest is read on, so that the deploy never waits for a reader.
    async fn wait(&self, stderr: tokio::process::ChildStderr) -> String {
        let mut lines = BufReader::new(stderr).lines();
        let mut last = "nothing".to_owned();
        for _ in 0..self.line {
            match lines.next_line().await {
                Ok(Some(line)) => last = line,
                _ => break,
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        tokio::time::sleep(self.more).await;
        last
    }
}

fn kill(world: &mut World, victim: Victim, dice: &mut Dice) {
    let one = match victim {
        Victim::Agent => "agent",
        Victim::Executor => "executor",
        Victim::Proxy => "proxy",
        Victim::Hub => "hub",
        Victim::Programs => {
            for program in PROGRAMS {
                world.kill(program);
            }
            return;
        }
        Victim::Shim => {
            let shims = world.own_processes("shim");
            if !shims.is_empty() {
                let chosen = usize::try_from(dice.below(u64::try_from(shims.len()).unwrap())).unwrap();
                signal(shims[chosen], Signal::KILL);
            }
            return;
        }
        Victim::Supervisor | Victim::Server | Victim::Machine => {
            let mut also = BTreeSet::new();
            if victim != Victim::Supervisor {
                also.extend(PROGRAMS.iter().map(|program| world.pid(program)));
            }
            if victim == Victim::Machine {
                also.extend(world.own_processes("shim"));
                also.extend(world.own_processes("example-app"));
            }
            return world.kill_up(&also);
        }
    };
    world.kill(one);
}

/// Somebody's key that is enrolled under an id, as often as it takes until the server says that it is.
struct Key {
    id: CommandId,
    line: String,
    fingerprint: Fingerprint,
}

impl Key {
    fn fresh(number: u64) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        seed[8] = 0xca;
        let signer = KeySigner::generate(seed, &format!("key-{number}"));
        Self {
            id: CommandId::new(format!("campaign-adds-key-number-{number}")).unwrap(),
            line: format!("role=\"viewer\" {}", signer.public_openssh()),
            fingerprint: signer.fingerprint(),
        }
    }

    /// Retries under the same id until it is acknowledged.
    fn add(&self, world: &World) -> impl Future<Output = ()> + use<> {
        let peer = world.peer();
        let (owner, id, line) = (Arc::new(world.owner()), self.id.clone(), self.line.clone());
        async move {
            eventually("a key is added", async || {
                let client = Client::connect(peer.clone(), owner.clone(), Box::new(Forgetful::default()));
                let mut client = client.await.ok()?;
                client.call_with_id(&id, KeysAdd { line: line.clone() }).await.ok()
            })
            .await;
        }
    }

    /// It is enrolled, and the record has one good end of one request; asked again, nothing is done again.
    async fn is_known_once(&self, world: &World) {
        let listed = world.allod(&["keys", "list"]).await.ok().stdout;
        assert_eq!(listed.matches(self.fingerprint.as_str()).count(), 1, "{listed}");
        let before = self.ends(world).await;
        assert_eq!(before.iter().filter(|end| *end == "ok").count(), 1, "{before:?} of {}", self.id);
        self.add(world).await;
        assert_eq!(self.ends(world).await, before, "{} was done again", self.id);
    }

    /// How the requests with its id ended, by the record.
    async fn ends(&self, world: &World) -> Vec<String> {
        let shown = world.allod(&["audit", "show", "--last", "400"]).await.ok().json();
        let lines: Vec<Value> =
            shown["lines"].as_array().unwrap().iter().map(|line| parse(line.as_str().unwrap())).collect();
        let intents =
            lines.iter().filter(|line| line["entry"] == "intent" && line["request"] == self.id.as_str());
        let end = |intent: &Value| {
            let outcome =
                lines.iter().find(|line| line["entry"] == "outcome" && line["intent"] == intent["seq"]);
            outcome.map_or("none", |outcome| outcome["result"].as_str().unwrap()).to_owned()
        };
        intents.map(end).collect()
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}
