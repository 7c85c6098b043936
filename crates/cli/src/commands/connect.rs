//! `allod connect`: standard input and output as a connection over the mesh, which is what ssh's `ProxyCommand` wants.

use super::passing;
use crate::{failure::Failure, session::Session};
use clap::Args;
use tokio::io::{AsyncWriteExt as _, copy, split};

/// `allod connect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod connect web1 22\n  ssh -o ProxyCommand='allod connect %h %p' ana@web1"
)]
pub struct Connect {
    /// A machine on the mesh, by its name or its address
    host: String,
    /// The port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

/// Runs it: ends when the other side has ended.
///
/// # Errors
/// [`Failure`] when there is no connection.
pub async fn run(session: &Session, connect: Connect) -> Result<(), Failure> {
    let at = passing::place(session, &connect.host, connect.port).await?;
    let (mut from, mut to) = split(passing::dial(session, at).await?);
    let sending = async {
        let _ = copy(&mut tokio::io::stdin(), &mut to).await;
        let _ = to.shutdown().await;
        // The other side may have much to say still.
        std::future::pending::<()>().await;
    };
    let mut out = tokio::io::stdout();
    let receiving = async {
        let copied = copy(&mut from, &mut out).await;
        let _ = out.flush().await;
        copied
    };
    tokio::select! {
        () = sending => Ok(()),
        received = receiving => match received {
            Ok(_) => Ok(()),
            // Whoever read standard output has gone.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => {
                let message = format!("the connection to {at} broke: {error}");
                Err(Failure::new(allod_proto::FaultCode::Unreachable, message))
            }
        },
    }
}
