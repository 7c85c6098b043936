//! The campaign of named commands: round after round callers come by all three doors, and SIGKILL takes the gate's program,
//! the agent, the executor, a shim, or two of them, at a moment that a seed chooses. Afterwards whatever ran by its own
//! account is in the record with its end or an unknown one, nothing ran twice, and nothing is left of what was killed.
//! `ALLOD_ROUNDS` and `ALLOD_SEED` choose.

mod account;
mod calls;

use super::Named;
use crate::{
    campaign::{Dice, setting},
    processes::{descendants, eventually, signal},
};
use account::Account;
use calls::{Call, Door, Program, Told};
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

/// How much longer than a tenth of a second a run takes, in milliseconds; and within what time something is killed.
const WORK: u64 = 200;
const MOMENT: u64 = 350;
/// How often the whole chain is checked in a long campaign: it grows.
const VERIFIED_EVERY: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Gate,
    Agent,
    Executor,
    Shim,
}

use Victim::{Agent, Executor, Gate, Shim};

const VICTIMS: [&[Victim]; 9] = [
    &[Executor],
    &[Shim],
    &[Executor, Shim],
    &[Gate],
    &[Agent],
    &[Gate, Executor],
    &[Agent, Executor],
    &[Gate, Shim],
    &[Agent, Shim],
];

/// What came of a round.
#[derive(Debug, Default, Clone, Copy)]
struct Found {
    rounds: usize,
    /// Programs that were there to be killed.
    killed: usize,
    intents: usize,
    /// What began by its own account, and what came to its end.
    began: usize,
    ended: usize,
    /// Outcomes in the record.
    good: usize,
    bad: usize,
    unknown: usize,
    /// How long until a call was answered again, at most.
    back: Duration,
}

struct Campaign {
    named: Named,
    account: Account,
    dice: Dice,
    tokens: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x24_whatever_is_killed_every_run_is_accounted_for_none_ran_twice_and_nothing_is_left() {
    let (rounds, seed) = (setting("ALLOD_ROUNDS", 9), setting("ALLOD_SEED", 1));
    eprintln!("named commands: ALLOD_ROUNDS={rounds} ALLOD_SEED={seed}");
    let mut campaign = Campaign::begin(seed).await;
    let begin = Instant::now();
    let mut found: BTreeMap<&[Victim], Found> = BTreeMap::new();
    for round in 1..=rounds {
        // Each in turn to begin with, so that a short campaign is not all of one kind.
        let at = if round <= 9 { round - 1 } else { campaign.dice.below(9) };
        let victims = VICTIMS[usize::try_from(at).unwrap()];
        let one = campaign.round(round, victims).await;
        found.entry(victims).or_default().add(one);
        if round % VERIFIED_EVERY == 0 || round == rounds || rounds < VERIFIED_EVERY {
            campaign.account.verify(&campaign.named).await;
        }
    }
    eprintln!("{}", summary(&found, begin.elapsed()));
}

impl Found {
    fn add(&mut self, one: Self) {
        self.rounds += one.rounds;
        self.killed += one.killed;
        self.intents += one.intents;
        self.began += one.began;
        self.ended += one.ended;
        self.good += one.good;
        self.bad += one.bad;
        self.unknown += one.unknown;
        self.back = self.back.max(one.back);
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds: _, killed, intents, began, ended, good, bad, unknown, back } = self;
        write!(
            f,
            "{killed} killed, {intents} intents = {good} good, {bad} failed, {unknown} unknown; {began} began, \
             {ended} came to their end; answered again after {back:.0?} at most"
        )
    }
}

fn summary(found: &BTreeMap<&[Victim], Found>, took: Duration) -> String {
    let rounds: usize = found.values().map(|found| found.rounds).sum();
    let mut text = format!("named commands: {rounds} rounds in {:.0} s\n", took.as_secs_f64());
    for (victims, found) in found {
        writeln!(text, "  {victims:?}: {} rounds, {found}", found.rounds).unwrap();
    }
    text
}

