//! F7: a deploy, beside what people do without one: rsync over ssh, then a restart of the app that waits until it answers.
//! Both bring the same folder to the same machine and start the same program.

use super::{Row, f1::milliseconds};
use crate::{
    bench::{Bench, write},
    interleave::{Contender, Sample, interleave},
    process::{free_port, output},
    report::{Better, Figure, Goal, OURS, Report},
    server::Server,
    sshd::Sshd,
};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

pub(crate) const ROW: Row = Row {
    name: "f7",
    what: "deploy: first, nothing changed, one file of 100 MB changed",
    goal: "faster than rsync over ssh and a restart, all three",
    run,
};

/// Bytes of the large file, and how many of them change, in its middle.
const LARGE: usize = 100_000_000;
const CHANGED: usize = 1_000_000;
const SMALL_FILES: usize = 200;

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let rsync = bench.tool(report, "rsync", &["--version"])?;
    bench.tool(report, "curl", &["--version"])?;
    let sshd = Sshd::start(bench, report)?;
    let server = Server::start(bench, "server")?;
    let large = bench.much(LARGE, LARGE / 10);
    let mut round = 0;
    let ours = Contender::new(OURS, || {
        round += 1;
        let app = App::make(bench, &format!("ours{round}"), large)?;
        let deploy = |_: &str| deploy(&server, &app);
        let sample = steps(&app, large, deploy)?;
        output("allod app remove", {
            let mut remove = server.allod(&["--yes", "app", "remove"]);
            remove.current_dir(&app.folder);
            remove
        })?;
        app.remove(sample)
    });
    let mut contenders = vec![ours];
    for host in ["cold", "warm"] {
        let (sshd, program) = (&sshd, &rsync.program);
        let mut round = 0;
        contenders.push(Contender::new(format!("rsync, {host} ssh"), move || {
            round += 1;
            let app = App::make(bench, &format!("{host}{round}"), large)?;
            let site = Site::make(bench, &app)?;
            let sample = steps(&app, large, |_| site.update(program, sshd, host, &app))?;
            drop(site);
            app.remove(sample)
        }));
    }
    let samples = interleave(&bench.progress, report, "f7: deploys", bench.rounds(5), contenders)?;
    for (metric, name) in [
        ("first", "first"),
        ("nothing", "nothing changed"),
        ("changed", "1 MB changed within the file of 100 MB"),
        ("replaced", "every byte of the file of 100 MB changed"),
    ] {
        report.add(Figure::compare(
            name,
            "ms",
            Better::Lower,
            &samples.series(metric),
            Some(Goal::Ratio(1.0)),
        ));
    }
    report.note("Allod has written everything to the disk, durably, when it answers, and serves the old release until the new one is healthy; rsync leaves the writing to the kernel, and the app is away while it restarts.");
    Ok(())
}

/// The steps in their order, each in milliseconds.
fn steps(app: &App, large: usize, mut act: impl FnMut(&str) -> Result<()>) -> Result<Sample> {
    let mut sample = Sample::new();
    for step in ["first", "nothing", "changed", "replaced"] {
        match step {
            "changed" => app.change(large / 2, CHANGED.min(large / 10), 2)?,
            "replaced" => app.change(0, large, 3)?,
            _ => {}
        }
        let begun = Instant::now();
        act(step).context(step)?;
        sample.insert(step, milliseconds(begun.elapsed()));
    }
    Ok(sample)
}

fn deploy(server: &Server, app: &App) -> Result<()> {
    let mut command = server.allod(&["--yes", "--json", "deploy"]);
    command.current_dir(&app.folder);
    output("allod deploy", command).map(|_| ())
}

/// The folder of an app, as its author has it.
struct App {
    name: String,
    folder: PathBuf,
}

impl App {
    fn make(bench: &Bench, name: &str, large: usize) -> Result<Self> {
        let folder = bench.folder(&format!("app-{name}"))?;
        let app = Self { name: name.to_owned(), folder };
        let program = bench.allod.program.display();
        write(&app.folder.join("run.sh"), &format!("#!/bin/sh\nexec '{program}' example-app\n"))?;
        write(&app.folder.join("page.txt"), "v1\n")?;
        let document = format!(
            "name = {name:?}\n\n[units.web]\nstart = [\"sh\", \"run.sh\"]\nroutes = [\"{name}.example\"]\nhealth = \"/health\"\n"
        );
        write(&app.folder.join("allod.toml"), &document)?;
        fs::create_dir_all(app.folder.join("files"))?;
        for number in 0..SMALL_FILES {
            let text = format!("{number} of {name}\n").repeat(150);
            write(&app.folder.join(format!("files/{number}.txt")), &text)?;
        }
        let mut file = File::create(app.folder.join("large.bin"))?;
        file.write_all(&noise(large, 1))?;
        Ok(app)
    }

    /// Other bytes from here on.
    fn change(&self, at: usize, count: usize, seed: u64) -> Result<()> {
        let file = File::options().write(true).open(self.folder.join("large.bin"))?;
        file.write_all_at(&noise(count, seed), u64::try_from(at)?)?;
        Ok(())
    }

    fn remove(self, sample: Sample) -> Result<Sample> {
        fs::remove_dir_all(&self.folder)?;
        // Nobody writes back what another has to wait for.
        rustix::fs::sync();
        Ok(sample)
    }
}

/// Bytes that don't compress and don't repeat (xorshift64*).
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let words = (0..count.div_ceil(8)).flat_map(|_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    });
    words.take(count).collect()
}

/// Where rsync brings an app to, and the script that restarts it there.
struct Site {
    folder: PathBuf,
}

impl Site {
    fn make(bench: &Bench, app: &App) -> Result<Self> {
        let folder = bench.folder(&format!("site-{}", app.name))?;
        let port = free_port()?;
        let script = format!(
            "#!/bin/sh\nset -eu\ncd '{}'\n\
             if [ -f pid ]; then\n  old=$(cat pid)\n  kill \"$old\"\n  \
             while kill -0 \"$old\" 2>/dev/null; do sleep 0.01; done\nfi\n\
             cd app\nPORT={port} setsid sh run.sh >../log 2>&1 </dev/null &\necho $! >../pid\n\
             until curl -sf -o ../health http://127.0.0.1:{port}/health; do sleep 0.01; done\n",
            folder.display()
        );
        write(&folder.join("restart"), &script)?;
        Ok(Self { folder })
    }

    fn update(&self, rsync: &Path, sshd: &Sshd, host: &str, app: &App) -> Result<()> {
        let mut copying = crate::process::command(rsync);
        copying.args(["-a", "--delete", "-e", &format!("ssh -F {}", sshd.settings.display())]);
        copying.arg(format!("{}/", app.folder.display()));
        copying.arg(format!("{host}:{}/app/", self.folder.display()));
        output("rsync", copying)?;
        let script = self.folder.join("restart");
        output("ssh", sshd.command(host, &["sh", &script.to_string_lossy()])).map(|_| ())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.folder.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_does_not_repeat_and_is_the_same_for_a_seed() {
        let some = noise(1_000, 1);
        assert_eq!(some.len(), 1_000);
        assert_eq!(some, noise(1_000, 1));
        assert_ne!(some, noise(1_000, 2));
        assert_ne!(some[..500], some[500..]);
    }
}
