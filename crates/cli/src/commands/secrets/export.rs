//! `allod secrets export`: the server seals the values to an identity that lives as long as this command; they are opened
//! here and go to stdout only. A value that is not sealed as what it claims to be is refused.

use super::dotenv;
use crate::{commands::target::Which, failure::Failure, session::Session};
use age::x25519::Identity;
use allod_apps::seal::seal_prefix;
use allod_proto::{
    AppRef, FaultCode, SecretName,
    messages::secrets::{SealedSecret, SecretsExport},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// `allod secrets export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod secrets export --app blog/staging > .env\n  allod secrets export --format json"
)]
pub(super) struct Export {
    /// How to write them
    #[arg(long, value_enum, default_value = "env")]
    format: Format,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// NAME='value' lines, as `import` and a shell read them.
    Env,
    /// A JSON object of texts.
    Json,
}

type Opened = Vec<(SecretName, Zeroizing<Vec<u8>>)>;

/// Runs it.
pub(super) async fn run(session: &Session, export: &Export) -> Result<(), Failure> {
    let target = export.which.target(session)?;
    let server = target.only()?;
    let identity = Identity::generate();
    let mut client = session.connect(server).await?;
    let ask = SecretsExport { app: target.app.clone(), recipient: identity.to_public().to_string() };
    let reply = client.call(ask).await.map_err(|error| Failure::from(error).on(&server.name))?;
    let opened = reply.secrets.iter().map(|secret| open(&identity, &target.app, secret));
    let opened = opened.collect::<Result<Opened, Failure>>().map_err(|failure| failure.on(&server.name))?;
    if session.output.is_json() {
        let value = serde_json::json!({"app": target.app, "secrets": texts(&opened)?});
        return session.output.document(&value, |_| String::new());
    }
    match export.format {
        Format::Env => session.output.print(&env(&opened)?),
        Format::Json => {
            let text = serde_json::to_string_pretty(&texts(&opened)?).map(Zeroizing::new);
            let text = text.map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))?;
            session.output.print(&format!("{}\n", *text))
        }
    }
}

fn open(
    identity: &Identity,
    app: &AppRef,
    secret: &SealedSecret,
) -> Result<(SecretName, Zeroizing<Vec<u8>>), Failure> {
    let name = &secret.name;
    let wrong =
        |why: &str| Failure::new(FaultCode::Untrusted, format!("the server's answer for {name} {why}"));
    let sealed = STANDARD.decode(&secret.sealed).map_err(|_| wrong("is not base64"))?;
    let text = age::decrypt(identity, &sealed).map(Zeroizing::new).map_err(|_| wrong("can't be opened"))?;
    let prefix = seal_prefix(app, name);
    let value = text.strip_prefix(prefix.as_bytes()).ok_or_else(|| wrong("was sealed as another secret"))?;
    Ok((name.clone(), Zeroizing::new(value.to_vec())))
}

fn utf8<'v>(name: &SecretName, value: &'v [u8]) -> Result<&'v str, Failure> {
    std::str::from_utf8(value).map_err(|_| {
        Failure::new(
            FaultCode::Invalid,
            format!("the value of {name} is not UTF-8, so it can't be written here"),
        )
    })
}

fn texts(opened: &Opened) -> Result<BTreeMap<&str, &str>, Failure> {
    opened.iter().map(|(name, value)| Ok((name.as_str(), utf8(name, value)?))).collect()
}

fn env(opened: &Opened) -> Result<Zeroizing<String>, Failure> {
    let lines: Vec<_> = opened.iter().map(|(name, value)| (name, dotenv::line(name, value))).collect();
    let mut text = Zeroizing::new(String::with_capacity(lines.iter().map(|(_, line)| line.len()).sum()));
    for (name, line) in &lines {
        text.push_str(utf8(name, line)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_apps::seal::seal;

    fn sealed(identity: &Identity, app: &str, name: &str, value: &[u8]) -> String {
        let (app, name) = (app.parse().unwrap(), SecretName::new(name).unwrap());
        seal(&identity.to_public().to_string(), &app, &name, value).unwrap()
    }

    #[test]
    fn a_value_sealed_as_another_or_for_another_is_refused() {
        let (mine, theirs) = (Identity::generate(), Identity::generate());
        let (app, name) = ("shop".parse().unwrap(), SecretName::new("KEY").unwrap());
        for sealed in [
            sealed(&mine, "shop", "OTHER", b"x"),
            sealed(&mine, "shop/staging", "KEY", b"x"),
            sealed(&theirs, "shop", "KEY", b"x"),
            "?".to_owned(),
        ] {
            let refused = open(&mine, &app, &SealedSecret { name: name.clone(), sealed }).unwrap_err();
            assert_eq!(refused.exit, 10);
        }
    }

    #[test]
    fn what_was_sealed_is_written_and_reads_back() {
        let identity = Identity::generate();
        let (app, name) = ("shop".parse().unwrap(), SecretName::new("KEY").unwrap());
        let sealed = sealed(&identity, "shop", "KEY", b"it's\n$x");
        let opened = vec![open(&identity, &app, &SealedSecret { name, sealed }).unwrap()];
        assert_eq!(*env(&opened).unwrap(), "KEY=\"it's\n\\$x\"\n");
        assert_eq!(texts(&opened).unwrap()["KEY"], "it's\n$x");
        let binary = vec![(SecretName::new("B").unwrap(), Zeroizing::new(vec![0xff]))];
        assert!(env(&binary).is_err() && texts(&binary).is_err());
    }
}
