//! `allod commands approve`: a second person's yes to one run. It is signed by their own key over exactly what may be run,
//! so that it can be shown to anybody later.

use crate::{commands::signing::first_that_signs, failure::Failure, render::time::local, session::Session};
use allod_proto::{
    FaultCode, NamedCommandName, Nonce, ParamName, Timestamp,
    messages::named::CommandApprove,
    named::{APPROVAL_NAMESPACE, Approval},
};
use allod_rpc::client::OneKey;
use allod_signing::{Signer, sshsig};
use clap::Args;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{collections::BTreeMap, time::Duration};

/// `allod commands approve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod commands approve deploy-site branch=main --caller builder --server web1"
)]
pub(super) struct Approve {
    /// Which command
    name: NamedCommandName,
    /// All its parameters, with those that have a default
    #[arg(value_name = "PARAM=VALUE")]
    params: Vec<String>,
    /// Who may run it then: the name of their key, or its fingerprint
    #[arg(long, value_name = "NAME")]
    caller: String,
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "10m")]
    within: String,
}

/// Runs it.
pub(super) async fn run(session: &Session, approve: Approve) -> Result<(), Failure> {
    let server = session.one_server()?;
    let within = allod_appspec::measure::milliseconds(&approve.within)
        .map_err(|why| Failure::usage(format!("--within {:?}: {why}", approve.within)))?;
    let approval = Approval {
        name: approve.name.clone(),
        params: params(&approve.params)?,
        caller: approve.caller.clone(),
        expires: session.now().plus(Duration::from_millis(within)),
        nonce: nonce()?,
    };
    let bytes = approval.bytes(&server.identity);
    let sign = move |signer: &dyn Signer| signer.sign(APPROVAL_NAMESPACE, &bytes);
    let (signer, signature) = first_that_signs(session, &server, "signs the approval", sign).await?;
    let expires: Timestamp = approval.expires;
    // The same key makes the request: the server takes an approval from whoever signed it.
    let mut client = session.connect_as(&server, Box::new(OneKey::new(signer))).await?;
    let reply = client.call(CommandApprove { approval, signature: sshsig::to_base64(&signature) }).await;
    let reply = reply.map_err(|error| Failure::from(error).on(&server.name))?;
    session.output.document(&reply, |_| {
        format!(
            "{} may run {} on {} once, until {}\n",
            approve.caller,
            approve.name,
            server.name,
            local(expires)
        )
    })
}

fn params(words: &[String]) -> Result<BTreeMap<ParamName, String>, Failure> {
    let named = |(name, value)| match ParamName::new(name) {
        Ok(name) => Ok((name, value)),
        Err(error) => Err(Failure::usage(error.to_string())),
    };
    crate::commands::run::params(words)?.into_iter().map(named).collect()
}

fn nonce() -> Result<Nonce, Failure> {
    let mut random = [0_u8; 16];
    let failed = |why: String| Failure::new(FaultCode::Internal, why);
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| failed("the system gives no random numbers".to_owned()))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Nonce::new(text).map_err(|error| failed(error.to_string()))
}