impl Campaign {
    async fn begin(seed: u64) -> Self {
        let named = Named::new().await;
        let mut account = Account::new(&named);
        for (name, more) in [
            ("work", "concurrency = 8"),
            ("alone", "concurrency = 1"),
            ("ends", "concurrency = 8\non_disconnect = \"end\""),
        ] {
            let path = named.script(name, &account.script(name == "alone"));
            let marker = account.marker();
            let text = format!(
                "exec = [{path:?}, \"{{token}}\", \"{{ms}}\"]\ninterpreter = [{:?}]\nqueue = 64\nper_minute = 60000\n\
                 env = {{ CAMPAIGN = \"{marker}\" }}\n{more}\nparams.token = {{ pattern = \"[a-z0-9-]+\" }}\n\
                 params.ms = {{ integer = [100, 999] }}\n",
                super::real("/bin/sh")
            );
            named.define(name, &text).await;
        }
        account.begin(&named).await;
        Self { named, account, dice: Dice(seed), tokens: 0 }
    }

    fn call(&mut self, door: Door, name: &'static str) -> Call {
        self.tokens += 1;
        Call { token: format!("t-{}", self.tokens), ms: 100 + self.dice.below(WORK), door, name }
    }

    async fn round(&mut self, round: u64, victims: &[Victim]) -> Found {
        let signed = ["work", "alone", "ends"].map(|name| self.call(Door::Signed, name));
        let at_doors = [
            (Door::Gate, "work"),
            (Door::Gate, "ends"),
            (Door::Gate, "alone"),
            (Door::Local, "work"),
            (Door::Local, "ends"),
        ];
        let at_doors = at_doors.map(|(door, name)| self.call(door, name));
        let moment = Duration::from_millis(self.dice.below(MOMENT));
        let programs: Vec<Program> = at_doors.iter().map(|call| call.spawn(&self.named)).collect();
        let gates: Vec<u32> =
            programs.iter().filter(|program| program.door == Door::Gate).map(|program| program.pid).collect();
        let (world, dice) = (&self.named.world, &mut self.dice);
        let killing = async {
            tokio::time::sleep(moment).await;
            let killed = kill(world, victims, &gates, dice);
            (Instant::now(), killed)
        };
        let signed_calls = futures_util::future::join_all(signed.iter().map(|call| call.ask(&self.named)));
        let programs = futures_util::future::join_all(programs.into_iter().map(Program::end));
        let ((at, killed), told, codes) = tokio::join!(killing, signed_calls, programs);
        // The next one's turn comes, whatever became of the others.
        let next = self.call(Door::Signed, "alone");
        let last = next.ask(&self.named).await;
        let back = at.elapsed();
        assert!(
            matches!(&last, Told::Ended(end) if end.code == Some(0)),
            "round {round}: after {victims:?} the exclusive command is blocked: {last:?}"
        );
        let told = signed.iter().zip(told).chain([(&next, last)]).collect();
        let codes = at_doors.iter().zip(codes).collect();
        let what = format!("round {round}, {victims:?} after {moment:?}");
        let shims = usize::from(victims.contains(&Shim));
        let found = self.account.is_whole(&self.named, &what, shims, told, codes).await;
        let found = Found { rounds: 1, killed, back, ..found };
        eprintln!("{what}: {found}");
        found
    }
}

/// Those that hold a run, or where there is none those that wait for one.
fn shims(world: &crate::world::World) -> Vec<u32> {
    let launchers: BTreeSet<u32> = world.own_processes("launcher").into_iter().collect();
    let all = world.own_processes("shim");
    let holds = |shim: &u32| descendants(*shim).is_disjoint(&launchers);
    let busy: Vec<u32> = all.iter().copied().filter(holds).collect();
    if busy.is_empty() { all } else { busy }
}

/// Kills those of them that are there, and says how many were.
fn kill(world: &crate::world::World, victims: &[Victim], gates: &[u32], dice: &mut Dice) -> usize {
    let mut chosen = |pids: &[u32]| {
        let count = u64::try_from(pids.len()).unwrap();
        (count > 0).then(|| pids[usize::try_from(dice.below(count)).unwrap()])
    };
    let pids: Vec<u32> = victims
        .iter()
        .filter_map(|victim| match victim {
            Gate => {
                let alive: Vec<u32> =
                    gates.iter().copied().filter(|pid| crate::processes::is_alive(*pid)).collect();
                chosen(&alive)
            }
            Agent => Some(world.pid("agent")),
            Executor => Some(world.pid("executor")),
            Shim => chosen(&shims(world)),
        })
        .collect();
    pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
    pids.len()
}
