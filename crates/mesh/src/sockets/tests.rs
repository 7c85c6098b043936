use super::*;
use std::net::Ipv4Addr;

const HOME: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

fn loopback() -> Interface {
    crate::Interfaces::look().unwrap().having(HOME[0]).unwrap().clone()
}

#[tokio::test]
async fn no_address_is_no_listener() {
    assert!(matches!(listen(&[], 0, None), Err(MeshError::NoAddress)));
}

#[tokio::test]
async fn an_interface_that_is_gone_is_refused() {
    let gone = Interface { name: "gone0".to_owned(), index: 4000 };
    if cfg!(target_os = "linux") {
        assert!(matches!(
            listen(&HOME, 0, Some(&gone)),
            Err(MeshError::NotHere { .. } | MeshError::Listen { .. })
        ));
        let to = SocketAddr::new(HOME[0], 1);
        assert!(matches!(connect(to, Some(&gone)).await, Err(MeshError::Connect { .. })));
    }
}

#[tokio::test]
async fn what_is_bound_to_its_interface_is_reached_by_it() {
    let loopback = loopback();
    let bound = listen(&HOME, 0, Some(&loopback)).unwrap();
    let at = bound[0].local_addr().unwrap();
    let (near, far) = tokio::join!(connect(at, Some(&loopback)), bound[0].accept());
    assert_eq!(near.unwrap().local_addr().unwrap(), far.unwrap().1);
}
