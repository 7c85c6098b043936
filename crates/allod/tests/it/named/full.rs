//! Named commands on a full disk (D7): what can't be recorded isn't run, and what ran when the disk filled has its outcome.
//! Only root can mount a small disk, so this says plainly when it is skipped.

use super::Named;
use crate::{
    cli::Cli,
    full_disk::{SmallDisk, elsewhere},
    processes::eventually,
    world::{World, fresh_folder, fresh_uid},
};
use rustix::fs::FallocateFlags;
use std::path::{Path, PathBuf};

/// A server on a small disk, with its callers' homes on another.
async fn on_a_small_disk(test: &str) -> Option<(Named, SmallDisk, Cli, tempfile::TempDir)> {
    let (folder, home) = (fresh_folder(), fresh_folder());
    let disk = SmallDisk::mount(folder.path(), test)?;
    let named = Named::on(World::up_in(folder, fresh_uid(), "info").await).await;
    let owner = elsewhere(&named.world, home.path());
    Some((named, disk, owner, home))
}

#[tokio::test]
async fn d7_on_a_full_disk_no_door_runs_anything() {
    let test = "d7_on_a_full_disk_no_door_runs_anything";
    let Some((mut named, disk, owner, _home)) = on_a_small_disk(test).await else { return };
    let ran = named.scratch().join("ran");
    named.define_script("write", &format!("echo ran >>{}", ran.display()), "").await;
    // Whatever these need of files is made while there is room.
    named.run(&["write"]).await.ok();
    named.as_sshd_begins_it("write").output().await.unwrap();
    let filler = disk.fill();
    assert_eq!(owner.run(&["run", "write"]).await.refused(1).0, "disk_full");
    for mut asked in [named.as_sshd_begins_it("write"), named.on_the_machine(&["write"])] {
        let output = asked.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the server's disk is full, so nothing new is begun"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "ran\nran\n", "nothing was run");
    std::fs::remove_file(filler).unwrap();
    eventually("there is room", async || (owner.run(&["run", "write"]).await.code == 0).then_some(())).await;
    named.world.allod(&["audit", "verify"]).await.ok();
    // They were counted meanwhile, and are told when there is room: when their minute is over, or this life.
    assert_eq!(named.world.stop(), Some(0));
    let record = std::fs::read_to_string(newest_segment(&named.world.state.join("record"))).unwrap();
    for name in ["builder", "owner", "root on this machine"] {
        let of = |line: &&str| line.contains("\"entry\":\"counted\"") && line.contains(name);
        assert!(record.lines().any(|line| of(&line)), "{name}: {record}");
    }
}

/// Twenty runs by all doors, and the disk filled while they ran.
struct Filled {
    named: Named,
    disk: SmallDisk,
    owner: Cli,
    _home: tempfile::TempDir,
    children: Vec<tokio::process::Child>,
    filler: PathBuf,
}

const KEY: [&str; 2] = ["--idempotency-key", "filled-while-it-ran"];

impl Filled {
    async fn new(test: &str) -> Option<Self> {
        let (named, disk, owner, _home) = on_a_small_disk(test).await?;
        let scratch = named.scratch();
        let script = format!(
            "touch {0}/began-$1; while [ ! -e {0}/go ]; do sleep 0.05; done; echo said; exit 5",
            scratch.display()
        );
        let path = named.script("slow", &script);
        let shell = super::real("/bin/sh");
        let text = format!(
            "exec = [{path:?}, \"{{n}}\"]\ninterpreter = [{shell:?}]\nconcurrency = 20\nparams.n = {{ integer = [1, 20] }}"
        );
        named.define("slow", &text).await;
        owner.run(&[&["run", "slow", "n=1", "--detach"], &KEY[..]].concat()).await.ok();
        // So many that their outcomes need more than is left of the block at the record's end.
        let asked = (2..=20).map(|number| match number {
            2..=9 => named.as_sshd_begins_it(&format!("slow n={number}")),
            _ => named.on_the_machine(&["slow", &format!("n={number}")]),
        });
        let children: Vec<_> = asked.map(|mut asked| asked.spawn().unwrap()).collect();
        eventually("all run", async || {
            (1..=20).all(|number| scratch.join(format!("began-{number}")).exists()).then_some(())
        })
        .await;
        take_what_the_record_has_set_aside(&named.world.state.join("record"));
        let filler = disk.fill();
        Some(Self { named, disk, owner, _home, children, filler })
    }

    /// Lets them end, and says what the callers were told.
    async fn end(&mut self) -> Vec<String> {
        std::fs::write(self.named.scratch().join("go"), "").unwrap();
        let mut told = Vec::new();
        for child in self.children.drain(..) {
            let output = child.wait_with_output().await.unwrap();
            assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b"said\n"[..]));
            told.push(String::from_utf8(output.stderr).unwrap());
        }
        let again = eventually("it has ended", async || {
            let again = self.owner.run(&[&["run", "slow", "n=1", "--detach"], &KEY[..]].concat()).await;
            (again.code == 5).then_some(again)
        })
        .await;
        assert_eq!(again.json()["run"]["state"]["ended"]["how"], "exit status 5");
        assert_eq!(self.owner.run(&["run", "slow", "n=2"]).await.refused(1).0, "disk_full");
        told
    }

    /// How many of them have their outcome in the record.
    async fn recorded(&self) -> usize {
        let record = self.named.record().await;
        let of = |entry: &'static str| record.iter().filter(move |line| line["entry"] == entry);
        let ends = of("intent").filter(|line| line["target"] == "slow").filter_map(|intent| {
            let outcome = of("outcome").find(|line| line["intent"] == intent["seq"])?;
            assert_eq!(outcome["reply"]["end"]["code"], 5, "{outcome}");
            Some(())
        });
        ends.count()
    }
}

