//! Programs that may not have what they need: few descriptors, little memory. What can't be done is refused with words,
//! what serves goes on serving, and nothing is lost.

use crate::{load::Load, processes::eventually, visitor::get, world::World};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Sets a limit of a running program, and gives back what it was.
fn limit(pid: u32, resource: Resource, current: u64) -> Rlimit {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let before = rustix::process::getrlimit(resource);
    prlimit(Some(pid), resource, Rlimit { current: Some(current), maximum: before.maximum }).unwrap()
}

fn descriptors(pid: u32) -> u64 {
    u64::try_from(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).unwrap()
}

fn address_space(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

/// Deploys while a program is short of something. It may work or be refused; what serves serves on, and afterwards
/// everything is as it was.
async fn deploys_while_short(program: &str, resource: Resource, of: impl Fn(u32) -> u64) {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let load = Load::of(world.http, "/", 2, std::time::Duration::from_millis(20));
    let pid = world.pid(program);
    let before = limit(pid, resource, of(pid));
    let short = app.deploy(&world, "v2").await;
    if short.code != 0 {
        assert!(matches!(short.code, 1 | 6 | 7 | 8), "{short:?}");
        let fault = &short.json()["fault"];
        assert!(!fault["message"].as_str().unwrap().is_empty(), "{short:?}");
    }
    let served = get(world.http, "a", "/").await.unwrap();
    let expected = if short.code == 0 { vec!["v2"] } else { vec!["v1", "v2"] };
    assert!(expected.contains(&served.header("x-version").unwrap()), "{served:?} after {short:?}");
    if world.pid(program) == pid {
        limit(pid, resource, before.current.unwrap_or(u64::MAX));
    }
    eventually("the server answers", async || {
        (world.allod(&["servers", "status"]).await.code == 0).then_some(())
    })
    .await;
    world.is_idle().await;
    app.deploy(&world, "v3").await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v3"));
    eprintln!("{program} short of {resource:?}: the deploy ended with {}", short.code);
    load.stop().await.all_answered();
    world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn an_agent_short_of_descriptors_refuses_or_deploys_and_visitors_notice_nothing() {
    deploys_while_short("agent", Resource::Nofile, |pid| descriptors(pid) + 2).await;
}

#[tokio::test]
async fn an_executor_short_of_descriptors_refuses_or_deploys_and_visitors_notice_nothing() {
    deploys_while_short("executor", Resource::Nofile, |pid| descriptors(pid) + 1).await;
}

#[tokio::test]
async fn an_agent_short_of_memory_refuses_or_deploys_and_visitors_notice_nothing() {
    deploys_while_short("agent", Resource::As, |pid| address_space(pid) + 256 * 1024).await;
}

#[tokio::test]
async fn an_executor_short_of_memory_refuses_or_deploys_and_visitors_notice_nothing() {
    deploys_while_short("executor", Resource::As, |pid| address_space(pid) + 256 * 1024).await;
}
