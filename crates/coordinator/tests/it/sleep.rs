//! A node of ours whose machine sleeps: a process of its own, that is halted and goes on. It prints how long that silenced its streams.

use crate::{
    nodes::{address, echo, heard, on_the_mesh},
    pairs::{Node, all_go_on, end, route},
    stock,
    talk::{PATIENCE, Talk},
};
use allod_meshnode::{
    Interfaces, Member, MemberSettings, Route,
    control::{ControlSettings, Trust},
};
use allod_meshproto::token::JoinToken;
use allod_proto::Timestamp;
use allod_testkit::{
    certificate::{PEM, believed},
    lab::{Host, Router, random},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    time::{sleep, timeout},
};

/// What the process is told: a folder of its own, what lets it in, the folder of the certificate.
const TOLD: [&str; 3] = ["ALLOD_TEST_SLEEPER", "ALLOD_TEST_TOKEN", "ALLOD_TEST_CERTIFICATE"];
/// A peer that does not acknowledge for so long is gone: streams end there while this one sleeps.
const STREAMS_END: Duration = Duration::from_secs(110);

/// How long it sleeps: longer than paths are trusted and relays wait for an answer.
fn long() -> Duration {
    let given = std::env::var_os("ALLOD_TEST_SLEEP_SECONDS").and_then(|given| given.into_string().ok());
    Duration::from_secs(given.map_or(27, |given| given.parse().unwrap()))
}

/// A node of ours in a process of its own, ended with the test.
struct Sleeper {
    process: Child,
    asking: tokio::process::ChildStdin,
    said: Lines<BufReader<tokio::process::ChildStdout>>,
    at: IpAddr,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Sleeper {
    async fn start(host: &Host, folder: &Path, token: &str) -> Self {
        let mut program = host.program(&std::env::current_exe().unwrap());
        program.args(["--exact", "sleep::sleeper", "--ignored", "--nocapture"]);
        let own = folder.join("sleeper");
        let told = [own.as_os_str(), token.as_ref(), folder.as_os_str()];
        program.envs(TOLD.into_iter().zip(told)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = program.spawn().unwrap();
        let asking = tokio::process::ChildStdin::from_std(process.stdin.take().unwrap()).unwrap();
        let said = tokio::process::ChildStdout::from_std(process.stdout.take().unwrap()).unwrap();
        let at = IpAddr::from([0, 0, 0, 0]);
        let mut this = Self { process, asking, said: BufReader::new(said).lines(), at };
        this.at = this.says("is").await.parse().unwrap();
        this
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn is_halted(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // After the name, which is in brackets.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    async fn ask(&mut self, words: &str) {
        self.asking.write_all(format!("{words}\n").as_bytes()).await.unwrap();
    }

    /// What it says after this word.
    async fn says(&mut self, word: &str) -> String {
        let saying = async {
            loop {
                let line = self.said.next_line().await.unwrap().expect("it has ended");
                if let Some((before, rest)) = line.split_once(' ')
                    && before == word
                {
                    return rest.to_owned();
                }
            }
        };
        timeout(PATIENCE, saying).await.unwrap_or_else(|_| panic!("it never says {word}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_ours_that_slept_finds_its_peers_again_and_goes_on_where_it_was() {
    let Some(mut lab) = stock::lab() else { return };
    let hosts = [121, 122, 123].map(|site| lab.host(site, Router::Mild));
    let (mesh, folder) = stock::mesh(&lab).await;
    let [a, b, c] = &hosts;
    let ours = Node::ours("ours", &mesh, a).await;
    let stock = Node::stock("stock", &mesh, b, &folder).await;
    let (Node::Ours { member, .. }, Node::Stock { client, .. }) = (&ours, &stock) else {
        unreachable!("one of each")
    };
    let mut sleeper = Sleeper::start(c, folder.path(), &mesh.token_line().await).await;
    let (at, others) = (sleeper.at, [ours.address(), stock.address()]);
    let all_are_heard = async |sleeper: &mut Sleeper| {
        heard(member, at).await;
        client.hears(at).await;
        for other in others {
            sleeper.ask(&format!("hear {other}")).await;
            sleeper.says("heard").await;
        }
    };
    all_are_heard(&mut sleeper).await;
    let is_direct =
        async || matches!(route(member, at), Some(Route::Direct(_))) && client.direct(at).await.is_some();
    let direct = async |what: &str| {
        let begun = Instant::now();
        let waiting = async {
            while !is_direct().await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: never directly"));
        eprintln!("{what}: direct after {:.1} s", begun.elapsed().as_secs_f32());
    };
    let mut talks = Vec::new();
    let outlive = long() < STREAMS_END;
    if outlive {
        talks.push(Talk::ours("ours to the sleeper".to_owned(), member, at).await);
        talks.push(Talk::stock("stock to the sleeper".to_owned(), client, at));
        for other in others {
            sleeper.ask(&format!("talk {other}")).await;
        }
    }
    direct("awake").await;
    sleeper.signal(Signal::STOP);
    sleep(long()).await;
    assert!(sleeper.is_halted(), "somebody woke it");
    sleeper.signal(Signal::CONT);
    let begun = Instant::now();
    all_are_heard(&mut sleeper).await;
    eprintln!("awake again after {:?}: all heard after {:.1} s", long(), begun.elapsed().as_secs_f32());
    all_go_on(&talks, "awake again").await;
    direct("awake again").await;
    end(talks).await;
    if outlive {
        sleeper.ask("end").await;
        for _ in others {
            eprintln!("  the sleeper to {}", sleeper.says("silence").await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process of the test above"]
async fn sleeper() {
    let [folder, token, certificate] =
        TOLD.map(|name| std::env::var_os(name).unwrap().into_string().unwrap());
    let token = JoinToken::parse(&token).unwrap();
    let begun = Instant::now();
    let control = ControlSettings {
        urls: token.urls().to_vec(),
        trust: Trust::Root { root: token.root(), seen: 0 },
        tls: Some(believed(&Path::new(&certificate).join(PEM))),
        hostname: "sleeper".to_owned(),
        join_key: Some(token.join_key().to_owned().into()),
        ephemeral: false,
    };
    let member = Member::open(MemberSettings {
        folder: PathBuf::from(folder),
        control,
        interfaces: Interfaces::System,
        random: random(),
        clock: Arc::new(move || Timestamp(1_800_000_000_000).plus(begun.elapsed())),
    })
    .unwrap();
    on_the_mesh(&member).await;
    let _echo = echo(&member);
    say(&format!("is {}", address(&member)));
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    let mut talks = Vec::new();
    while let Some(line) = asked.next_line().await.unwrap() {
        match line.split_once(' ') {
            Some(("hear", other)) => {
                heard(&member, other.parse().unwrap()).await;
                say(&format!("heard {other}"));
            }
            Some(("talk", other)) => {
                talks.push(Talk::ours(other.to_owned(), &member, other.parse().unwrap()).await);
            }
            _ => {
                for talk in std::mem::take(&mut talks) {
                    let name = talk.name.clone();
                    let (_, silence) = talk.end().await;
                    say(&format!("silence {name}: longest silence {:.1} s", silence.as_secs_f32()));
                }
            }
        }
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout();
    // The runner of the tests has begun a line.
    writeln!(out, "\n{words}").unwrap();
    out.flush().unwrap();
}
