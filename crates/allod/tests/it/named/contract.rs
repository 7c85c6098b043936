//! One contract for three doors (D18): who asks and what they ask decide, and not where they came in. A caller's key asks by
//! the signed door and through the gate, the owner by the signed door and on the machine: the same decision, the same
//! reason, the same exit code, and the same lines of the record but for who and where.

mod answer;

use super::{Named, exec, real};
use crate::processes::{eventually, signal};
use allod_proto::FaultCode;
use answer::{Asked, Way};
use rustix::process::Signal;

/// A request, with exit code and fault for a caller, and for the owner.
struct Row {
    words: &'static str,
    caller: (i32, Option<FaultCode>),
    owner: (i32, Option<FaultCode>),
}

const fn row(words: &'static str, exit: i32, code: Option<FaultCode>) -> Row {
    Row { words, caller: (exit, code), owner: (exit, code) }
}

use FaultCode::{
    Busy, Cancelled, Confirmation, Invalid, NotAllowed, NotFound, TooMany, UnknownOutcome, Untrusted,
};

const ROWS: [Row; 17] = [
    row("greet whom=ana code=0", 0, None),
    row("greet code=3 whom=bob", 3, Some(Invalid)),
    row("greet_ana code=4", 4, Some(Invalid)),
    Row { words: "theirs", caller: (4, Some(NotAllowed)), owner: (0, None) },
    row("no-such-thing", 4, Some(NotAllowed)),
    row("no-such-thing whom=ana", 4, Some(NotAllowed)),
    row("greet whom=eve code=0", 2, Some(Invalid)),
    row("greet whom=ana code=10", 2, Some(Invalid)),
    row("greet whom=ana", 2, Some(Invalid)),
    row("greet whom=ana code=0 more=1", 2, Some(Invalid)),
    row("greet_ana whom=ana code=0", 2, Some(Invalid)),
    row("danger", 9, Some(Confirmation)),
    row("open", 10, Some(Untrusted)),
    row("missing", 5, Some(NotFound)),
    row("falls", 128 + 9, Some(Invalid)),
    row("sleeps", 124, Some(Invalid)),
    row("as-nobody-known", 5, Some(NotFound)),
];

/// What takes more than a request: see the second test.
const STATES: [FaultCode; 5] = [TooMany, Busy, Cancelled, UnknownOutcome, NotAllowed];

/// Whether a request for a run is answered with this by all doors. What is not is said why.
fn is_of_a_run(code: FaultCode) -> bool {
    match code {
        Invalid | NotAllowed | NotFound | Busy | TooMany | Cancelled | Confirmation | Untrusted
        | UnknownOutcome => true,
        // `d7_on_a_full_disk_no_door_runs_anything` has these.
        FaultCode::DiskFull | FaultCode::RecordUnavailable => false,
        // A defect.
        FaultCode::Internal | FaultCode::Unknown => false,
        // Before it is a request: signatures, sizes, versions.
        FaultCode::Malformed
        | FaultCode::TooLarge
        | FaultCode::Version
        | FaultCode::Refused
        | FaultCode::StaleEpoch
        | FaultCode::Clock
        | FaultCode::Replay => false,
        // Of ids, which only the signed door has.
        FaultCode::Conflict => false,
        // Nobody was there to decide.
        FaultCode::Unreachable | FaultCode::Timeout => false,
        // Of deploys.
        FaultCode::Unhealthy => false,
    }
}

#[test]
fn every_fault_of_a_run_is_in_the_contract() {
    let told = |code: FaultCode| {
        let of = |(_, found): &(i32, Option<FaultCode>)| *found == Some(code);
        ROWS.iter().any(|row| of(&row.caller) || of(&row.owner)) || STATES.contains(&code)
    };
    for code in FaultCode::ALL {
        assert_eq!(told(*code), is_of_a_run(*code), "{code}");
    }
}

/// A server with what the contract asks for.
async fn server() -> Named {
    let named = Named::new().await;
    let scratch = named.scratch();
    std::fs::write(named.world.state.join("commands.d/run-as"), "as-nobody-known nobody-known-here\n")
        .unwrap();
    let path = named.script("greet", "exit $1");
    let text = format!(
        "exec = [{path:?}, \"{{code}}\", \"--\", \"{{whom}}\"]\ninterpreter = [{:?}]\nslot = \"whom\"\n\
         params.whom = {{ choice = [\"ana\", \"bob\"] }}\nparams.code = {{ integer = [0, 9] }}\n",
        real("/bin/sh")
    );
    named.define("greet", &text).await;
    let truth = exec("/bin/true", &[]);
    std::fs::write(
        named.world.state.join("commands.d/theirs.toml"),
        format!("summary = \"not the builder's\"\n{truth}"),
    )
    .unwrap();
    named.is_in_force("theirs").await;
    named.define("danger", &format!("{truth}approval = true")).await;
    let program = scratch.join("program");
    std::fs::copy(real("/bin/true"), &program).unwrap();
    named.define("open", &format!("exec = [{program:?}]")).await;
    named.define("missing", "exec = [\"/nonexistent/program\"]").await;
    named.define_script("falls", "kill -9 $$", "").await;
    named.define("sleeps", &format!("{}timeout = \"1s\"", exec("/bin/sleep", &["1000"]))).await;
    named.define("as-nobody-known", &format!("{truth}run_as = \"nobody-known-here\"")).await;
    named
}

