//! What can be wrong with one server as seen from here, then what its own doctor finds.

use super::{bad, failed, good, warning};
use crate::{
    commands::{fleet::DEADLINE, servers::bytes},
    failure::Failure,
    inventory::Server,
    render::time::span,
    session::Session,
};
use allod_proto::{
    FaultCode,
    limits::FRESHNESS,
    messages::server::{Finding, ServerDoctor, ServerStatus},
};
use allod_rpc::client;
use std::time::Duration;
use tokio::time::timeout;

/// From where on a difference of clocks is worth a word.
const CLOCK_NOTE: Duration = Duration::from_secs(5);

/// Looks at one server.
pub(super) async fn look(session: &Session, server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    let looking = signed(session, server, &mut findings);
    match timeout(DEADLINE, looking).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => findings.push(failed("server", &failure)),
        Err(_) => {
            let message = format!("no answer within {} s", DEADLINE.as_secs());
            findings.push(bad("server", message, "look at it over SSH: is the agent running?"));
        }
    }
    // Only where it is not reached: it may be on another mesh than the one that is asked.
    if !findings.iter().any(|finding| finding.about == "reachable") {
        findings.extend(nobody(session, server).await);
    }
    findings
}

async fn nobody(session: &Session, server: &Server) -> Option<Finding> {
    let own = session.mesh().await.ok()??;
    let address = session.resolve(&server.address).await.ok()?;
    let message = format!("{} is nobody's on the mesh, as far as this machine knows", address.ip());
    own.is_nobodys(address).await.then(|| bad("mesh", message, own.about_nobody()))
}

async fn signed(session: &Session, server: &Server, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let address = session.resolve(&server.address).await?;
    let hello = client::hello_over(&*session.dialer(address).await?, address).await?;
    findings.push(good("reachable", format!("{address} answers, version {}", hello.version)));
    if hello.identity != server.identity {
        let message = format!("its identity is {}, pinned is {}", hello.identity, server.identity);
        let fix = format!(
            "if it was reinstalled: allod servers trust {}; otherwise someone is in its place",
            server.name
        );
        findings.push(bad("identity", message, fix));
        return Ok(());
    }
    let mut client = session.connect_to(server, address).await?;
    let before = session.now();
    let status = client.call(ServerStatus {}).await?;
    findings.push(good("identity", "the pinned identity signed its answer"));
    if let Some(key) = client.accepted_key() {
        findings.push(good("key", format!("it accepts {key}")));
    }
    findings.push(clock(before, session.now(), status.now));
    if let Some(head) = client.head() {
        findings.push(good("record", format!("line {}, not less than what was seen before", head.head.seq)));
    }
    if let Some(pinned) = server.recipient.as_ref().filter(|pinned| **pinned != status.recipient) {
        let message = format!("secrets would be sealed to {pinned}, the server says {}", status.recipient);
        findings.push(bad("recipient", message, format!("allod servers trust {}", server.name)));
    }
    findings.push(good("disk", format!("{} free", bytes(status.disk_free))));
    match client.call(ServerDoctor {}).await {
        Ok(reply) => findings.extend(reply.findings),
        Err(error) if error.code() == FaultCode::NotAllowed => findings.push(warning(
            "doctor",
            "this key may not run the server's own doctor",
            "ask an operator, or run it on the server",
        )),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The server read its clock between sending and receiving.
fn clock(
    before: allod_proto::Timestamp,
    after: allod_proto::Timestamp,
    there: allod_proto::Timestamp,
) -> Finding {
    let apart = before.since(there).max(there.since(after));
    let fix = "set the clock that is wrong; `timedatectl set-ntp true` keeps it right";
    if apart > FRESHNESS {
        bad(
            "clock",
            format!("{} apart: requests are refused beyond {} s", span(apart), FRESHNESS.as_secs()),
            fix,
        )
    } else if apart > CLOCK_NOTE {
        warning("clock", format!("{} apart", span(apart)), fix)
    } else {
        good("clock", "the same here and there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::{Timestamp, messages::server::FindingLevel};

    #[test]
    fn clocks_that_differ_are_found_either_way() {
        let judge = |there| clock(Timestamp(1_000_000), Timestamp(1_000_200), Timestamp(there)).level;
        assert_eq!(judge(900_000), FindingLevel::Bad);
        assert_eq!(judge(1_100_000), FindingLevel::Bad);
        assert_eq!(judge(1_010_000), FindingLevel::Warning);
        assert_eq!(judge(1_000_100), FindingLevel::Good);
    }
}
