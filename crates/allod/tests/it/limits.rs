//! Programs that may not have what they need: few descriptors, little memory. What can't be done is refused with words,
//! what serves goes on serving, and nothing is lost.

use crate::{load::Load, processes::eventually, visitor::get, world::World};
use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, getrlimit, prlimit},
};

/// Sets a limit of a running program, and gives back what it was. `None` where a program of another user may not be
/// limited: that takes a capability which containers often lack.
fn limit(pid: u32, resource: Resource, new: Rlimit) -> Option<Rlimit> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    match prlimit(Some(pid), resource, new) {
        Ok(before) => Some(before),
        Err(Errno::PERM) => None,
        Err(error) => panic!("{resource:?} of {pid:?}: {error}"),
    }
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
    let short = Rlimit { current: Some(of(pid)), maximum: getrlimit(resource).maximum };
    let Some(before) = limit(pid, resource, short) else {
        eprintln!("NOT TESTED: this user may not limit {program}");
        return;
    };
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
        limit(pid, resource, before).unwrap();
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
