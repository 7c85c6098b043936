//! TLS with own certificates, by real clients: curl, rustls, and sockets that do not keep to the rules.

use crate::support::{Instance, LONG, Proxy, read_all, read_until, status, to};
use allod_proto::routes::{ProxyAnswer, ProxyAsk};
use allod_proxy::{Order, RunError, Settings};
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates")
}

/// Puts a pair where the proxy looks for it, under another name perhaps.
fn put(folder: &Path, pair: &str, stem: &str) {
    std::fs::copy(fixtures().join(format!("{pair}.pem")), folder.join(format!("{stem}.pem"))).unwrap();
    let key = folder.join(format!("{stem}.key"));
    std::fs::copy(fixtures().join(format!("{pair}.key")), &key).unwrap();
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

struct Secure {
    proxy: Proxy,
    tls: SocketAddr,
    instance: Arc<Instance>,
    certificates: tempfile::TempDir,
}

impl Secure {
    async fn start(pairs: &[&str]) -> Self {
        Self::start_with(pairs, |_| {}).await
    }

    async fn start_with(pairs: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let certificates = tempfile::tempdir().unwrap();
        pairs.iter().for_each(|pair| put(certificates.path(), pair, pair));
        let instance = Instance::start("one").await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = listener.local_addr().unwrap();
        let proxy = Proxy::start_with(to(&[instance.address]), |settings| {
            settings.tls_listeners.push(listener);
            settings.certificates = Some(certificates.path().to_owned());
            change(settings);
        })
        .await;
        Self { proxy, tls, instance, certificates }
    }

    async fn connect(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.tls, name, &TLS13, &[]).await
    }

    /// The certificate that the proxy shows for this name.
    async fn shown(&self, name: &str) -> Vec<u8> {
        let stream = self.connect(name).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap().first().unwrap().to_vec()
    }

    async fn curl(&self, words: &[&str]) -> String {
        let http = self.proxy.address.port();
        let resolve = [self.tls.port(), http].map(|port| format!("a.example:{port}:127.0.0.1"));
        let authority = fixtures().join("authority.pem");
        let output = tokio::process::Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--cacert"])
            .arg(authority)
            .args(["--resolve", &resolve[0], "--resolve", &resolve[1]])
            .args(words)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn connect(
    address: SocketAddr,
    name: &str,
    version: &'static SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixtures().join("authority.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio::time::timeout(LONG, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

fn pem(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(fixtures().join(name)).unwrap().to_vec()
}

#[tokio::test]
async fn a_name_without_a_certificate_is_refused_by_its_own_alert() {
    let secure = Secure::start(&["a"]).await;
    for name in ["b.example", "x.a.example", "127.0.0.1"] {
        let refused = secure.connect(name).await.unwrap_err().to_string();
        assert!(refused.contains("UnrecognisedName"), "{name}: {refused}");
    }
    assert_eq!(secure.instance.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_not_tls_is_refused_there() {
    let secure = Secure::start(&["a"]).await;
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 64], &[0x80; 9]]
    {
        let mut stream = TcpStream::connect(secure.tls).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(!answer.contains("HTTP/"), "{answer:?}");
    }
    assert_eq!(secure.instance.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn listeners_with_tls_but_no_certificates_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for certificates in [None, Some(folder.path().join("missing"))] {
        let mut settings = crate::support::settings(&folder, Vec::new());
        settings.tls_listeners.push(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        settings.certificates = certificates.clone();
        let (_orders, given) = tokio::sync::mpsc::unbounded_channel();
        let outcome = allod_proxy::run(settings, given).await;
        let is_right = match certificates {
            None => matches!(outcome, Err(RunError::NoCertificates)),
            Some(_) => matches!(outcome, Err(RunError::Certificates(_))),
        };
        assert!(is_right, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_name_has_its_own_certificate_before_a_wildcards() {
    let secure = Secure::start(&["b", "wildcard"]).await;
    assert_eq!(secure.shown("b.shop.example").await, pem("b.pem"));
    assert_eq!(secure.shown("c.shop.example").await, pem("wildcard.pem"));
}

#[tokio::test]
async fn a_broken_pair_is_named_and_the_others_are_served() {
    let secure = Secure::start(&["a", "b"]).await;
    std::fs::write(secure.certificates.path().join("b.key"), "torn").unwrap();
    put(secure.certificates.path(), "wildcard", "new");
    let answer = secure.proxy.ask(ProxyAsk::Certificates).await;
    let ProxyAnswer::Certificates { names, complaints } = answer else { panic!("{answer:?}") };
    assert_eq!(names, ["*.shop.example", "a.example", "b.example", "b.shop.example"]);
    assert!(complaints.len() == 1 && complaints[0].contains("b.key"), "{complaints:?}");
    assert_eq!(secure.shown("b.example").await, pem("b.pem"), "it is served as it was");
    assert_eq!(secure.shown("c.shop.example").await, pem("wildcard.pem"));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_without_a_restart() {
    let secure = Secure::start(&["a"]).await;
    let mut before = secure.connect("a.example").await.unwrap();
    put(secure.certificates.path(), "a-renewed", "a");
    secure.proxy.order(Order::Certificates);
    let renewed = async {
        while secure.shown("a.example").await != pem("a-renewed.pem") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, renewed).await.unwrap();
    before.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    before.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200, "an open connection is left alone: {answer}");
}

#[tokio::test]
async fn versions_1_2_and_1_3_are_spoken_and_the_protocol_is_agreed_on() {
    let secure = Secure::start(&["a"]).await;
    for version in [&TLS12, &TLS13] {
        for (offered, agreed) in [
            (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
            (&[b"http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let stream = connect(secure.tls, "a.example", version, offered).await.unwrap();
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.alpn_protocol(), agreed);
        }
        let refused = connect(secure.tls, "a.example", version, &[b"http/0.9"]).await.unwrap_err();
        assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    }
}

#[tokio::test]
async fn curl_is_served_over_both_versions_of_http_and_the_instance_is_told_https() {
    let secure = Secure::start(&["a"]).await;
    let url = format!("https://a.example:{}/head", secure.tls.port());
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for least in ["--tlsv1.2", "--tlsv1.3"] {
            let written = secure.curl(&[flag, least, "--write-out", "%{http_version}", &url]).await;
            assert!(written.ends_with(version), "{written}");
            assert!(written.contains("x-forwarded-proto: https\n"), "{written}");
        }
    }
    let big = "x".repeat(200_000);
    let file = secure.certificates.path().join("upload");
    std::fs::write(&file, &big).unwrap();
    let data = format!("@{}", file.display());
    let echo = format!("https://a.example:{}/echo", secure.tls.port());
    for flag in ["--http1.1", "--http2"] {
        assert_eq!(secure.curl(&[flag, "--data-binary", &data, &echo]).await, big, "{flag}");
    }
}

#[tokio::test]
async fn curl_follows_from_http_to_https_with_method_body_and_path() {
    let certificates = ["a"];
    let secure = Secure::start_with(&certificates, |settings| {
        let port = settings.tls_listeners[0].local_addr().unwrap().port();
        settings.https_redirect = Some(port);
    })
    .await;
    let url = format!("http://a.example:{}/echo?a=b", secure.proxy.address.port());
    assert_eq!(secure.curl(&["--location", "--data-binary", "7", &url]).await, "7");
    let written =
        secure.curl(&["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}", &url]).await;
    assert_eq!(written, format!("308 https://a.example:{}/echo?a=b", secure.tls.port()));
}

#[tokio::test]
async fn who_comes_without_tls_is_sent_away_before_any_route_is_looked_at() {
    let secure = Secure::start_with(&["a"], |settings| settings.https_redirect = Some(443)).await;
    let answer = secure.proxy.exchange("GET /x?y HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&answer), 400, "nobody knows where to: {answer}");
    let answer = secure.proxy.get("/x?y").await;
    assert!(status(&answer) == 308 && answer.contains("location: https://a.example/x?y\r\n"), "{answer}");
    let asked = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let answer = secure.proxy.exchange(asked).await;
    assert_eq!(status(&answer), 308, "a stranger's word: {answer}");
    assert_eq!(secure.instance.requests.load(Ordering::SeqCst), 0);
    let behind = Secure::start_with(&["a"], |settings| {
        settings.https_redirect = Some(443);
        settings.trusted_hops = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let answer = behind.proxy.exchange(asked).await;
    assert_eq!(status(&answer), 200, "a trusted hop has spoken https with the client: {answer}");
}

#[tokio::test]
async fn a_slow_handshake_is_cut_off_wherever_it_stops() {
    let secure =
        Secure::start_with(&["a"], |settings| settings.limits.handshake_timeout = Duration::from_millis(50))
            .await;
    let hello = hello(secure.tls).await;
    for sent in [0, 1, 5, 60, hello.len() - 1, hello.len()] {
        let mut stream = TcpStream::connect(secure.tls).await.unwrap();
        stream.write_all(&hello[..sent]).await.unwrap();
        read_all(&mut stream).await;
    }
}

/// The first bytes that a client sends.
async fn hello(_: SocketAddr) -> Vec<u8> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::spawn(async move { connect(address, "a.example", &TLS13, &[]).await.is_ok() });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut body).await.unwrap();
    client.abort();
    [&head[..], &body].concat()
}

#[tokio::test]
async fn handshakes_over_the_bound_wait_for_a_place_and_get_one() {
    let secure = Secure::start_with(&["a"], |settings| settings.limits.handshakes = 1).await;
    // Who says nothing takes no place.
    let _silent = TcpStream::connect(secure.tls).await.unwrap();
    let hello = hello(secure.tls).await;
    let mut stalled = TcpStream::connect(secure.tls).await.unwrap();
    stalled.write_all(&hello).await.unwrap();
    // Its place is taken when the server has answered.
    stalled.read_u8().await.unwrap();
    let waiting = secure.connect("a.example");
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await;
    assert!(early.is_err(), "there is one place, and it is taken");
    drop(stalled);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_tunnel_and_trailers_pass_through_tls_too() {
    let secure = Secure::start(&["a"]).await;
    let mut stream = secure.connect("a.example").await.unwrap();
    stream
        .write_all(
            b"GET /switch HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nx",
        )
        .await
        .unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\nx") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"over tls").await.unwrap();
    let mut echo = [0; 8];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"over tls");
    // The plain listener beside it goes on as ever.
    let mut plain = TcpStream::connect(secure.proxy.address).await.unwrap();
    plain.write_all(b"GET /head HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    assert!(read_until(&mut plain, "x-forwarded-proto: http\n").await.starts_with("HTTP/1.1 200"));
}