#[tokio::test]
async fn d7_a_disk_that_fills_during_a_run_has_room_for_its_outcome() {
    let test = "d7_a_disk_that_fills_during_a_run_has_room_for_its_outcome";
    let Some(mut filled) = Filled::new(test).await else { return };
    let told = filled.end().await;
    assert!(told.iter().all(String::is_empty), "{told:?}");
    assert_eq!(filled.recorded().await, 20, "while the disk is full");
    std::fs::remove_file(&filled.filler).unwrap();
    filled.named.world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn d7_an_outcome_for_which_there_is_no_room_at_all_is_told_and_written_when_there_is() {
    let test = "d7_an_outcome_for_which_there_is_no_room_at_all_is_told_and_written_when_there_is";
    let Some(mut filled) = Filled::new(test).await else { return };
    // What is vital takes the room that was set aside, and somebody fills that too.
    filled.owner.run(&["gate", "resume"]).await.ok();
    take_what_the_record_has_set_aside(&filled.named.world.state.join("record"));
    let more = filled.disk.fill_as("more");
    let told = filled.end().await;
    assert!(told.iter().any(|told| told.contains("its outcome could not be recorded")), "{told:?}");
    assert!(filled.recorded().await < 20);
    for filler in [&filled.filler, &more] {
        std::fs::remove_file(filler).unwrap();
    }
    eventually("all are recorded", async || (filled.recorded().await == 20).then_some(())).await;
    filled.named.world.allod(&["audit", "verify"]).await.ok();
}

fn newest_segment(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.strip_suffix(".jsonl").is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    files.filter(is_segment).max().unwrap()
}

/// The blocks after the newest line go: as if the record had come to the end of what it sets aside in advance.
fn take_what_the_record_has_set_aside(folder: &Path) {
    let segment = std::fs::File::options().write(true).open(newest_segment(folder)).unwrap();
    let after = segment.metadata().unwrap().len().next_multiple_of(4096);
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&segment, flags, after, 16 * 1024 * 1024).unwrap();
}
