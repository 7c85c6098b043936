//! Lines of an app's logs, merged over its instances in the order of time.

use crate::{
    agent::Agent,
    executor_link::{expect_done, unexpected},
};
use allod_proto::{
    AppRef, Fault, InstanceId, Timestamp,
    command::StreamItem,
    executor::{Action, Done, LogFile},
    limits,
    messages::app::{AppLogs, LogLine},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How much of each file's end is read to begin with.
const BEGIN: u64 = 512 * 1024;
/// How much of all files together is read at a time, of how many files, and the longest line.
const BUDGET: u64 = 8 * 1024 * 1024;
const FILES: usize = 64;
const LINE: usize = 128 * 1024;
const EVERY: Duration = Duration::from_millis(250);
/// Lines in one frame.
const BATCH: usize = 200;

/// The newest lines of one instance.
pub(crate) async fn tail(agent: &Agent, app: &AppRef, instance: &InstanceId, lines: usize) -> Vec<String> {
    let mut reader = Reader::new(app.clone(), Some(instance.clone()));
    let read = reader.read(agent, 64 * 1024).await.unwrap_or_default();
    let skip = read.len().saturating_sub(lines);
    read.into_iter().skip(skip).map(|line| line.text).collect()
}

/// Sends what is asked for, and what comes if it is to be followed.
pub(crate) async fn stream(agent: Arc<Agent>, wanted: AppLogs, send: mpsc::Sender<StreamItem>) {
    let mut reader = Reader::new(wanted.app.clone(), wanted.instance.clone());
    let mut first = true;
    loop {
        let mut lines = match reader.read(&agent, BEGIN).await {
            Ok(lines) => lines,
            Err(fault) => {
                let _ = send.send(StreamItem::Fault(fault)).await;
                return;
            }
        };
        lines.retain(|line| is_wanted(line, &wanted));
        if first && let Some(tail) = wanted.tail {
            let skip = lines.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
            lines.drain(..skip);
        }
        first = false;
        for batch in lines.chunks(BATCH) {
            if send.send(StreamItem::Log(batch.to_vec())).await.is_err() {
                return;
            }
        }
        if !wanted.follow {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = send.closed() => return,
        }
    }
}

fn is_wanted(line: &LogLine, wanted: &AppLogs) -> bool {
    let of_unit = |unit: &allod_proto::UnitName| {
        line.instance.as_str().rsplit_once('-').is_some_and(|(name, _)| name == unit.as_str())
    };
    wanted.since.is_none_or(|since| line.at >= since) && wanted.unit.as_ref().is_none_or(of_unit)
}

/// Where each file was read to.
struct Reader {
    app: AppRef,
    instance: Option<InstanceId>,
    offsets: HashMap<String, Offset>,
}

struct Offset {
    at: u64,
    part: Vec<u8>,
}

impl Reader {
    fn new(app: AppRef, instance: Option<InstanceId>) -> Self {
        Self { app, instance, offsets: HashMap::new() }
    }

    /// The lines since the last time, merged by time; the first time at most `begin` bytes of each file.
    async fn read(&mut self, agent: &Agent, begin: u64) -> Result<Vec<LogLine>, Fault> {
        let asked = agent.link.ask(Action::LogList { app: self.app.clone() }).await;
        let files = expect_done!(asked, Done::Logs { files } => files)?;
        let mut lines = Vec::new();
        let mut budget = BUDGET;
        let wanted = |file: &&LogFile| self.instance.as_ref().is_none_or(|wanted| *wanted == file.instance);
        // The folder is the app's: it may hold more than anybody should read. The newest are what is asked for.
        let newest: Vec<LogFile> = files.iter().rev().filter(wanted).take(FILES).cloned().collect();
        for file in newest.iter().rev() {
            self.read_file(agent, file, begin, &mut budget, &mut lines).await?;
        }
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    async fn read_file(
        &mut self,
        agent: &Agent,
        file: &LogFile,
        begin: u64,
        budget: &mut u64,
        lines: &mut Vec<LogLine>,
    ) -> Result<(), Fault> {
        let known = self.offsets.contains_key(&file.file);
        // The older half was read before it was renamed; only a first look reads it.
        if file.file.ends_with(".1") && self.offsets.contains_key(file.file.trim_end_matches(".1")) && !known
        {
            return Ok(());
        }
        let offset = self
            .offsets
            .entry(file.file.clone())
            .or_insert_with(|| Offset { at: file.size.saturating_sub(begin), part: Vec::new() });
        if file.size < offset.at {
            *offset = Offset { at: 0, part: Vec::new() };
        }
        let mut skip_first = !known && offset.at > 0;
        if file.size.saturating_sub(offset.at) > BEGIN {
            // Further ahead than anybody can follow: go on near the end.
            *offset = Offset { at: file.size.saturating_sub(BEGIN), part: Vec::new() };
            skip_first = true;
        }
        while offset.at < file.size && *budget > 0 {
            let action = Action::LogRead {
                app: self.app.clone(),
                file: file.file.clone(),
                offset: offset.at,
                limit: u64::try_from(limits::LOG_PART).unwrap_or(u64::MAX),
            };
            let bytes = expect_done!(agent.link.ask(action).await, Done::LogPart { bytes, .. } => bytes)?;
            let bytes = STANDARD.decode(bytes).map_err(|_| unexpected())?;
            if bytes.is_empty() {
                break;
            }
            let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            offset.at = offset.at.saturating_add(read);
            *budget = budget.saturating_sub(read);
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                offset.part.extend_from_slice(part);
                let whole = part.last() == Some(&b'\n');
                if !whole && offset.part.len() < LINE {
                    continue;
                }
                let line = std::mem::take(&mut offset.part);
                if !std::mem::take(&mut skip_first) {
                    lines.extend(parse(&line, file));
                }
            }
        }
        Ok(())
    }
}

/// `<unix ms> <out|err> <text>`
fn parse(line: &[u8], file: &LogFile) -> Option<LogLine> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    let (at, rest) = text.split_once(' ')?;
    let (stream, text) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(LogLine {
        at: Timestamp(at.parse().ok()?),
        instance: file.instance.clone(),
        release: file.release.clone(),
        stream: stream.to_owned(),
        text: text.to_owned(),
    })
}
