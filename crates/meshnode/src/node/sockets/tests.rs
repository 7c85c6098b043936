use super::*;
use std::time::Duration;
use tokio::time::timeout;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(HERE, port)
}

#[test]
fn what_goes_elsewhere_is_longer_or_comes_after_a_shorter_one_does_not_go_with_the_others() {
    let mut batch = Batch::default();
    assert!(batch.takes(at(1), &[0; 9]), "the first goes with nothing");
    batch.push(at(1), &[0; 9]);
    assert!(!batch.takes(at(2), &[0; 9]) && !batch.takes(at(1), &[0; 10]));
    assert!(batch.takes(at(1), &[0; 9]) && batch.takes(at(1), &[0; 1]));
    batch.push(at(1), &[0; 1]);
    assert!(!batch.takes(at(1), &[0; 9]) && !batch.takes(at(1), &[0; 1]));
    batch.clear();
    assert!(batch.takes(at(2), &[0; 10]));
}

#[test]
fn a_batch_is_bounded_in_number_and_bytes() {
    for (length, most) in [(1, TOGETHER), (1_312, TOGETHER_BYTES / 1_312), (LONGEST, 1)] {
        let mut batch = Batch::default();
        let mut count = 0;
        while batch.takes(at(1), &vec![0; length]) {
            batch.push(at(1), &vec![0; length]);
            count += 1;
        }
        assert_eq!(count, most, "of {length} bytes");
    }
}

/// All that comes, until so many have.
async fn heard(sockets: &Sockets, wanted: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut all, mut buffer) = (Vec::new(), Vec::new());
    let hearing = async {
        while all.len() < wanted {
            sockets.readable().await.unwrap();
            sockets.read(&mut buffer, |from, datagram| all.push((from, datagram.to_vec())));
        }
    };
    let outcome = timeout(Duration::from_secs(60), hearing).await;
    assert!(outcome.is_ok(), "only {} of {wanted} came", all.len());
    all
}

async fn bind() -> Sockets {
    let sockets = Sockets::bind(&Interfaces::Only(HERE), 0).unwrap();
    sockets.v4.as_ref().unwrap().udp.writable().await.unwrap();
    sockets
}

#[tokio::test]
async fn datagrams_come_as_they_were_sent_whether_they_went_together_or_not() {
    let (one, two, three) = (bind().await, bind().await, bind().await);
    for joins in [true, false] {
        one.v4.as_ref().unwrap().joins.store(joins && cfg!(target_os = "linux"), Ordering::Relaxed);
        let mut batch = Batch::default();
        let mut sent = Vec::new();
        for n in 0..150_u8 {
            // Long ones in a row, short ones between them, and some for somebody else.
            let length = if n % 50 == 49 { 3 } else { 1_000 };
            let datagram = vec![n; length];
            one.send(&mut batch, at(two.port()), &datagram);
            sent.push((at(one.port()), datagram));
            if n % 70 == 0 {
                one.send(&mut batch, at(three.port()), &[n; 1_000]);
            }
        }
        one.flush(&mut batch);
        assert_eq!(heard(&two, sent.len()).await, sent, "joined: {joins}");
        assert_eq!(heard(&three, 3).await.len(), 3);
    }
}

#[tokio::test]
async fn what_does_not_fit_through_together_goes_one_by_one_or_not_at_all_and_hurts_nothing() {
    let (one, two) = (bind().await, bind().await);
    let mut batch = Batch::default();
    // Each longer than loopback's packets may be cut to.
    for n in 0..2_u8 {
        one.send(&mut batch, at(two.port()), &vec![n; 32_000]);
    }
    // Longer than any datagram, and to nowhere.
    one.send(&mut batch, at(two.port()), &vec![9; 70_000]);
    one.send(&mut batch, at(0), &[9; 10]);
    one.send(&mut batch, "[::1]:9".parse().unwrap(), &[9; 10]);
    one.send(&mut batch, at(two.port()), b"still here");
    one.flush(&mut batch);
    let all = heard(&two, 3).await;
    let lengths: Vec<_> = all.iter().map(|(_, datagram)| datagram.len()).collect();
    assert_eq!(lengths, [32_000, 32_000, 10]);
}

#[tokio::test]
async fn an_empty_datagram_is_passed_over_and_the_next_is_read() {
    let sockets = Sockets::bind(&Interfaces::Only(HERE), 0).unwrap();
    let other = StdSocket::bind(at(0)).unwrap();
    for said in [&b""[..], b"something"] {
        other.send_to(said, at(sockets.port())).unwrap();
    }
    let all = heard(&sockets, 1).await;
    assert_eq!(all, [(other.local_addr().unwrap(), b"something".to_vec())]);
}
