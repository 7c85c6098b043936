//! `allod keys add`: the line is put together and checked here as the server will check it.

use super::{Reach, show, which::public_key_line};
use crate::{commands::fleet::ask_all, failure::Failure, session::Session};
use allod_proto::{Role, messages::keys::KeysAdd};
use allod_signing::EnrolledKey;
use clap::Args;

/// `allod keys add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod keys add ana.pub --role deployer --apps blog,shop/staging --all-servers\n  \
    allod keys add 'ssh-ed25519 AAAA… ana@laptop' --role viewer --expires 20301231"
)]
pub(super) struct Add {
    /// A public key file, or the key itself: kind, base64 and comment
    #[arg(value_name = "KEY")]
    key: String,
    /// What it may do at most: viewer, deployer, operator, owner, or caller (named commands only)
    #[arg(long)]
    role: Role,
    /// Only these apps: name, name/environment, name/*
    #[arg(long, value_delimiter = ',')]
    apps: Vec<String>,
    /// Only these named commands
    #[arg(long, value_delimiter = ',')]
    commands: Vec<String>,
    /// Only from these addresses or ranges, as the server's agent sees them; it does not hold when the agent is taken
    #[arg(long, value_delimiter = ',')]
    from: Vec<String>,
    /// Not after this time, in UTC: YYYYMMDD or YYYYMMDDHHMM
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Whose it is, instead of the key's comment
    #[arg(long)]
    name: Option<String>,
    /// It is a certificate authority; its certificates need one of these principals
    #[arg(long, value_delimiter = ',', value_name = "PRINCIPALS")]
    authority: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Runs it.
pub(super) async fn run(session: &Session, add: Add) -> Result<(), Failure> {
    let entry = entry(&add)?;
    let servers = add.reach.servers(session)?;
    if add.role == Role::Owner {
        let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        session.confirm(&format!("Make {} an owner of {}?", entry.name(), names.join(", ")))?;
    }
    let line = entry.to_line();
    let answers = ask_all(session, servers, |_, mut client| {
        let add = KeysAdd { line: line.clone() };
        async move { Ok(client.call(add).await?) }
    })
    .await;
    show(session, &answers, &format!("{} is enrolled as {}", entry.name(), add.role))
}

fn entry(add: &Add) -> Result<EnrolledKey, Failure> {
    let public = public_key_line(&add.key)?;
    let mut options = vec![format!("role={}", add.role)];
    let mut list = |name: &str, values: &[String]| {
        if !values.is_empty() {
            options.push(format!("{name}=\"{}\"", values.join(",")));
        }
    };
    list("apps", &add.apps);
    list("commands", &add.commands);
    list("from", &add.from);
    if !add.authority.is_empty() {
        options.push("cert-authority".to_owned());
        options.push(format!("principals=\"{}\"", add.authority.join(",")));
    }
    if let Some(expires) = &add.expires {
        options.push(format!("expiry-time=\"{expires}\""));
    }
    let mut words = public.splitn(3, ' ');
    let (kind, encoded, comment) = (words.next(), words.next(), words.next());
    let comment = add.name.as_deref().or(comment).unwrap_or_default();
    if comment.is_empty() {
        return Err(Failure::usage("the key has no comment, so its name is missing")
            .hint("`--name` says whose it is"));
    }
    let line = format!(
        "{} {} {} {comment}",
        options.join(","),
        kind.unwrap_or_default(),
        encoded.unwrap_or_default()
    );
    EnrolledKey::parse(&line)
        .map_err(|why| Failure::usage(format!("such a line would authorise nobody: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5Y5k6sX0pZ8GlI0nqZr7C7d9H8l8bO0vJ7y0cQw0a2 ana@laptop";

    fn add(key: &str) -> Add {
        Add {
            key: key.to_owned(),
            role: Role::Deployer,
            apps: Vec::new(),
            commands: Vec::new(),
            from: Vec::new(),
            expires: None,
            name: None,
            authority: Vec::new(),
            reach: Reach::default(),
        }
    }

    #[test]
    fn a_line_that_would_authorise_nobody_is_refused_here() {
        assert!(entry(&Add { apps: vec!["Blog\"".to_owned()], ..add(KEY) }).is_err());
        assert!(entry(&Add { from: vec!["host.example.com".to_owned()], ..add(KEY) }).is_err());
        assert!(entry(&Add { expires: Some("soon".to_owned()), ..add(KEY) }).is_err());
        assert!(entry(&add("ssh-dss AAAA x")).is_err());
        assert!(entry(&Add { name: Some("a\nrole=owner x".to_owned()), ..add(KEY) }).is_err());
    }
}
