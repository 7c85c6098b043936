use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Running {
    address: SocketAddr,
    end: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(healthy: bool) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let surroundings = Surroundings {
        address,
        version: "v7".to_owned(),
        instance: "web-1".to_owned(),
        release: "r".to_owned(),
    };
    let (end, ended) = watch::channel(false);
    let app = Arc::new(App::new(surroundings, healthy, ended.clone()));
    let task = tokio::spawn(serve(listener, app, ended));
    Running { address, end, task }
}

impl Running {
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await
    }
}

#[tokio::test]
async fn an_app_that_is_never_healthy_says_so_and_serves_on() {
    let app = start(false).await;
    assert!(app.get("/health").await.starts_with("HTTP/1.1 503"));
    assert!(app.get("/").await.contains("Hello, v7"));
}

#[tokio::test]
async fn what_is_not_there_is_not_there() {
    let app = start(true).await;
    assert!(app.get("/env").await.starts_with("HTTP/1.1 404"));
    assert!(app.get("/ws").await.starts_with("HTTP/1.1 426"));
    let posted =
        app.ask("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_wish_to_end_and_a_new_one_is_not() {
    let app = start(true).await;
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    slow.write_all(b"GET /slow?ms=300 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // The page on another connection was answered, so the slow request before it has been read or will be.
    app.get("/health").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    app.end.send_replace(true);
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("v7\n"), "{answer}");
    app.task.await.unwrap();
    assert!(TcpStream::connect(app.address).await.is_err());
}

#[tokio::test]
async fn events_come_one_by_one_and_a_large_body_whole() {
    let app = start(true).await;
    let events = app.get("/events?ms=1&count=3").await;
    assert_eq!(events.matches("data: v7").count(), 3, "{events}");
    let big = app.get("/big?bytes=200000").await;
    let (head, body) = big.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 200000"), "{head}");
    assert_eq!(body.len(), 200_000);
}

#[tokio::test]
async fn a_websocket_echoes_and_closes() {
    let app = start(true).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let asked = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    // "hi", masked with 1 2 3 4.
    stream.write_all(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, [0x81, 2, b'h', b'i']);
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0x88, 0]);
}
