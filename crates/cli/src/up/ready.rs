//! Waiting until everything answers: the agent's `hello` with the identity that the executor wrote down, the proxy's
//! control socket, the hub's health. What does not come in time is named.

use super::{launcher::Paths, network::Reach, program::Program};
use allod_proto::{
    Fingerprint,
    routes::{ProxyAnswer, ProxyAsk},
};
use allod_rpc::client;
use allod_signing::PublicKey;
use std::{io, net::SocketAddr, path::Path, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::Instant,
};

/// How long everything together may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a successor may take.
const SUCCESSOR: Duration = Duration::from_secs(15);
const TRY: Duration = Duration::from_secs(3);
const BETWEEN: Duration = Duration::from_millis(25);

/// What did not become ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotReady {
    /// Which program.
    pub(super) program: Program,
    /// What it last said, or why it said nothing.
    pub(super) why: String,
}

/// Waits until all programs answer; gives the server's identity.
pub(super) async fn wait(paths: &Paths, reach: &Reach) -> Result<Fingerprint, Vec<NotReady>> {
    let deadline = Instant::now() + PATIENCE;
    let (identity, agent, proxy, hub) = tokio::join!(
        keep_trying(Program::Executor, deadline, || read_identity(&paths.state)),
        keep_trying(Program::Agent, deadline, || ask_agent(&paths.state, reach)),
        keep_trying(Program::Proxy, deadline, || ask_proxy(&paths.proxy_control)),
        async {
            match reach.hub.filter(|_| reach.has_hub) {
                Some(at) => keep_trying(Program::Hub, deadline, || ask_hub(reach, at)).await,
                None => Ok(()),
            }
        },
    );
    let late: Vec<NotReady> = [agent.err(), proxy.err(), hub.err()].into_iter().flatten().collect();
    match identity {
        Ok(identity) if late.is_empty() => Ok(identity),
        Ok(_) => Err(late),
        Err(executor) => Err(std::iter::once(executor).chain(late).collect()),
    }
}

async fn keep_trying<T>(
    program: Program,
    deadline: Instant,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, NotReady> {
    loop {
        let tried = tokio::time::timeout(TRY, attempt()).await;
        let why = match tried {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", TRY.as_secs()),
        };
        if Instant::now() >= deadline {
            return Err(NotReady { program, why });
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// The identity as the executor wrote it down: read past the network, as over an SSH connection elsewhere.
async fn read_identity(state: &Path) -> Result<Fingerprint, String> {
    let path = state.join("executor/identity.pub");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let key = PublicKey::from_openssh(text.trim()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(key.fingerprint().clone())
}

async fn ask_agent(state: &Path, reach: &Reach) -> Result<(), String> {
    let at = reach.management;
    let hello = client::hello_over(&*reach.dialer, at).await.map_err(|error| error.to_string())?;
    let expected = read_identity(state).await?;
    if hello.identity == expected {
        Ok(())
    } else {
        Err(format!("another server answers at {at}: {}", hello.identity))
    }
}

/// Waits until the proxy with this process id answers at the control socket.
pub(super) async fn wait_for_proxy(control: &Path, pid: u32) -> Result<(), String> {
    let ask = async || match ask_proxy(control).await? {
        answering if answering == pid => Ok(()),
        other => Err(format!("process {other} answers at the control socket still")),
    };
    keep_trying(Program::Proxy, Instant::now() + SUCCESSOR, ask).await.map_err(|late| late.why)
}

/// The process id of the proxy.
async fn ask_proxy(control: &Path) -> Result<u32, String> {
    let said = |error: io::Error| format!("{}: {error}", control.display());
    let mut stream = BufReader::new(UnixStream::connect(control).await.map_err(said)?);
    let mut line = serde_json::to_vec(&ProxyAsk::Status).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(said)?;
    let mut answer = String::new();
    (&mut stream).take(64 * 1024).read_line(&mut answer).await.map_err(said)?;
    match serde_json::from_str(&answer) {
        Ok(ProxyAnswer::Status(status)) => Ok(status.pid),
        Ok(other) => Err(format!("the proxy answered {other:?}")),
        Err(error) => Err(format!("the proxy's answer makes no sense: {error}")),
    }
}

async fn ask_hub(reach: &Reach, at: SocketAddr) -> Result<(), String> {
    let said = |error: io::Error| format!("{at}: {error}");
    let mut stream = reach.dialer.dial(at).await.map_err(said)?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(said)?;
    let mut answer = Vec::new();
    stream.take(16 * 1024).read_to_end(&mut answer).await.map_err(said)?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(status) => Err(format!("the hub answers with status {status}")),
        None => Err("the hub hung up".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_is_named_with_its_last_word() {
        let deadline = Instant::now() + PATIENCE;
        let mut tries = 0;
        let late = keep_trying(Program::Proxy, deadline, async || {
            tries += 1;
            Err::<(), _>(format!("try {tries}"))
        })
        .await
        .unwrap_err();
        assert_eq!(late.program, Program::Proxy);
        assert_eq!(late.why, format!("try {tries}"));
        assert!(tries > 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_is_given_up_and_tried_again() {
        let mut tries = 0;
        let deadline = Instant::now() + PATIENCE;
        let ready = keep_trying(Program::Hub, deadline, async || {
            tries += 1;
            if tries == 1 {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        assert_eq!(ready.await, Ok(()));
    }
}
