//! The laws themselves. The tests of `allod-node` hold them against its driver, over a node that runs.

use allod_mesh::{Mesh, MeshError};
use std::{net::SocketAddr, sync::Arc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A mesh for the contract, and whatever has to live as long.
pub(crate) struct Subject {
    pub(crate) mesh: Arc<dyn Mesh>,
    pub(crate) _kept: Box<dyn std::any::Any>,
}

/// Somebody that no mesh has.
const STRANGERS: [&str; 4] = ["203.0.113.9:9", "[2001:db8::9]:9", "192.168.1.9:9", "100.64.99.99:9"];

pub(crate) async fn nobody_outside_the_mesh_is_known_or_connected_to(subject: Subject) {
    for stranger in STRANGERS {
        let stranger: SocketAddr = stranger.parse().unwrap();
        assert_eq!(subject.mesh.whois(stranger).await.unwrap(), None, "{stranger}");
        let connected = subject.mesh.connect(stranger).await;
        assert!(matches!(connected, Err(MeshError::NotAPeer { .. })), "{stranger}: {connected:?}");
    }
}

pub(crate) async fn a_port_that_is_taken_is_told_as_that(subject: Subject) {
    let held = subject.mesh.listen(0).await.unwrap();
    let again = subject.mesh.listen(held.addresses()[0].port()).await;
    assert!(matches!(&again, Err(error @ MeshError::Listen { .. }) if !error.may_pass()), "{again:?}");
}

pub(crate) async fn a_mesh_that_is_down_has_no_address_and_can_be_waited_for(subject: Subject) {
    let status = subject.mesh.status().await.unwrap();
    assert!(!status.up && status.addresses.is_empty(), "{status:?}");
    let refused = subject.mesh.listen(0).await;
    assert!(matches!(&refused, Err(error) if error.may_pass()), "{refused:?}");
    let nowhere = subject.mesh.connect("100.64.99.99:9".parse().unwrap()).await;
    assert!(matches!(nowhere, Err(MeshError::NoAddress | MeshError::NotAPeer { .. })), "{nowhere:?}");
}

pub(crate) async fn it_listens_on_its_own_addresses_and_one_port(subject: Subject) {
    let status = subject.mesh.status().await.unwrap();
    assert!(status.up && !status.addresses.is_empty(), "{status:?}");
    let listener = subject.mesh.listen(0).await.unwrap();
    let port = listener.addresses()[0].port();
    assert_ne!(port, 0);
    for at in listener.addresses() {
        assert!(at.port() == port && status.addresses.contains(&at.ip()), "{at}");
    }
}

pub(crate) async fn the_watch_begins_with_how_it_is(subject: Subject) {
    let (told, asked) = (subject.mesh.watch().borrow().clone(), subject.mesh.status().await.unwrap());
    assert_eq!(told, asked);
}

pub(crate) async fn bytes_go_both_ways_and_each_side_sees_the_other(subject: Subject) {
    let listener = subject.mesh.listen(0).await.unwrap();
    let at = listener.addresses()[0];
    let (near, far) = tokio::join!(subject.mesh.connect(at), listener.accept());
    let (mut near, mut far) = (near.unwrap(), far);
    assert_eq!((far.local(), near.peer(), far.peer()), (at, at, near.local()));
    assert!(subject.mesh.whois(far.peer()).await.unwrap().is_some());
    near.write_all(b"question").await.unwrap();
    let mut got = [0; 8];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"question");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut rest = String::new();
    near.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "answer");
}

pub(crate) async fn many_at_once_are_all_served(subject: Subject) {
    let listener = subject.mesh.listen(0).await.unwrap();
    let at = listener.addresses()[0];
    let callers = (0..64).map(|_| {
        let mesh = Arc::clone(&subject.mesh);
        tokio::spawn(async move { mesh.connect(at).await.map(drop) })
    });
    let callers: Vec<_> = callers.collect();
    for _ in 0..64 {
        let connection = listener.accept().await;
        assert!(subject.mesh.whois(connection.peer()).await.unwrap().is_some());
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
}

/// The contract over one driver: `up` and `down` make its subject in that state.
macro_rules! contract {
    ($driver:ident: $($state:ident $law:ident;)+) => {
        mod $driver {
            $(
                #[tokio::test]
                async fn $law() {
                    super::laws::$law(super::drivers::$driver::$state().await).await;
                }
            )+
        }
    };
}

macro_rules! every_law {
    ($($driver:ident)+) => {
        $(contract!($driver:
            up nobody_outside_the_mesh_is_known_or_connected_to;
            up a_port_that_is_taken_is_told_as_that;
            down a_mesh_that_is_down_has_no_address_and_can_be_waited_for;
            up it_listens_on_its_own_addresses_and_one_port;
            up the_watch_begins_with_how_it_is;
            up bytes_go_both_ways_and_each_side_sees_the_other;
            up many_at_once_are_all_served;
        );)+
    };
}
