//! `allod login`: one signature by your own key, and a fresh one signs for it for a while. For keys that want a finger,
//! a passphrase or an answer each time.

use crate::{
    commands::{
        fleet::{Asked, DEADLINE, conclude},
        signing::first_that_signs,
    },
    failure::Failure,
    inventory::Server,
    keys::Login as Kept,
    render::{Style, Table, table::Tone, time::local},
    session::Session,
};
use allod_proto::{FaultCode, Role, Timestamp, limits, messages::keys::KeysCan};
use allod_rpc::client::OneKey;
use allod_signing::{KeySigner, Signer, Terms};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// `allod login`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod login --for 1h --on web1\n  allod login --role viewer")]
pub struct Login {
    /// For how long: from 1m to 12h
    #[arg(long = "for", value_name = "TIME", default_value = "15m", value_parser = lasting)]
    lasting: Duration,
    /// For this server; may be given more than once; every server you know if not given
    #[arg(long, value_name = "SERVER", add = ArgValueCandidates::new(crate::commands::completions::server_names))]
    on: Vec<String>,
    /// As what at most; keys and identities are changed by owners only
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    role: Role,
}

/// `90s` is too short to be meant.
fn lasting(text: &str) -> Result<Duration, String> {
    let wrong = || "from 1m to 12h, such as 15m or 2h".to_owned();
    let (digits, scale) = match (text.strip_suffix('m'), text.strip_suffix('h')) {
        (Some(digits), _) => (digits, 60),
        (None, Some(digits)) => (digits, 3600),
        (None, None) => return Err(wrong()),
    };
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let lasting = Duration::from_secs(number * scale);
    if lasting.is_zero() || lasting > limits::DELEGATION_LONGEST { Err(wrong()) } else { Ok(lasting) }
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when nothing could be signed, or no server accepts it.
pub async fn run(session: &Session, login: Login) -> Result<(), Failure> {
    let servers = match session.servers_on(&login.on)? {
        Some(servers) => servers,
        None => session.servers()?,
    };
    let now = session.now();
    let key = fresh_key()?;
    let terms = Terms::new(
        key.public_key().clone(),
        servers.iter().map(|server| server.identity.clone()),
        login.role,
        (now, now.plus(login.lasting)),
    )
    .map_err(|why| Failure::usage(why.to_string()).hint("`--on SERVER` names fewer servers"))?;
    let first = servers.first().ok_or(crate::inventory::InventoryError::Empty)?;
    let what = format!("signs once for {} servers", servers.len());
    let sign = move |signer: &dyn Signer| terms.sign(signer);
    let (parent, delegation) = first_that_signs(session, first, &what, sign).await?;
    let parent = parent.fingerprint();
    let logins = session.logins();
    logins.keep(&key, &parent, &delegation, now)?;
    let (held, _) = logins.load(now)?;
    let kept = held.into_iter().find(|held| held.delegation == delegation);
    let kept = kept.ok_or_else(|| Failure::new(FaultCode::Internal, "the login could not be kept"))?;
    let answers = ask(session, &servers, &kept).await;
    let accepted = answers.iter().any(|answer| answer.outcome.is_ok());
    let away = |failure: &Failure| matches!(failure.fault.code, FaultCode::Unreachable | FaultCode::Timeout);
    let some_away = answers.iter().any(|answer| answer.outcome.as_ref().is_err_and(away));
    if !accepted && !some_away {
        logins.end(&key.fingerprint())?;
    }
    show(session, &answers, &kept, accepted)
}

fn fresh_key() -> Result<KeySigner, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(seed.as_mut())
        .map_err(|_| Failure::new(FaultCode::Internal, "the system gives no random numbers"))?;
    Ok(KeySigner::generate(*seed, "allod login"))
}

/// Asks each server whether it accepts the fresh key, with no other to fall back on.
async fn ask(session: &Session, servers: &[Server], kept: &Kept) -> Vec<Asked<Role>> {
    let asking = servers.iter().cloned().map(|server| async move {
        let outcome = timeout(DEADLINE, one(session, &server, kept)).await.unwrap_or_else(|_| {
            Err(Failure::new(FaultCode::Timeout, format!("{} did not answer in time", server.name)))
        });
        Asked { outcome: outcome.map_err(|failure| failure.on(&server.name)), server }
    });
    futures_util::future::join_all(asking).await
}

async fn one(session: &Session, server: &Server, kept: &Kept) -> Result<Role, Failure> {
    let keys = Box::new(OneKey::new(Arc::new(kept.signer()?)));
    let mut client = session.connect_as(server, keys).await?;
    Ok(client.call(KeysCan::default()).await?.role)
}

fn show(session: &Session, answers: &[Asked<Role>], kept: &Kept, accepted: bool) -> Result<(), Failure> {
    let terms = kept.delegation.terms();
    let rows: Vec<Value> = answers.iter().map(row).collect();
    if !accepted {
        let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
        return conclude(session, rows, failures, |_| String::new());
    }
    let document = json!({
        "login": {"parent": kept.parent, "key": terms.key().fingerprint(), "role": terms.role(),
            "issued_at": terms.issued_at(), "expires_at": terms.expires_at()},
        "servers": rows,
    });
    session.output.document(&document, |style| text(answers, terms.expires_at(), style))
}

fn row(answer: &Asked<Role>) -> Value {
    match &answer.outcome {
        Ok(role) => json!({"server": answer.server.name, "ok": true, "role": role}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    }
}

fn text(answers: &[Asked<Role>], until: Timestamp, style: Style) -> String {
    let mut table = Table::new(&["server", "logged in as"]);
    for Asked { server, outcome } in answers {
        let role = match outcome {
            Ok(role) => crate::render::table::Cell::from(role.as_str()),
            Err(failure) => crate::render::table::Cell::toned(Tone::Bad, &failure.fault.message),
        };
        table.row(vec![(&server.name).into(), role]);
    }
    format!("{}{} until {}; `allod logout` ends it\n", table.render(style), style.good("✓"), local(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_lasts_from_a_minute_to_twelve_hours() {
        for wrong in
            ["", "m", "0m", "0h", "13h", "721m", "15", "15s", "-5m", "+5m", "1.5h", "99999m", "5M", "1d"]
        {
            assert!(lasting(wrong).is_err(), "{wrong}");
        }
        assert_eq!(lasting("15m"), Ok(limits::DELEGATION_USUAL));
        assert_eq!(lasting("12h"), Ok(limits::DELEGATION_LONGEST));
    }
}