/// Asks by both ways of one asker, and holds one against the other.
async fn same(named: &Named, ways: [Way; 2], words: &str, expected: (i32, Option<FaultCode>)) {
    let [one, other] = ways;
    let (first, second) = (Asked::new(named, one, words).await, Asked::new(named, other, words).await);
    for asked in [&first, &second] {
        assert_eq!((asked.exit, asked.code()), expected, "{words}: {asked:?}");
    }
    first.is_the_same_as(&second, words);
}

const CALLER: [Way; 2] = [Way::Signed, Way::Gate];
const OWNER: [Way; 2] = [Way::SignedByOwner, Way::OnTheMachine];

#[tokio::test]
async fn d18_a_request_has_the_same_answer_and_the_same_lines_of_the_record_by_whichever_door_it_came() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("d18: SKIPPED, the local door's owner and run_as are root's");
        return;
    }
    let named = server().await;
    for Row { words, caller, owner } in &ROWS {
        same(&named, CALLER, words, *caller).await;
        same(&named, OWNER, words, *owner).await;
    }
}

#[tokio::test]
async fn d18_limits_stops_cancelling_and_killing_are_the_same_by_whichever_door() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("d18: SKIPPED, the local door's owner is root");
        return;
    }
    let named = Named::new().await;
    let truth = exec("/bin/true", &[]);
    named.define("quick", &truth).await;
    named.define("rare", &format!("{truth}per_minute = 1")).await;
    let long = exec("/bin/sleep", &["1000"]);
    named.define("alone", &format!("{long}timeout = \"10m\"\nqueue = 0")).await;
    named.define("waits", &format!("{long}timeout = \"10m\"\nqueue = 4")).await;
    named.define("killed", &format!("{long}timeout = \"10m\"\nconcurrency = 1")).await;

    // One key's calls are counted together, whichever door they came by.
    for way in [Way::Signed, Way::SignedByOwner, Way::OnTheMachine] {
        Asked::new(&named, way, "rare").await;
    }
    for ways in [CALLER, OWNER] {
        same(&named, ways, "rare", (6, Some(TooMany))).await;
    }
    named.world.allod(&["run", "alone", "--detach"]).await.ok();
    named.world.allod(&["run", "waits", "--detach"]).await.ok();
    eventually("both run", async || (running(&named).await.len() == 2).then_some(())).await;
    for ways in [CALLER, OWNER] {
        same(&named, ways, "alone", (6, Some(Busy))).await;
    }
    let cancels = |state: &'static str| {
        let named = &named;
        async move {
            let run = eventually("it is there", async || {
                let runs = runs(named).await;
                let newest = runs.first()?.clone();
                (newest["state"].get(state).is_some()).then_some(newest)
            })
            .await;
            named.world.allod(&["runs", "cancel", run["id"].as_str().unwrap()]).await.ok();
        }
    };
    for [one, other] in [CALLER, OWNER] {
        let mut answers = Vec::new();
        for way in [one, other] {
            answers.push(tokio::join!(Asked::new(&named, way, "waits"), cancels("waiting")).0);
        }
        answers.iter().for_each(|asked| assert_eq!((asked.exit, asked.code()), (6, Some(Cancelled))));
        answers[0].is_the_same_as(&answers[1], "waits");
        let mut answers = Vec::new();
        for way in [one, other] {
            answers.push(tokio::join!(Asked::new(&named, way, "killed"), cancels("running")).0);
        }
        answers.iter().for_each(|asked| assert_eq!(asked.exit, 1, "{asked:?}"));
        answers[0].is_the_same_as(&answers[1], "cancelled");
    }
    for run in running(&named).await {
        named.world.allod(&["runs", "cancel", &run]).await.ok();
    }
    eventually("nothing runs", async || running(&named).await.is_empty().then_some(())).await;
    for [one, other] in [CALLER, OWNER] {
        let mut answers = Vec::new();
        for way in [one, other] {
            let kills = async {
                eventually("it runs", async || (running(&named).await.len() == 1).then_some(())).await;
                named.world.own_processes("shim").into_iter().for_each(|shim| signal(shim, Signal::KILL));
            };
            answers.push(tokio::join!(Asked::new(&named, way, "killed"), kills).0);
        }
        answers.iter().for_each(|asked| assert_eq!((asked.exit, asked.code()), (13, Some(UnknownOutcome))));
        answers[0].is_the_same_as(&answers[1], "killed");
    }
    // A registry that is broken is what it was before.
    std::fs::write(named.world.state.join("commands.d/broken.toml"), "exec = ").unwrap();
    eventually("the broken file is told", async || {
        named.world.allod(&["commands", "list"]).await.ok().stdout.contains("broken.toml:1").then_some(())
    })
    .await;
    for ways in [CALLER, OWNER] {
        same(&named, ways, "quick", (0, None)).await;
        same(&named, ways, "broken", (4, Some(NotAllowed))).await;
    }
    named.world.allod(&["gate", "panic"]).await.ok();
    same(&named, CALLER, "quick", (4, Some(NotAllowed))).await;
    same(&named, OWNER, "quick", (0, None)).await;
}

async fn runs(named: &Named) -> Vec<serde_json::Value> {
    let listed = named.world.allod(&["runs", "list"]).await.ok().json();
    listed["servers"][0]["runs"].as_array().unwrap().clone()
}

/// The ids of runs that began and did not end.
async fn running(named: &Named) -> Vec<String> {
    let runs = runs(named).await;
    let runs = runs.iter().filter(|run| run["state"].get("running").is_some());
    runs.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}
