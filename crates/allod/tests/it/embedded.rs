//! A server on a mesh of its own, which is what `allod up` makes without flags: the coordinator in the hub, a node for the server,
//! another for the person. Programs are killed and halted while the others work.

use crate::{
    load::Load,
    processes::{PATIENCE, descendants, eventually, is_alive, signal},
    visitor::get,
    world::World,
};
use rustix::process::Signal;
use std::{collections::BTreeSet, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

fn is_on_a_mesh(at: SocketAddr) -> bool {
    matches!(at, SocketAddr::V4(v4) if v4.ip().octets()[0] == 100 && (64..128).contains(&v4.ip().octets()[1]))
}

/// The TCP sockets that processes of these ids listen on.
fn listening(pids: &BTreeSet<u32>) -> BTreeSet<SocketAddr> {
    let mut inodes = BTreeSet::new();
    for pid in pids {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in descriptors.into_iter().flatten().flatten() {
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            let link = link.to_string_lossy().into_owned();
            inodes.extend(
                link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned),
            );
        }
    }
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        // 0A: it listens.
        if words.get(3) != Some(&"0A") || !inodes.contains(*words.get(9)?) {
            return None;
        }
        let (address, port) = words.get(1)?.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.swap_bytes();
        Some(SocketAddr::from((address.to_be_bytes(), u16::from_str_radix(port, 16).ok()?)))
    };
    table.lines().filter_map(row).collect()
}

/// What the hub says to a deed.
async fn hub(world: &World, words: &[&str]) -> serde_json::Value {
    let state = world.state.to_string_lossy().into_owned();
    let mut command = world.cli.command(&[&["hub", "--state", &state], words, &["--json"]].concat());
    crate::cli::ended(command.output().await.unwrap()).ok().json()
}

async fn answers(world: &World) -> bool {
    world.allod(&["servers", "status"]).await.code == 0
}

#[tokio::test]
async fn the_management_api_is_on_the_mesh_and_nowhere_else() {
    let world = World::up_on_a_mesh().await;
    assert!(is_on_a_mesh(world.management), "{}", world.management);
    assert!(answers(&world).await, "{}", world.logs());
    // Nothing leads there past the mesh, and nothing of the machine's own listens but visitors' door and the coordinator.
    assert!(TcpStream::connect(("127.0.0.1", world.management.port())).await.is_err());
    let coordinator =
        world.ready["coordinator"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    assert_eq!(listening(&world.processes()), BTreeSet::from([world.http, coordinator]));
    // The hub is found by its tag, and has witnessed the record.
    eventually("the hub has witnessed the record", async || {
        (world.allod(&["audit", "verify", "--against-hub"]).await.code == 0).then_some(())
    })
    .await;
    // Who is not on the mesh gets nowhere: the same inventory without a place on it.
    let stranger = world.person("stranger", &world.owner());
    let refused = stranger.run(&["servers", "status"]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    // The coordinator's port answers its own questions only.
    let mut door = TcpStream::connect(coordinator).await.unwrap();
    door.write_all(b"GET /status.json HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    door.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn an_app_is_deployed_over_the_mesh_and_any_program_of_the_mesh_may_die_meanwhile() {
    let world = World::up_on_a_mesh().await;
    let app = world.app("blog").with(|options| options.instances = 2);
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let load = Load::begin(world.http, "/");
    for program in ["node", "client-node", "agent", "hub"] {
        let pid = world.kill(program);
        world.is_back(program, pid).await;
        eventually(&format!("the server answers after {program} died"), async || {
            answers(&world).await.then_some(())
        })
        .await;
    }
    app.deploy(&world, "v2").await.ok();
    load.stop().await.all_answered();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v2"));
    assert!(before.iter().all(|pid| !is_alive(*pid)), "copies of v1 are left");
    world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn without_the_hub_servers_answer_apps_are_deployed_and_a_node_that_died_comes_back() {
    let world = World::up_on_a_mesh().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let hub = world.pid("hub");
    // Halted, it holds every connection and answers nothing: worse than gone.
    signal(hub, Signal::STOP);
    assert!(answers(&world).await, "{}", world.logs());
    app.deploy(&world, "v2").await.ok();
    for program in ["node", "client-node"] {
        let pid = world.kill(program);
        world.is_back(program, pid).await;
        eventually(&format!("{program} is back from what it stored"), async || {
            answers(&world).await.then_some(())
        })
        .await;
    }
    app.deploy(&world, "v3").await.ok();
    signal(hub, Signal::CONT);
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v3"));
}

#[tokio::test]
async fn begun_again_everybody_has_the_place_of_before_and_no_new_one() {
    let mut world = World::up_on_a_mesh().await;
    let before = hub(&world, &["nodes", "list"]).await;
    let all = world.processes();
    world.kill_up(&all);
    world.up_again().await;
    assert!(answers(&world).await, "{}", world.logs());
    let names = |document: &serde_json::Value| -> Vec<(String, String)> {
        let nodes = document["nodes"].as_array().unwrap().iter();
        nodes.map(|node| (node["name"].to_string(), node["addresses"].to_string())).collect()
    };
    let after = hub(&world, &["nodes", "list"]).await;
    assert_eq!(names(&after), names(&before));
    assert_eq!(names(&after).len(), 2, "{after}");
    // What let them in is gone, and the root key is with the person.
    for gone in ["node/token", "client-mesh/node/token", "hub/coordinator/root.key"] {
        assert!(!world.state.join(gone).exists(), "{gone} is there");
    }
    assert!(world.cli.home.join("root.key").exists());
}

#[tokio::test]
async fn a_coordinator_whose_port_is_taken_stays_there_and_one_that_a_person_moves_is_found() {
    let mut world = World::up_on_a_mesh().await;
    let at = |world: &World| -> SocketAddr {
        world.ready["coordinator"].as_str().unwrap().trim_start_matches("http://").parse().unwrap()
    };
    let before = at(&world);
    assert_eq!(world.stop(), Some(0));
    let held = std::net::TcpListener::bind(before).unwrap();
    world.up_without_waiting();
    let why = eventually("it says why it does not begin", async || world.refusal()).await;
    assert!(why.contains(&before.port().to_string()) && why.contains("--coordinator"), "{why}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    world.up_again_with(&["--coordinator", &free]).await;
    drop(held);
    assert_eq!(at(&world).to_string(), free);
    assert!(answers(&world).await, "{}", world.logs());
    eventually("both nodes found it", async || {
        let nodes = hub(&world, &["nodes", "list"]).await;
        nodes["nodes"].as_array().unwrap().iter().all(|node| node["online"] == true).then_some(())
    })
    .await;
}

/// A program of this machine that says a word to whoever comes, then what it was told.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut told = Vec::new();
                stream.read_to_end(&mut told).await.unwrap_or_default();
                let _ = stream.write_all(&[b"heard: ", &told[..]].concat()).await;
            });
        }
    });
    at
}

