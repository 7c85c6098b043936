//! Ports of the mesh that are passed to a TCP address of this machine. The program there sees a connection from this machine.

use crate::{activity::Activity, carry, place::Place, ports::Held, stream::Incoming};
use allod_meshnode::MeshListener;
use allod_proto::{Fault, node::Forward};
use std::time::Duration;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// Connections of one forward at once.
const MOST: usize = 256;
/// How long the address may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Forwards whose ports are taken.
pub(crate) struct Forwards(Vec<(Forward, Held, MeshListener)>);

impl Forwards {
    /// Takes their ports, before anybody else can.
    pub(crate) fn take(place: &Place, forwards: &[Forward]) -> Result<Self, Fault> {
        let own = rustix::process::geteuid().as_raw();
        let take = |forward: &Forward| {
            place.listen(forward.port, own).map(|(held, listener)| (*forward, held, listener))
        };
        forwards.iter().map(take).collect::<Result<_, _>>().map(Self)
    }

    /// Passes on what comes. Ends only with the node.
    pub(crate) async fn run(self, activity: &Activity) {
        let mut running = JoinSet::new();
        for (forward, held, listener) in self.0 {
            let activity = activity.clone();
            running.spawn(async move {
                tokio::select! {
                    () = held.run(listener) => {}
                    () = pass_on(forward, &held, activity) => {}
                }
            });
        }
        while running.join_next().await.is_some() {}
        std::future::pending().await
    }
}

async fn pass_on(forward: Forward, held: &Held, activity: Activity) {
    let mut passing = JoinSet::new();
    while let Some(incoming) = held.next().await {
        while passing.try_join_next().is_some() {}
        if passing.len() >= MOST {
            tracing::debug!(port = forward.port, "as many connections are passed on as may be");
            incoming.stream.reset();
            continue;
        }
        let open = activity.own();
        passing.spawn(async move {
            pass(forward, incoming).await;
            drop(open);
        });
    }
}

async fn pass(forward: Forward, incoming: Incoming) {
    let connected = timeout(PATIENCE, TcpStream::connect(forward.to)).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(near) => {
            // Without the option small packets only are slower.
            let _ = near.set_nodelay(true);
            carry::to_address(near, incoming.stream).await;
        }
        Err(error) => {
            tracing::warn!(%error, to = %forward.to, peer = %incoming.peer, "a forward leads to nobody");
            incoming.stream.reset();
        }
    }
}
