//! F17: the size of the binary, how soon each program answers after its start in an empty folder, and how soon `--help`
//! is printed.

use super::{Row, f1::milliseconds};
use crate::{
    bench::{Bench, write},
    interleave::{Contender, Sample, Series, interleave},
    process::{Running, command, free_port, output, run_short},
    report::{Better, Figure, Goal, OURS, Report},
    stop,
};
use anyhow::{Result, bail};
use std::{
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) const ROW: Row = Row {
    name: "f17",
    what: "binary, start of each program, `allod --help`",
    goal: "<= 40 MB; <= 200 ms; <= 10 ms",
    run,
};

/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let bytes = std::fs::metadata(&bench.allod.program)?.len();
    let size = Series { who: OURS.to_owned(), values: vec![f64::from(u32::try_from(bytes)?) / 1e6] };
    report.add(Figure::compare("binary", "MB", Better::Lower, &[size], Some(Goal::AtMost(40.0))));
    let mut round = 0;
    let turn = || {
        round += 1;
        let mut sample = starts(bench, round)?;
        let help = bench.much(20, 3);
        let mut total = Duration::ZERO;
        for _ in 0..help {
            let mut asking = command(&bench.allod.program);
            asking.arg("--help");
            total += run_short("allod --help", asking)?;
        }
        sample.insert("help", milliseconds(total / help));
        Ok(sample)
    };
    let samples = interleave(
        &bench.progress,
        report,
        "f17: starts",
        bench.rounds(11),
        vec![Contender::new(OURS, turn)],
    )?;
    for program in ["executor", "agent", "proxy", "hub"] {
        let name = format!("`allod {program}`, start to first answer");
        report.add(Figure::compare(
            name,
            "ms",
            Better::Lower,
            &samples.series(program),
            Some(Goal::AtMost(200.0)),
        ));
    }
    let help = samples.series("help");
    report.add(Figure::compare("`allod --help`", "ms", Better::Lower, &help, Some(Goal::AtMost(10.0))));
    report.note("The state folder is empty: keys are made and written durably within the time. The binary is in the page cache.");
    Ok(())
}

/// Starts each program once, who is needed before who needs it.
fn starts(bench: &Bench, round: u32) -> Result<Sample> {
    let folder = bench.folder(&format!("start-{round}"))?;
    for name in ["s/agent", "r", "k"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    let key = folder.join("k/owner");
    let mut making = command("ssh-keygen");
    making.args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f"]).arg(&key);
    output("ssh-keygen", making)?;
    let owner = std::fs::read_to_string(key.with_extension("pub"))?;
    write(&folder.join("k/line"), &format!("role=\"owner\" {owner}"))?;
    let socket = folder.join("e.sock");
    let start = |program: &str, arguments: &dyn Fn(&mut Command), answers: &dyn Fn() -> bool| {
        let mut command = command(&bench.allod.program);
        command.arg(program);
        arguments(&mut command);
        timed(program, command, &folder.join(format!("{program}.log")), answers)
    };
    let state = |command: &mut Command| {
        command.arg("--state").arg(folder.join("s")).arg("--run").arg(folder.join("r"));
    };
    let executor = start(
        "executor",
        &|command| {
            state(command);
            command.arg("--listen").arg(&socket).arg("--first-owner").arg(folder.join("k/line"));
        },
        &|| UnixStream::connect(&socket).is_ok(),
    )?;
    let (control, routes, web) = (folder.join("p.sock"), folder.join("routes.json"), free_port()?);
    let proxy = start(
        "proxy",
        &|command| {
            command.arg("--control").arg(&control).arg("--routes").arg(&routes);
            command.args(["--listen", &format!("127.0.0.1:{web}")]);
        },
        &|| UnixStream::connect(&control).is_ok(),
    )?;
    let management = free_port()?;
    let agent = start(
        "agent",
        &|command| {
            state(command);
            command.arg("--executor").arg(&socket).arg("--proxy-control").arg(&control);
            command.arg("--routes").arg(&routes).args(["--name", "bench", "--mesh", "loopback"]);
            command.args(["--listen", &format!("127.0.0.1:{management}")]);
        },
        &|| TcpStream::connect(("127.0.0.1", management)).is_ok(),
    )?;
    let port = free_port()?;
    let hub = start(
        "hub",
        &|command| {
            command.arg("--state").arg(folder.join("s"));
            command.args(["--mesh", "loopback", "--listen", &format!("127.0.0.1:{port}")]);
        },
        &|| TcpStream::connect(("127.0.0.1", port)).is_ok(),
    )?;
    let sample = [("executor", &executor), ("proxy", &proxy), ("agent", &agent), ("hub", &hub)];
    let sample = sample.into_iter().map(|(name, (_, took))| (name, milliseconds(*took))).collect();
    drop((agent, hub, proxy, executor));
    std::fs::remove_dir_all(folder)?;
    Ok(sample)
}

fn timed(
    name: &str,
    command: Command,
    log: &Path,
    answers: &dyn Fn() -> bool,
) -> Result<(Running, Duration)> {
    let begun = Instant::now();
    let mut running = Running::start(name, command, log)?;
    while !answers() {
        if let Err(error) = running.check() {
            bail!("{error}: {}", std::fs::read_to_string(log).unwrap_or_default());
        }
        if begun.elapsed() > PATIENCE {
            bail!("{name} does not answer");
        }
        stop::check()?;
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok((running, begun.elapsed()))
}
