//! `allod doctor`: what is wrong here and on the servers. Every finding that isn't good has a fix.

mod laptop;
mod server;

use crate::{
    failure::Failure,
    render::{Style, safe},
    session::Session,
};
use allod_proto::{
    FaultCode,
    messages::server::{Finding, FindingLevel},
};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

/// `allod doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod doctor\n  allod doctor --server web1 --json")]
pub struct Doctor {}

/// The findings about one place.
#[derive(Debug, serde::Serialize)]
struct Place {
    /// `here`, or a server's name.
    place: String,
    findings: Vec<Finding>,
}

/// Runs it. Ends with an error code if something is bad, so that a script may ask.
///
/// # Errors
/// [`Failure`] when something needs doing.
pub async fn run(session: &Session, _doctor: Doctor) -> Result<(), Failure> {
    let mut here = laptop::look(session);
    here.extend(laptop::mesh(session).await);
    let mut places = vec![Place { place: "here".to_owned(), findings: here }];
    let servers = match session.servers() {
        Ok(servers) => servers,
        // The inventory's own finding stands under `here`; a wrong `--server` is the person's.
        Err(failure) if !session.globals.server.is_empty() => return Err(failure),
        Err(_) => Vec::new(),
    };
    let looks = servers.iter().map(|server| async {
        Place { place: server.name.clone(), findings: server::look(session, server).await }
    });
    places.extend(join_all(looks).await);
    for place in &mut places {
        place.findings.sort_by_key(|finding| finding.level);
    }
    let bad =
        places.iter().flat_map(|place| &place.findings).filter(|f| f.level == FindingLevel::Bad).count();
    if bad == 0 {
        return session.output.document(&json!({ "places": places }), |style| text(&places, style));
    }
    let failure = Failure::new(FaultCode::Unhealthy, format!("{bad} things need doing"))
        .with("places", serde_json::to_value(&places).unwrap_or_default());
    if session.output.is_json() {
        return Err(failure);
    }
    session.output.print(&text(&places, session.output.style()))?;
    Err(failure.already_said())
}

fn text(places: &[Place], style: Style) -> String {
    let mut text = String::new();
    for Place { place, findings } in places {
        text.push_str(&format!("{}\n", style.bold(&safe(place))));
        for finding in findings {
            let mark = match finding.level {
                FindingLevel::Bad => style.bad("✗"),
                FindingLevel::Warning => style.warn("!"),
                FindingLevel::Good => style.good("✓"),
            };
            text.push_str(&format!("  {mark} {}: {}\n", safe(&finding.about), safe(&finding.message)));
            if let Some(fix) = &finding.fix {
                text.push_str(&format!("      {} {}\n", style.dim("fix:"), safe(fix)));
            }
        }
    }
    text
}

fn good(about: &str, message: impl Into<String>) -> Finding {
    Finding { about: about.to_owned(), level: FindingLevel::Good, message: message.into(), fix: None }
}

fn warning(about: &str, message: impl Into<String>, fix: impl Into<String>) -> Finding {
    let (message, fix) = (message.into(), Some(fix.into()));
    Finding { about: about.to_owned(), level: FindingLevel::Warning, message, fix }
}

fn bad(about: &str, message: impl Into<String>, fix: impl Into<String>) -> Finding {
    let (message, fix) = (message.into(), Some(fix.into()));
    Finding { about: about.to_owned(), level: FindingLevel::Bad, message, fix }
}

/// A failure as something that needs doing.
fn failed(about: &str, failure: &Failure) -> Finding {
    let fix = failure.fault.hint.clone().unwrap_or_else(|| "run it again with the server at hand".to_owned());
    bad(about, failure.fault.message.clone(), fix)
}
