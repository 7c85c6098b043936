//! F4: a named command through sshd and the gate, beside a bare login that runs the same program; and over the signed door,
//! beside the program itself. Each call has its intent and its outcome on the disk before it is answered.

use super::{Row, f1::milliseconds};
use crate::{
    bench::{Bench, write},
    interleave::{Contender, Sample, interleave, spread},
    process::{command, output, run_short},
    report::{Better, Figure, Goal, OURS, Report},
    server::Server,
    sshd::Sshd,
};
use allod_proto::messages::named::CommandRun;
use anyhow::{Context as _, Result, bail};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub(crate) const ROW: Row = Row {
    name: "f4",
    what: "a named command through the ssh gate, and over the signed door",
    goal: "<= 20 ms more than bare ssh with the same program; <= 5 ms more than the program over the signed door",
    run,
};

/// What is run.
const PROGRAM: &str = "/usr/bin/true";
/// How long after one call over the signed door the next one comes: people and timers don't call in a loop.
const APART: Duration = Duration::from_millis(50);
/// How many callers at once.
const AT_ONCE: usize = 8;

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let server = Server::start(bench, "server")?;
    let forced = format!("{} gate --run {}", server.program().display(), server.place("run")?.display());
    let sshd = Sshd::start_with(bench, report, Some(&forced))?;
    prepare(&server, &sshd)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        clients.push(runtime.block_on(server.connect())?);
    }
    let (logins, calls) = (bench.much(20, 3), bench.much(100, 10));
    let ours = Contender::new(OURS, || {
        let gate = median(logins, || run_short("ssh", sshd.command("gate", &["noop"])))?;
        let ssh = median(logins, || run_short("ssh", sshd.command("cold", &[PROGRAM])))?;
        let client = clients.first_mut().context("no client")?;
        let mut call = |pause: Duration| {
            crate::stop::pause(pause)?;
            let begun = Instant::now();
            let reply = runtime.block_on(client.call(ask()))?;
            if reply.events.len() < 2 {
                bail!("the run did not end within its reply");
            }
            Ok(begun.elapsed())
        };
        let door = median(calls, || call(APART))?;
        let at_once_again = median(calls, || call(Duration::ZERO))?;
        let bare = median(calls, || run_short("true", command(PROGRAM)))?;
        let begun = Instant::now();
        let at_once = clients.iter_mut().map(|client| async {
            for _ in 0..calls / 4 {
                client.call(ask()).await?;
            }
            anyhow::Ok(())
        });
        runtime.block_on(futures_util::future::try_join_all(at_once))?;
        let rate = f64::from(calls / 4) * 8.0 / begun.elapsed().as_secs_f64();
        Ok(Sample::from([
            ("gate", gate - ssh),
            ("door", door - bare),
            ("again", at_once_again - bare),
            ("ssh", ssh),
            ("call", door),
            ("rate", rate),
        ]))
    });
    let samples = interleave(&bench.progress, report, "f4: named commands", bench.rounds(9), vec![ours])?;
    for (metric, name, unit, better, goal) in [
        ("gate", "through the gate, beyond bare ssh", "ms", Better::Lower, Some(Goal::AtMost(20.0))),
        ("door", "over the signed door, beyond the program", "ms", Better::Lower, Some(Goal::AtMost(5.0))),
        ("again", "the same, each at once after the one before", "ms", Better::Lower, None),
        ("ssh", "bare ssh", "ms", Better::Lower, None),
        ("call", "over the signed door", "ms", Better::Lower, None),
        ("rate", "8 callers at once", "runs/s", Better::Higher, None),
    ] {
        report.add(Figure::compare(name, unit, better, &samples.series(metric), goal));
    }
    report.note("Each run has two lines in the record, each synced before what follows it; its program is copied to sealed memory and hashed.");
    Ok(())
}

fn ask() -> CommandRun {
    CommandRun { name: "noop".to_owned(), params: BTreeMap::new(), stdin: None, detach: false }
}

/// One command, and one key that may run it.
fn prepare(server: &Server, sshd: &Sshd) -> Result<()> {
    let mut adding = server.allod(&["keys", "add"]);
    adding.arg(&sshd.gate_key).args(["--role", "caller"]);
    output("allod keys add", adding)?;
    let text = format!(
        "summary = \"Nothing\"\nexec = [\"{PROGRAM}\"]\ncallers = [\"gate\"]\nconcurrency = 8\nper_minute = 60000\n"
    );
    write(&server.place("state")?.join("commands.d/noop.toml"), &text)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if run_short("ssh", sshd.command("gate", &["noop"])).is_ok() {
            return Ok(());
        }
        crate::stop::pause(crate::stop::TICK)?;
    }
    bail!("the gate does not run the command")
}

fn median(count: u32, mut turn: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let times: Result<Vec<f64>> = (0..count).map(|_| turn().map(milliseconds)).collect();
    Ok(spread(&times?).context("no values")?.median)
}
