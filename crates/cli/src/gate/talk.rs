//! One request at the executor's gate, from the ask to the exit code. What the command prints goes through as it is; when
//! nobody reads it any more, the connection is given up, and so the executor knows.

use crate::{local_door, render::safe};
use allod_proto::{
    Fault, FaultCode,
    gate::{GateAsk, GateInput, GateReply, LINE},
    named::{RunEnd, Stream},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long the executor may take to take a line.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much is read at once.
const PART: usize = 64 * 1024;

/// Asks, and passes on what comes to its end.
///
/// # Errors
/// What the executor refused, or that it does not answer.
pub(super) fn run(run: &Path, ask: &GateAsk) -> Result<u8, Fault> {
    let door = run.join("gate/door.sock");
    let stream = local_door::connect(&door, PATIENCE)?;
    let lost = |error: std::io::Error| local_door::unreachable(&door, &error);
    let mut talk = Talk { stream, read: Vec::new() };
    // Whoever is turned away hears why although nobody reads the ask.
    let sent = talk.send(ask);
    loop {
        let Some(line) = talk.line().map_err(lost)? else {
            sent.map_err(lost)?;
            return Err(Fault::new(FaultCode::Unreachable, "the executor went away before the end")
                .hint("how it ended is in the record: `allod audit show`"));
        };
        let reply = serde_json::from_slice(&line)
            .map_err(|_| Fault::new(FaultCode::Unreachable, "the executor's answer can't be read"))?;
        match reply {
            GateReply::Fault(fault) => return Err(fault),
            GateReply::Help { text, .. } => return Ok(help(ask, &text)),
            GateReply::Text(text) => return Ok(said(&text)),
            GateReply::Stdin { limit } => {
                if let Some(stdin) = talk.input(limit).map_err(lost)? {
                    talk.send(&GateInput { stdin }).map_err(lost)?;
                }
            }
            GateReply::Output { stream, bytes } => {
                if output(stream, &bytes).is_err() {
                    // Nobody reads: leaving is how the executor hears of it.
                    return Ok(1);
                }
            }
            GateReply::Ended(end) => return Ok(ended(&end)),
        }
    }
}

/// The connection, and what was read of it and is no whole line yet.
struct Talk {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Talk {
    fn send(&mut self, message: &impl serde::Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// The next line; `None` at the end, and when nobody reads what we print.
    fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end.saturating_add(1));
                return Ok(Some(std::mem::replace(&mut self.read, rest)));
            }
            if self.read.len() > LINE {
                return Err(std::io::Error::other("a line without an end"));
            }
            if self.nobody_reads()? {
                return Ok(None);
            }
            let mut part = vec![0; PART];
            let count = self.stream.read(&mut part)?;
            if count == 0 {
                return Ok(None);
            }
            self.read.extend(part.into_iter().take(count));
        }
    }

    /// Waits until something comes. `true` when whoever logged in is gone: sshd has closed the other end of our output.
    fn nobody_reads(&self) -> std::io::Result<bool> {
        let output = std::io::stdout();
        let mut both = [PollFd::new(&self.stream, PollFlags::IN), PollFd::new(&output, PollFlags::empty())];
        wait(&mut both)?;
        let [stream, output] = both;
        Ok(stream.revents().is_empty() && !output.revents().is_empty())
    }

    /// All of standard input, or a byte more than may be, so that it is refused; `None` when the executor speaks first.
    fn input(&mut self, limit: u64) -> std::io::Result<Option<String>> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let (mut all, mut part) = (Vec::new(), vec![0; PART]);
        let input = std::io::stdin();
        while all.len() < most {
            let mut both = [PollFd::new(&input, PollFlags::IN), PollFd::new(&self.stream, PollFlags::IN)];
            wait(&mut both)?;
            let [_, stream] = both;
            if !stream.revents().is_empty() {
                return Ok(None);
            }
            let count = rustix::io::read(&input, &mut part)?;
            if count == 0 {
                break;
            }
            all.extend(part.iter().take(count.min(most.saturating_sub(all.len()))));
        }
        Ok(Some(STANDARD.encode(all)))
    }
}

fn wait(descriptors: &mut [PollFd<'_>]) -> std::io::Result<()> {
    loop {
        match poll(descriptors, None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn output(stream: Stream, bytes: &str) -> std::io::Result<()> {
    let bytes = STANDARD.decode(bytes).map_err(std::io::Error::other)?;
    match stream {
        Stream::Out => {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()
        }
        Stream::Err => std::io::stderr().write_all(&bytes),
    }
}

/// A login without a command has asked for nothing that there is.
fn help(ask: &GateAsk, text: &str) -> u8 {
    if ask.request.as_deref().unwrap_or_default().is_empty() {
        let text = format!("allod: there is no shell here, only commands by their names\n{}", lines(text));
        let _ = std::io::stderr().write_all(text.as_bytes());
        return 2;
    }
    said(text)
}

fn said(text: &str) -> u8 {
    u8::from(std::io::stdout().write_all(lines(text).as_bytes()).is_err())
}

fn lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", safe(line))).collect()
}

/// The command's own exit code; what else there is to say of its end is said on stderr.
fn ended(end: &RunEnd) -> u8 {
    let mut text = String::new();
    match (&end.fault, end.code) {
        (Some(fault), _) => text.push_str(&shown(fault)),
        (None, None) => {
            text.push_str(&format!("allod: it ended by {} after {} ms\n", safe(&end.how), end.took_ms))
        }
        (None, Some(_)) => {}
    }
    if end.truncated {
        text.push_str(&format!("allod: not all of its {} bytes of output are kept\n", end.output_bytes));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    end.exit_code()
}

/// A refusal, on a line, and what to do about it on another.
pub(super) fn shown(fault: &Fault) -> String {
    let hint = fault.hint.iter().flat_map(|hint| hint.lines()).map(|line| format!("  {}\n", safe(line)));
    format!("allod: {}\n{}", safe(&fault.message), hint.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_shown_as_an_escape() {
        let text = shown(&Fault::new(FaultCode::Invalid, "a\u{1b}[2Jb\nallod: fine").hint("c\u{202e}d\ne"));
        assert_eq!(text, "allod: a\\u{1b}[2Jb\\u{a}allod: fine\n  c\\u{202e}d\n  e\n");
    }

    #[test]
    fn lines_are_whole_however_they_come_and_one_without_an_end_is_none() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut talk = Talk { stream: ours, read: Vec::new() };
        theirs.write_all(b"one\ntw").unwrap();
        assert_eq!(talk.line().unwrap().unwrap(), b"one\n");
        theirs.write_all(b"o\nthree\n").unwrap();
        assert_eq!(talk.line().unwrap().unwrap(), b"two\n");
        assert_eq!(talk.line().unwrap().unwrap(), b"three\n");
        let writing = std::thread::spawn(move || {
            // It is not read to its end.
            let _ = theirs.write_all(&vec![b'x'; LINE + 2 * PART]);
        });
        assert!(talk.line().is_err());
        drop(talk);
        writing.join().unwrap();
    }
}
