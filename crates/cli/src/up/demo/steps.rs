//! The steps: each does something as a person or an attacker would, looks at what came of it, and fails if it is not what
//! was promised.

use super::{Found, Stage, broken, load::Load, load::Visits, raw};
use crate::{
    example::{ExampleOptions, write_example},
    failure::Failure,
    up::{
        Program,
        local_server::{NAME, Ran, expect_success},
    },
};
use allod_proto::{
    Command, CommandId, Digest, FaultCode, Nonce, Request, command::ReplyBody, headers::RPC_PATH,
    messages::server::ServerStatus,
};
use allod_rpc::client;
use allod_signing::{KeySigner, RequestFields, Route, sign_request};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

const BACK_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn programs(stage: &Stage<'_>) -> Result<Found, Failure> {
    let pids = stage.pids.borrow().clone();
    let words: Vec<String> =
        pids.iter().map(|(program, pid)| format!("{program} is process {pid}")).collect();
    if pids.len() != stage.programs || pids.values().collect::<BTreeSet<_>>().len() != pids.len() {
        return Err(broken(format!("not all of them run: {}", words.join(", "))));
    }
    let fields: serde_json::Map<_, _> =
        pids.iter().map(|(program, pid)| (program.word().to_owned(), Value::from(*pid))).collect();
    Ok(Found::new(words.join(", ")).with("pids", fields))
}

pub(super) async fn pinned(stage: &Stage<'_>) -> Result<Found, Failure> {
    let ran = stage.client.run(["servers", "status"]).await?;
    expect_success(&ran, "servers status")?;
    Ok(Found::new(format!("{NAME} answers as {}", stage.identity)).with("identity", stage.identity.as_str()))
}

pub(super) async fn unsigned(stage: &Stage<'_>) -> Result<Found, Failure> {
    let body = status_request()?;
    let answer = raw::post(stage.reach, RPC_PATH, &[], &body).await;
    let answer = answer.map_err(|error| broken(format!("no answer: {error}")))?;
    let code = fault_code(&answer.body);
    if answer.status != 401 || code != Some(FaultCode::Refused) {
        return Err(broken(format!("answered with {} and {code:?}", answer.status)));
    }
    Ok(Found::new("answered with 401 refused, and no word about why").with("status", answer.status))
}

pub(super) async fn replayed(stage: &Stage<'_>) -> Result<Found, Failure> {
    let (headers, body) = signed_status(stage).await?;
    let send = async || {
        let answer = raw::post(stage.reach, RPC_PATH, &headers, &body).await;
        answer.map_err(|error| broken(format!("no answer: {error}")))
    };
    let (first, second) = (send().await?, send().await?);
    let code = fault_code(&second.body);
    if first.status != 200 || second.status != 401 || code != Some(FaultCode::Replay) {
        let message = format!("answered with {}, the copy with {} and {code:?}", first.status, second.status);
        return Err(broken(message));
    }
    Ok(Found::new("the same bytes again: 401 replay")
        .with("first", first.status)
        .with("second", second.status))
}

/// A signed `server.status`, made here byte by byte: nothing of the client's care is in the way.
async fn signed_status(stage: &Stage<'_>) -> Result<(Vec<(&'static str, String)>, String), Failure> {
    let hello = client::hello_over(&*stage.reach.dialer, stage.reach.management).await?;
    let text = std::fs::read_to_string(&stage.client.key).map_err(|error| broken(error.to_string()))?;
    let key = KeySigner::from_openssh(&text, None).map_err(|error| broken(error.to_string()))?;
    let body = status_request()?;
    let nonce = Nonce::new(random_hex()?).map_err(|error| broken(error.to_string()))?;
    let fields = RequestFields {
        audience: stage.identity,
        epoch: &hello.epoch,
        route: Route::new("POST", RPC_PATH).map_err(|error| broken(error.to_string()))?,
        timestamp: stage.session.now(),
        nonce: &nonce,
        body: &Digest::of(&body),
    };
    let head = sign_request(&key, &fields).map_err(|error| broken(error.to_string()))?;
    Ok((head.headers(), body))
}

fn status_request() -> Result<String, Failure> {
    let id = CommandId::new(random_hex()?).map_err(|error| broken(error.to_string()))?;
    let request = Request { v: allod_proto::VERSION, id, command: Command::ServerStatus(ServerStatus {}) };
    String::from_utf8(request.to_body()).map_err(|error| broken(error.to_string()))
}

