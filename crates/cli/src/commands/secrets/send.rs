//! Sealing values for a server and sending them. The recipient is the one pinned with the server's identity; a server
//! that names another one now gets nothing.

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_apps::seal::seal;
use allod_proto::{
    AppRef, FaultCode, SecretName,
    messages::{
        secrets::{SealedSecret, SecretsReply, SecretsSet},
        server::ServerStatus,
    },
};
use allod_rpc::client::Client;
use zeroize::Zeroizing;

/// How many secrets one request may bring.
const COUNT: usize = 200;
/// How many bytes of sealed text one request may have; the body's limit leaves room for the rest.
const BYTES: usize = 900 * 1024;

/// A value in the clear.
pub(super) type Value = Zeroizing<Vec<u8>>;

/// Seals everything for every server before anything is sent, then sends.
pub(super) async fn send(
    session: &Session,
    app: &AppRef,
    servers: &[Server],
    values: &[(SecretName, Value)],
) -> Result<Vec<SecretsReply>, Failure> {
    let mut ready: Vec<(&Server, Client, Vec<SealedSecret>)> = Vec::new();
    for server in servers {
        let mut client = session.connect(server).await?;
        let status =
            client.call(ServerStatus {}).await.map_err(|error| Failure::from(error).on(&server.name))?;
        check_recipient(server, &status.recipient)?;
        let sealed = sealed_for(server, app, values).map_err(|failure| failure.on(&server.name))?;
        ready.push((server, client, sealed));
    }
    let (mut replies, mut set) = (Vec::new(), Vec::new());
    for (server, mut client, sealed) in ready {
        let sent = send_to(&mut client, app, sealed).await;
        let reply = sent.map_err(|failure| failure.on(&server.name).with("set_on", set.clone()))?;
        set.push(server.name.clone());
        replies.extend(reply);
    }
    Ok(replies)
}

async fn send_to(
    client: &mut Client,
    app: &AppRef,
    sealed: Vec<SealedSecret>,
) -> Result<Option<SecretsReply>, Failure> {
    let mut last = None;
    for batch in batches(sealed) {
        last = Some(client.call(SecretsSet { app: app.clone(), secrets: batch }).await?);
    }
    Ok(last)
}

fn batches(sealed: Vec<SealedSecret>) -> Vec<Vec<SealedSecret>> {
    let mut batches: Vec<Vec<SealedSecret>> = Vec::new();
    let mut bytes = 0;
    for secret in sealed {
        let size = secret.sealed.len() + secret.name.as_str().len() + 32;
        match batches.last_mut() {
            Some(batch) if batch.len() < COUNT && bytes + size <= BYTES => {
                bytes += size;
                batch.push(secret);
            }
            _ => {
                bytes = size;
                batches.push(vec![secret]);
            }
        }
    }
    batches
}

fn sealed_for(
    server: &Server,
    app: &AppRef,
    values: &[(SecretName, Value)],
) -> Result<Vec<SealedSecret>, Failure> {
    let Some(recipient) = &server.recipient else {
        return Err(Failure::new(FaultCode::Untrusted, "no recipient for secrets is pinned of this server")
            .hint(format!("`allod servers trust {}` pins it", server.name)));
    };
    let seal_one = |(name, value): &(SecretName, Value)| {
        let sealed = seal(recipient, app, name, value).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(SealedSecret { name: name.clone(), sealed })
    };
    values.iter().map(seal_one).collect()
}

/// Loud: whoever can name a recipient of their own would read every secret set from now on.
fn check_recipient(server: &Server, named: &str) -> Result<(), Failure> {
    let pinned = server.recipient.as_deref().unwrap_or_default();
    if named.trim() == pinned.trim() {
        return Ok(());
    }
    let message =
        format!("{} wants secrets sealed to {named}, but {pinned} is pinned; nothing was sent", server.name);
    Err(Failure::new(FaultCode::Untrusted, message).on(&server.name).hint(format!(
        "if it was reinstalled, `allod servers trust {}` shows both; otherwise someone wants to read your secrets",
        server.name
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(recipient: Option<&str>) -> Server {
        Server {
            name: "web1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            identity: format!("SHA256:{}", "a".repeat(43)).parse().unwrap(),
            record_key: None,
            recipient: recipient.map(str::to_owned),
            key: None,
        }
    }

    #[test]
    fn a_recipient_that_changed_gets_nothing() {
        let refused = check_recipient(&server(Some("age1mine")), "age1thief").unwrap_err();
        assert_eq!(refused.exit, 10);
        assert!(refused.fault.message.contains("age1thief"), "{refused:?}");
        assert!(check_recipient(&server(Some("age1mine")), "age1mine\n").is_ok());
    }

    #[test]
    fn a_server_without_a_pinned_recipient_gets_nothing() {
        let app = "shop".parse().unwrap();
        assert_eq!(sealed_for(&server(None), &app, &[]).unwrap_err().exit, 10);
    }

    #[test]
    fn no_request_has_too_many_secrets_or_bytes() {
        let secret =
            |size: usize| SealedSecret { name: SecretName::new("A").unwrap(), sealed: "x".repeat(size) };
        let sizes = |sealed: Vec<SealedSecret>| batches(sealed).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..450).map(|_| secret(10)).collect()), [200, 200, 50]);
        assert_eq!(sizes((0..25).map(|_| secret(88_000)).collect()), [10, 10, 5]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
