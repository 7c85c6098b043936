//! F3: what a signed command costs the agent, beside the two operations that it can't do without: one verification and one
//! signature by the same library.

use super::Row;
use crate::{
    bench::Bench,
    cpu,
    interleave::{Contender, Sample, interleave},
    report::{Better, Figure, Goal, OURS, Report},
    server::Server,
};
use allod_proto::messages::keys::KeysCan;
use allod_rpc::client::Client;
use anyhow::{Result, anyhow};
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _};
use std::{
    collections::BTreeSet,
    hint::black_box,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

pub(crate) const ROW: Row = Row {
    name: "f3",
    what: "signed commands a second and processor, ed25519, 8 warm connections",
    goal: ">= 70 % of what one verification and one signature allow",
    run,
};

const CONNECTIONS: usize = 8;
/// What one key may ask within a minute is bounded; a round stays below its share.
const COMMANDS: usize = 4_000;

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let server = Server::start(bench, "server")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let commands = bench.much(COMMANDS, 400);
    let mut clients: Vec<Client> = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(server.connect().await?);
        }
        Ok::<_, anyhow::Error>(clients)
    })?;
    let (agent, executor) =
        (BTreeSet::from([server.pid("agent")?]), BTreeSet::from([server.pid("executor")?]));
    let ours = Contender::new(OURS, || {
        let (agent_before, executor_before) = (cpu::used(&agent), cpu::used(&executor));
        let begun = Instant::now();
        clients = tokio::task::LocalSet::new()
            .block_on(&runtime, ask_all(std::mem::take(&mut clients), commands / CONNECTIONS))?;
        let took = begun.elapsed();
        let each = |used: Duration| used.as_secs_f64() * 1e6 / count(commands);
        Ok(Sample::from([
            ("cpu", each(cpu::used(&agent).saturating_sub(agent_before))),
            ("executor", each(cpu::used(&executor).saturating_sub(executor_before))),
            ("rate", count(commands) / took.as_secs_f64()),
        ]))
    });
    let bare = Contender::new("bare ed25519", || bare(bench.much(20_000, 500)));
    let samples = interleave(&bench.progress, report, "f3: commands", bench.rounds(9), vec![ours, bare])?;
    let cpu = samples.series("cpu");
    report.add(Figure::compare(
        "processor time of the agent",
        "µs/command",
        Better::Lower,
        &cpu,
        Some(Goal::Ratio(0.7)),
    ));
    let executor = samples.series("executor");
    report.add(Figure::compare(
        "processor time of the executor",
        "µs/command",
        Better::Lower,
        &executor,
        None,
    ));
    let rate = samples.series("rate");
    report.add(Figure::compare(
        "through the door, clients on the same processors",
        "commands/s",
        Better::Higher,
        &rate,
        None,
    ));
    report.note("The command is `keys.can`. A read is verified once, by the agent, and its reply signed once; the executor writes it to the record with others.");
    Ok(())
}

async fn ask_all(clients: Vec<Client>, each: usize) -> Result<Vec<Client>> {
    let mut asking = JoinSet::new();
    for mut client in clients {
        asking.spawn_local(async move {
            for _ in 0..each {
                client.call(KeysCan { fingerprint: None }).await?;
            }
            Ok::<_, anyhow::Error>(client)
        });
    }
    asking.join_all().await.into_iter().collect()
}

/// A message of the size of what a request's signature covers.
fn bare(times: usize) -> Result<Sample> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    let message = [b'x'; 120];
    let signature = key.sign(&message);
    let before = cpu::used_here();
    for _ in 0..times {
        public.verify(black_box(&message), black_box(&signature)).map_err(|error| anyhow!("{error}"))?;
        black_box(key.sign(black_box(&message)));
    }
    let used = cpu::used_here().saturating_sub(before);
    Ok(Sample::from([("cpu", used.as_secs_f64() * 1e6 / count(times))]))
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
