//! `allod rollback`: back to the release before, on each server of the app. The call names the release it believes
//! current, so that two people can't roll back twice.

use super::{
    each,
    fleet::ask_all,
    target::{Target, Which},
};
use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::{
    FaultCode, ReleaseId,
    messages::app::{AppReleases, AppReleasesReply, AppRollback, ReleaseSummary},
};
use clap::Args;
use std::collections::BTreeMap;

/// `allod rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod rollback\n  allod rollback --to 0123456789ab --yes")]
pub struct Rollback {
    /// Where to; the release that served before if not given
    #[arg(long, value_name = "RELEASE")]
    to: Option<ReleaseId>,
    #[command(flatten)]
    which: Which,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when there is nothing to go back to, or it does not end well on a server.
pub async fn run(session: &Session, rollback: Rollback) -> Result<(), Failure> {
    let target = rollback.which.target(session)?;
    let ways = ways(session, &target, rollback.to.as_ref()).await?;
    let lines: Vec<_> = ways.iter().map(|(server, way)| format!("{server}: {}", way.told)).collect();
    lines.iter().for_each(|line| session.output.note(line));
    session.confirm(&format!("Roll {} back? {}", target.app, lines.join("; ")))?;
    let done = each::change(session, &target.servers, |server: &Server| {
        let way = ways.get(&server.name);
        way.map(|way| AppRollback {
            app: target.app.clone(),
            from: way.from.clone(),
            to: Some(way.to.clone()),
        })
        .into_iter()
        .collect()
    })
    .await?;
    each::conclude(session, &target, &done)
}

/// From which release to which, on one server.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    from: ReleaseId,
    to: ReleaseId,
    told: String,
}

/// All servers are asked before anything is done on one.
async fn ways(
    session: &Session,
    target: &Target,
    to: Option<&ReleaseId>,
) -> Result<BTreeMap<String, Way>, Failure> {
    let answers = ask_all(session, target.servers.clone(), |_, mut client| {
        let ask = AppReleases { app: target.app.clone() };
        async move { Ok(client.call(ask).await?) }
    })
    .await;
    let mut ways = BTreeMap::new();
    for answer in answers {
        let name = answer.server.name;
        let way = way(&answer.outcome?, to).map_err(|failure| failure.on(&name))?;
        ways.insert(name, way);
    }
    Ok(ways)
}

fn way(reply: &AppReleasesReply, to: Option<&ReleaseId>) -> Result<Way, Failure> {
    let hint = "`allod releases` lists what there is";
    let find = |is: &dyn Fn(&ReleaseSummary) -> bool| reply.releases.iter().find(|release| is(release));
    let from = find(&|release| release.current).ok_or_else(|| {
        Failure::new(FaultCode::Conflict, "nothing serves, so there is nothing to go back from")
    })?;
    let found = match to {
        Some(to) if *to == from.id => {
            return Err(Failure::new(FaultCode::Conflict, format!("release {to} serves already")).hint(hint));
        }
        Some(to) => find(&|release| release.id == *to).ok_or_else(|| {
            Failure::new(FaultCode::NotFound, format!("there is no release {to}")).hint(hint)
        })?,
        None => find(&|release| release.previous).ok_or_else(|| {
            Failure::new(FaultCode::NotFound, format!("there is no release before {}", from.id)).hint(hint)
        })?,
    };
    Ok(Way {
        from: from.id.clone(),
        to: found.id.clone(),
        told: format!("{} -> {}", called(from), called(found)),
    })
}

fn called(release: &ReleaseSummary) -> String {
    match &release.version {
        Some(version) => format!("{} ({version})", release.id),
        None => release.id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(releases: serde_json::Value) -> AppReleasesReply {
        serde_json::from_value(json!({ "releases": releases })).unwrap()
    }

    #[test]
    fn there_must_be_something_to_go_back_from_and_to() {
        let refused = |reply: &AppReleasesReply, to| way(reply, to).unwrap_err().fault.code;
        assert_eq!(refused(&reply(json!([])), None), FaultCode::Conflict);
        let alone = reply(json!([{"id": "aaaaaaaaaaaa", "made_at": 1, "by": "ana", "current": true}]));
        assert_eq!(refused(&alone, None), FaultCode::NotFound);
        let (unknown, same) =
            (ReleaseId::new("0".repeat(12)).unwrap(), ReleaseId::new("a".repeat(12)).unwrap());
        assert_eq!(refused(&alone, Some(&unknown)), FaultCode::NotFound);
        assert_eq!(refused(&alone, Some(&same)), FaultCode::Conflict);
    }

    #[test]
    fn without_argument_it_goes_to_the_release_before() {
        let two = reply(json!([
            {"id": "aaaaaaaaaaaa", "version": "v2", "made_at": 2, "by": "ana", "current": true},
            {"id": "cccccccccccc", "made_at": 2, "by": "ana"},
            {"id": "bbbbbbbbbbbb", "made_at": 1, "by": "ana", "previous": true}
        ]));
        let way = way(&two, None).unwrap();
        assert_eq!((way.from.as_str(), way.to.as_str()), ("aaaaaaaaaaaa", "bbbbbbbbbbbb"));
        assert_eq!(way.told, "aaaaaaaaaaaa (v2) -> bbbbbbbbbbbb");
    }
}