async fn said(mut stream: TcpStream, words: &[u8]) -> String {
    stream.write_all(words).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_persons_own_tools_reach_the_mesh_by_connect_forward_socks_and_serve() {
    let world = World::up_on_a_mesh().await;
    let own = echo().await;
    // What is served on the person's place is reached by name over the mesh, from that place itself.
    let way = format!("7000:{}", own.port());
    let mut serving = world.cli.command(&["--json", "serve", &way]).spawn().unwrap();
    let told = first_line(&mut serving).await;
    let at: SocketAddr = told["listens"][0].as_str().unwrap().parse().unwrap();
    assert!(is_on_a_mesh(at) && at.port() == 7000, "{told}");

    let mut connect = world.cli.command(&["connect", &at.ip().to_string(), "7000"]);
    let mut connect = connect.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = connect.stdin.take().unwrap();
    input.write_all(b"one").await.unwrap();
    drop(input);
    let output = connect.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "heard: one", "{output:?}");

    let way = format!("0:{}:7000", at.ip());
    let mut forwarding = world.cli.command(&["--json", "forward", &way]).spawn().unwrap();
    let near: SocketAddr = first_line(&mut forwarding).await["listens"].as_str().unwrap().parse().unwrap();
    assert_eq!(said(TcpStream::connect(near).await.unwrap(), b"two").await, "heard: two");

    let mut socks = world.cli.command(&["--json", "socks", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let near: SocketAddr = first_line(&mut socks).await["listens"].as_str().unwrap().parse().unwrap();
    let name = "local-operator";
    let stream = through_socks(near, name, 7000).await.unwrap();
    assert_eq!(said(stream, b"three").await, "heard: three");
    // Nothing but the mesh is behind it.
    for elsewhere in ["192.0.2.1", "nobody-of-this-name"] {
        assert!(through_socks(near, elsewhere, 80).await.is_err(), "{elsewhere}");
    }
    for mut child in [serving, forwarding, socks] {
        signal(child.id().unwrap(), Signal::INT);
        assert!(child.wait().await.unwrap().success());
    }
    let gone = world.allod(&["connect", &at.ip().to_string(), "7000"]).await;
    assert_ne!(gone.code, 0, "{gone:?}");
}

#[tokio::test]
async fn a_program_of_others_finds_servers_by_their_names_through_socks_and_no_other_names() {
    let Some(curl) = allod_testkit::peer::find("curl") else { return };
    let world = World::up_on_a_mesh().await;
    let mut socks = world.cli.command(&["--json", "socks", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let near = first_line(&mut socks).await["listens"].as_str().unwrap().to_owned();
    let get = async |host: &str| {
        let mut asking = tokio::process::Command::new(&curl);
        asking.env_clear().args(["--silent", "--show-error", "--fail", "--max-time", "60"]);
        let url = format!("http://{host}:{}/status.json", allod_proto::hub::PORT);
        asking.args(["--noproxy", "", "--socks5-hostname", &near, &url]).output().await.unwrap()
    };
    let nodes = hub(&world, &["nodes", "list"]).await;
    let server = |node: &&serde_json::Value| {
        node["addresses"].as_array().unwrap().iter().any(|at| at == &world.management.ip().to_string())
    };
    let server = nodes["nodes"].as_array().unwrap().iter().find(server).unwrap();
    let name = server["name"].as_str().unwrap();
    for unknown in ["nobody", "nobody.mesh.internal", "localhost"] {
        let refused = get(unknown).await;
        // 97: the proxy refused it.
        assert_eq!(refused.status.code(), Some(97), "{unknown}: {refused:?}");
    }
    for known in [name.to_owned(), format!("{name}.mesh.internal")] {
        let told = get(&known).await;
        assert!(told.status.success(), "{known}: {told:?}");
        let status: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert!(status.is_object(), "{status}");
    }
    signal(socks.id().unwrap(), Signal::INT);
    assert!(socks.wait().await.unwrap().success());
}

async fn first_line(child: &mut tokio::process::Child) -> serde_json::Value {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(crate::processes::PATIENCE, lines.next_line()).await;
    let value = serde_json::from_str(&line.expect("it says nothing").unwrap().unwrap()).unwrap();
    // It goes on speaking to somebody.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    value
}

async fn through_socks(at: SocketAddr, name: &str, port: u16) -> Result<TcpStream, u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend(name.as_bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    if reply[1] == 0 { Ok(stream) } else { Err(reply[1]) }
}

#[tokio::test]
async fn a_second_person_joins_by_one_command_and_leaves_by_another() {
    let world = World::up_on_a_mesh().await;
    let ana = world.person("ana", &world.owner());
    assert_ne!(ana.run(&["servers", "status"]).await.code, 0, "she is not on the mesh yet");
    for bad in ["allod-join-1.nonsense", "hello", ""] {
        let refused = ana.run(&["join", bad]).await;
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(!ana.home.join("state/mesh.json").exists(), "{bad:?} left a place behind");
    }
    let made = hub(&world, &["keys", "create"]).await;
    let token = made["token"].as_str().unwrap();
    let joined = ana.run(&["join", token, "--name", "ana-laptop"]).await.ok().json();
    assert_eq!(joined["up"], true, "{joined}");
    let node = running_node(&ana).await;
    ana.run(&["servers", "status"]).await.ok();
    let mesh = ana.run(&["mesh"]).await.ok().json();
    let names: Vec<_> =
        mesh["peers"].as_array().unwrap().iter().map(|peer| peer["name"].to_string()).collect();
    assert!(names.iter().any(|name| name.contains("local")), "{mesh}");
    // It dies, and the next command starts another.
    signal(node, Signal::KILL);
    eventually("the node is gone", async || (!is_alive(node)).then_some(())).await;
    ana.run(&["servers", "status"]).await.ok();
    let node = running_node(&ana).await;
    // A key that has let somebody in lets nobody else in.
    let bob = world.person("bob", &world.owner());
    let refused = bob.run(&["join", token]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    ana.run(&["leave"]).await.ok();
    assert!(!is_alive(node), "the node outlives `leave`");
    assert_ne!(ana.run(&["servers", "status"]).await.code, 0);
    for left in nodes_below(&bob.home) {
        signal(left, Signal::KILL);
    }
}

/// The nodes whose folders are below this home.
fn nodes_below(home: &std::path::Path) -> Vec<u32> {
    let home = home.to_string_lossy().into_owned();
    let all = descendants(1);
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        words.get(1).is_some_and(|word| word == "node") && words.iter().any(|word| word.starts_with(&home))
    };
    all.into_iter().filter(is_it).collect()
}

async fn running_node(cli: &crate::cli::Cli) -> u32 {
    eventually("a node runs", async || nodes_below(&cli.home).into_iter().find(|pid| is_alive(*pid))).await
}

#[tokio::test]
async fn a_server_elsewhere_joins_by_a_token_is_added_by_name_and_gets_an_app_over_the_mesh() {
    let here = World::up_on_a_mesh().await;
    let made = hub(&here, &["keys", "create", "--tag", "tag:server"]).await;
    let mut there = World::up_joining(made["token"].as_str().unwrap(), "web1").await;
    assert!(is_on_a_mesh(there.management) && there.management != here.management, "{}", there.management);
    assert_eq!(there.ready["pids"].as_object().unwrap().len(), 4, "{}", there.ready);
    // The token stays with whoever has it, and is of no use to anybody.
    let spent = made["token"].as_str().unwrap();
    let bob = here.person("bob", &here.owner());
    assert_ne!(bob.run(&["join", spent]).await.code, 0);

    // Its own first owner lets the other one in; then it is added by its name on the mesh.
    let key = here.owner().public_openssh();
    there.allod(&["keys", "add", &key, "--role", "owner"]).await.ok();
    let identity = there.identity.to_string();
    let wrong = format!("SHA256:{}", "a".repeat(43));
    let before = std::fs::read(here.cli.home.join("servers.toml")).unwrap();
    for bad in [&["nobody", "--identity", &identity][..], &["web1", "--identity", &wrong]] {
        let refused = here.allod(&[&["servers", "add"], bad].concat()).await;
        assert_ne!(refused.code, 0, "{refused:?}");
        assert_eq!(std::fs::read(here.cli.home.join("servers.toml")).unwrap(), before);
    }
    let owner = here.ready["key"].as_str().unwrap();
    here.allod(&["--key", owner, "servers", "add", "web1", "--identity", &identity]).await.ok();
    let both = here.allod(&["servers", "status"]).await.ok().json();
    assert_eq!(both["servers"].as_array().unwrap().len(), 2, "{both}");

    let app = here.app("shop").with(|options| options.server = Some("web1"));
    app.deploy(&here, "v1").await.ok();
    assert_eq!(get(there.http, "a", "/").await.unwrap().header("x-version"), Some("v1"));
    // The hub watches both: what a server reports comes over the mesh too.
    eventually("the hub has heard of both servers", async || {
        let folder = here.state.join("hub/servers");
        (std::fs::read_dir(folder).unwrap().count() == 2).then_some(())
    })
    .await;
    // Begun again, it has its place without the token.
    let all = there.processes();
    there.kill_up(&all);
    std::fs::remove_file(there.state.with_file_name("token")).unwrap();
    there.up_again().await;
    eventually("it is reached again", async || {
        let status = here.allod(&["servers", "status", "--server", "web1"]).await;
        (status.code == 0).then_some(())
    })
    .await;
    app.deploy(&here, "v2").await.ok();
    assert_eq!(get(there.http, "a", "/").await.unwrap().header("x-version"), Some("v2"));
    // Begun again without a hub and without its map, it is on no mesh; visitors are served all the same.
    let hub_pid = here.pid("hub");
    signal(hub_pid, Signal::STOP);
    let all = there.processes();
    there.kill_up(&all);
    std::fs::remove_file(there.state.join("node/place/map.json")).unwrap();
    there.up_without_waiting();
    eventually("visitors are served", async || {
        let answer = get(there.http, "a", "/").await.ok()?;
        (answer.header("x-version") == Some("v2")).then_some(())
    })
    .await;
    crate::processes::within(PATIENCE * 2, "it says that it is not on the mesh", async || {
        (there.events("not_on_the_mesh") == 1).then_some(())
    })
    .await;
    signal(hub_pid, Signal::CONT);
    eventually("it is on the mesh again", async || {
        let status = here.allod(&["servers", "status", "--server", "web1"]).await;
        (status.code == 0).then_some(())
    })
    .await;
    for left in nodes_below(&bob.home) {
        signal(left, Signal::KILL);
    }
}
