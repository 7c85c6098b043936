//! Tables of situations, as data: `tables/routing.tsv` and `tables/life.tsv` say what their columns are.

use crate::support::{Instance, LONG, Proxy, read_all, route, status};
use allod_proto::routes::{ProxyAnswer, ProxyAsk, Route, RouteTarget, Upstream};
use std::{collections::HashMap, sync::Arc};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};

/// Rows of cells, without comments and empty lines, each with its line's number.
fn rows(text: &'static str) -> impl Iterator<Item = (usize, Vec<&'static str>)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let rows = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(at, line)| (at, line.split('\t').collect()))
}

fn instances(instance: &Instance) -> RouteTarget {
    RouteTarget::Instances(vec![Upstream { address: instance.address, uid: None }])
}

/// The header of an answer, or nothing.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let lines = answer.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(known, _)| *known == name)
        .map_or("", |(_, value)| value)
}

#[tokio::test]
async fn every_host_and_path_of_the_table_goes_where_it_says() {
    let mut apps = HashMap::new();
    let proxy = Proxy::start(Vec::new()).await;
    let (mut routes, mut loaded, mut asked): (Vec<Route>, bool, usize) = (Vec::new(), false, 0);
    for (line, row) in rows(include_str!("tables/routing.tsv")) {
        match row.as_slice() {
            ["table", _] => (routes, loaded) = (Vec::new(), false),
            ["route", pattern, app, strip] => {
                if !apps.contains_key(app) {
                    apps.insert(*app, Instance::start(app).await);
                }
                let mut made = route(pattern, instances(&apps[app]));
                made.app = app.parse().unwrap();
                made.strip_prefix = *strip == "strip";
                routes.push(made);
            }
            ["ask", host, path, expected, seen, _] => {
                if !loaded {
                    proxy.load(routes.clone()).await;
                    loaded = true;
                }
                let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                let answer = proxy.exchange(request).await;
                let (who, code) =
                    (header(&answer, "x-name").to_ascii_lowercase(), status(&answer).to_string());
                let got = if code == "200" { who } else { code };
                assert_eq!(got, *expected, "line {line}: {answer}");
                if *seen != "-" {
                    assert_eq!(header(&answer, "x-seen"), *seen, "line {line}");
                }
                asked += 1;
            }
            _ => panic!("line {line} is none of the table's: {row:?}"),
        }
    }
    assert!(asked >= 60, "only {asked} questions");
}

/// One case of `life.tsv` on its way.
struct Life {
    proxy: Arc<Proxy>,
    old: Arc<Instance>,
    new: Arc<Instance>,
    begun: HashMap<&'static str, JoinHandle<String>>,
}

impl Life {
    async fn new() -> Self {
        let (old, new) = (Instance::start("old").await, Instance::start("new").await);
        Self { proxy: Arc::new(Proxy::start(Vec::new()).await), old, new, begun: HashMap::new() }
    }

    fn instance(&self, name: &str) -> &Arc<Instance> {
        if name == "old" { &self.old } else { &self.new }
    }

    async fn step(&mut self, row: &[&'static str]) {
        match row {
            ["note", _] => {}
            ["route", "gone"] => self.proxy.load(Vec::new()).await,
            ["route", "stopped"] => {
                let target = RouteTarget::Stopped { message: "back soon".to_owned() };
                self.proxy.load(vec![route("/", target)]).await;
            }
            ["route", name] => self.proxy.load(vec![route("/", instances(self.instance(name)))]).await,
            ["ask", path, code, who] => judge(&self.proxy.get(path).await, code, who),
            ["begin", name, path] => self.begin(name, path).await,
            ["release", name] => self.instance(name).go_on.notify_one(),
            ["end", name, code, who] => {
                let answer =
                    tokio::time::timeout(LONG, self.begun.remove(name).unwrap()).await.unwrap().unwrap();
                judge(&answer, code, who);
            }
            ["drain", name, wait, cut] => {
                let upstream = self.instance(name).address;
                let ask = ProxyAsk::Drain { upstream, timeout_ms: wait.parse().unwrap() };
                match self.proxy.ask(ask).await {
                    ProxyAnswer::Drained { cut: was } => assert_eq!(was.to_string(), *cut),
                    ProxyAnswer::Failed { .. } => assert_eq!(*cut, "refused"),
                    other => panic!("{other:?}"),
                }
            }
            ["pause", wait] => {
                let ask = ProxyAsk::Pause { app: "blog".parse().unwrap(), timeout_ms: wait.parse().unwrap() };
                assert_eq!(self.proxy.ask(ask).await, ProxyAnswer::Done);
            }
            ["resume"] => {
                let ask = ProxyAsk::Resume { app: "blog".parse().unwrap() };
                assert_eq!(self.proxy.ask(ask).await, ProxyAnswer::Done);
            }
            _ => panic!("a step that is none: {row:?}"),
        }
    }

    /// Begins a request and waits until it is where it will wait.
    async fn begin(&mut self, name: &'static str, path: &'static str) {
        let (proxy, in_flight) = (Arc::clone(&self.proxy), self.in_flight().await);
        let asking = tokio::spawn(async move {
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            read_all(&mut stream).await
        });
        self.begun.insert(name, asking);
        if path == "/slow" {
            self.old.arrived.notified().await;
        }
        while self.in_flight().await <= in_flight {
            tokio::task::yield_now().await;
        }
    }

    async fn in_flight(&self) -> u64 {
        let ProxyAnswer::Status(status) = self.proxy.ask(ProxyAsk::Status).await else { panic!("no status") };
        status.in_flight
    }
}

fn judge(answer: &str, code: &str, who: &str) {
    assert_eq!(status(answer).to_string(), code, "{answer}");
    let named = if code == "200" { "x-name" } else { "x-allod-error" };
    assert_eq!(header(answer, named).to_ascii_lowercase(), who, "{answer}");
}

#[tokio::test]
async fn deploys_drains_pauses_and_stops_do_what_the_table_says() {
    let (mut life, mut name, mut cases) = (Life::new().await, "", 0);
    for (line, row) in rows(include_str!("tables/life.tsv")) {
        if let ["case", next] = row.as_slice() {
            (life, name, cases) = (Life::new().await, *next, cases + 1);
            continue;
        }
        let step = tokio::time::timeout(LONG * 2, life.step(&row));
        assert!(step.await.is_ok(), "{name:?} hangs at line {line}");
    }
    assert!(cases >= 12, "only {cases} cases");
}