fn random_hex() -> Result<String, Failure> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| broken("no random numbers"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fault_code(body: &str) -> Option<FaultCode> {
    serde_json::from_str::<ReplyBody>(body).ok()?.fault.map(|fault| fault.code)
}

async fn deploy(stage: &Stage<'_>, version: &str, options: &ExampleOptions) -> Result<Ran, Failure> {
    let folder = stage.app();
    let options = ExampleOptions { servers: vec![NAME.to_owned()], ..options.clone() };
    write_example(&folder, version, &options).map_err(|error| broken(format!("the example app: {error}")))?;
    stage.client.run_in(&folder, ["deploy"]).await
}

async fn served_version(stage: &Stage<'_>) -> Result<String, Failure> {
    let answer = raw::get(stage.http, "/").await.map_err(|error| broken(format!("no answer: {error}")))?;
    match (answer.status, answer.header("x-version")) {
        (200, Some(version)) => Ok(version.to_owned()),
        (status, _) => Err(broken(format!("visitors get status {status}"))),
    }
}

async fn expect_version(stage: &Stage<'_>, expected: &str) -> Result<(), Failure> {
    let served = served_version(stage).await?;
    if served == expected { Ok(()) } else { Err(broken(format!("visitors get {served}, not {expected}"))) }
}

fn without_failures(visits: &Visits) -> Result<(), Failure> {
    if visits.failed == 0 && visits.answered > 0 {
        return Ok(());
    }
    let reasons = visits.reasons.join("; ");
    Err(broken(format!(
        "{} of {} requests failed: {reasons}",
        visits.failed,
        visits.failed + visits.answered
    )))
}

pub(super) async fn first_deploy(stage: &Stage<'_>) -> Result<Found, Failure> {
    expect_success(&deploy(stage, "v1", &ExampleOptions::default()).await?, "deploy")?;
    expect_version(stage, "v1").await?;
    let url = format!("http://127.0.0.1:{}/", stage.http);
    Ok(Found::new(format!("{url} answers with v1")).with("url", url))
}

pub(super) async fn redeploy(stage: &Stage<'_>) -> Result<Found, Failure> {
    let load = Load::begin(stage.http);
    let deployed = deploy(stage, "v2", &ExampleOptions::default()).await;
    let visits = load.end().await;
    expect_success(&deployed?, "deploy")?;
    expect_version(stage, "v2").await?;
    without_failures(&visits)?;
    let by_version: Vec<String> =
        visits.versions.iter().map(|(version, count)| format!("{count} by {version}")).collect();
    let words = format!("{} requests meanwhile, {}, none failed", visits.answered, by_version.join(", "));
    Ok(Found::new(words).with("requests", visits.answered).with("failed", visits.failed))
}

pub(super) async fn broken_deploy(stage: &Stage<'_>) -> Result<Found, Failure> {
    let options = ExampleOptions {
        arguments: vec!["--never-healthy".to_owned()],
        health_timeout: "2s".to_owned(),
        ..ExampleOptions::default()
    };
    let ran = deploy(stage, "v3", &options).await?;
    let fault = ran.fault().ok_or_else(|| broken("it was deployed"))?;
    if fault.code != FaultCode::Unhealthy {
        return Err(fault.into());
    }
    expect_version(stage, "v2").await?;
    let words = format!("{}; visitors still get v2", fault.message);
    Ok(Found::new(words).with("why", fault.message).with("exit", ran.code))
}

pub(super) async fn rollback(stage: &Stage<'_>) -> Result<Found, Failure> {
    expect_success(&stage.client.run_in(&stage.app(), ["rollback"]).await?, "rollback")?;
    expect_version(stage, "v1").await?;
    Ok(Found::new("visitors get v1 again").with("version", "v1"))
}

pub(super) async fn scale(stage: &Stage<'_>) -> Result<Found, Failure> {
    expect_success(&stage.client.run_in(&stage.app(), ["scale", "web=2"]).await?, "scale")?;
    let mut instances = BTreeSet::new();
    for _ in 0..50 {
        let answer =
            raw::get(stage.http, "/").await.map_err(|error| broken(format!("no answer: {error}")))?;
        instances.extend(answer.header("x-instance").map(str::to_owned));
    }
    if instances.len() != 2 {
        return Err(broken(format!("{} instances answer", instances.len())));
    }
    let names: Vec<String> = instances.into_iter().collect();
    Ok(Found::new(format!("{} take turns", names.join(" and "))).with("instances", names))
}

pub(super) async fn kill_agent(stage: &Stage<'_>) -> Result<Found, Failure> {
    let pid = stage.pids.borrow().get(&Program::Agent).copied();
    let agent = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let agent = agent.ok_or_else(|| broken("there is no agent to kill"))?;
    let load = Load::begin(stage.http);
    let killed = Instant::now();
    kill_process(agent, Signal::KILL).map_err(|error| broken(format!("it can't be killed: {error}")))?;
    let back = wait_for_another_agent(stage, pid).await;
    let seconds = killed.elapsed().as_secs_f64();
    let visits = load.end().await;
    back?;
    without_failures(&visits)?;
    expect_success(&stage.client.run(["servers", "status"]).await?, "servers status")?;
    let words = format!(
        "{} requests meanwhile, none failed; the agent answers again after {seconds:.1} s",
        visits.answered
    );
    Ok(Found::new(words)
        .with("requests", visits.answered)
        .with("failed", visits.failed)
        .with("back_after", seconds))
}

async fn wait_for_another_agent(stage: &Stage<'_>, before: Option<u32>) -> Result<(), Failure> {
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        let pid = stage.pids.borrow().get(&Program::Agent).copied();
        if pid.is_some()
            && pid != before
            && client::hello_over(&*stage.reach.dialer, stage.reach.management).await.is_ok()
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(broken(format!(
                "the agent does not answer again within {} s",
                BACK_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn verify(stage: &Stage<'_>) -> Result<Found, Failure> {
    let ran = stage.client.run(["audit", "verify"]).await?;
    expect_success(&ran, "audit verify")?;
    let lines = ran.last();
    Ok(Found::new("the chain and the signed head hold, up to what this client has seen")
        .with("report", lines))
}
