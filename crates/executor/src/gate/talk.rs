//! One conversation with the gate: lines, each bounded in bytes and in time. Whoever does not read is let go.

use crate::server::Lines;
use allod_proto::{
    Fault, FaultCode,
    gate::{ASK, GateAsk, GateInput, GateReply, LINE},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// How long the first line may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long standard input may take, from the wish for it to its last byte.
const INPUT: Duration = Duration::from_secs(60);
/// How long a line of output may wait to be taken: a person may look at a page of it meanwhile.
const TAKEN: Duration = Duration::from_secs(300);

/// The other end is gone, or as good as gone.
#[derive(Debug)]
pub(super) struct Gone(pub(super) String);

/// The two halves.
pub(super) struct Talk {
    lines: Lines<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Talk {
    /// On this socket.
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: Lines::new(read), write }
    }

    /// The line that opens it.
    pub(super) async fn ask(&mut self) -> Result<Result<GateAsk, Fault>, Gone> {
        let line = match self.line(ASK, PATIENCE).await? {
            Ok(line) => line,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(serde_json::from_slice(&line)
            .map_err(|error| Fault::new(FaultCode::Malformed, format!("not an ask of the gate: {error}"))))
    }

    /// Standard input of at most `limit` bytes, in base64.
    pub(super) async fn input(&mut self, limit: u64) -> Result<Result<String, Fault>, Gone> {
        self.say(&GateReply::Stdin { limit }).await?;
        let line = match self.line(LINE, INPUT).await? {
            Ok(line) => line,
            Err(fault) => return Ok(Err(fault)),
        };
        let malformed = |what: String| Fault::new(FaultCode::Malformed, what);
        Ok(serde_json::from_slice::<GateInput>(&line)
            .map_err(|error| malformed(format!("not an input of the gate: {error}")))
            .and_then(|input| {
                let bytes = STANDARD
                    .decode(&input.stdin)
                    .map_err(|_| malformed("standard input is no base64".to_owned()))?;
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
                    let message = format!("this command takes at most {limit} bytes of standard input");
                    return Err(Fault::new(FaultCode::TooLarge, message));
                }
                Ok(input.stdin)
            }))
    }

    async fn line(&mut self, limit: usize, time: Duration) -> Result<Result<Vec<u8>, Fault>, Gone> {
        match timeout(time, self.lines.next(limit, time)).await {
            Ok(Ok(Some(line))) => Ok(Ok(line)),
            Ok(Ok(None)) => Err(Gone("it left without a word".to_owned())),
            Ok(Err(cut)) => Ok(Err(cut.to_fault())),
            Err(_) => {
                Ok(Err(Fault::new(FaultCode::Timeout, format!("nothing came within {} s", time.as_secs()))))
            }
        }
    }

    /// Says a line.
    pub(super) async fn say(&mut self, reply: &GateReply) -> Result<(), Gone> {
        let text = line_of(reply).map_err(|error| Gone(error.to_string()))?;
        match timeout(TAKEN, self.write.write_all(&text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Gone(error.to_string())),
            Err(_) => Err(Gone(format!("it took nothing for {} s", TAKEN.as_secs()))),
        }
    }

    /// Resolves when the other end has left, or talks out of turn.
    pub(super) async fn gone(&mut self) -> Gone {
        match self.lines.next(1, PATIENCE).await {
            Ok(None) => Gone("it left before the end".to_owned()),
            Ok(Some(_)) => Gone("it talked out of turn".to_owned()),
            Err(cut) => Gone(cut.to_string()),
        }
    }
}

fn line_of(reply: &GateReply) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    Ok(text)
}

/// Says to somebody for whom there is no place that there is none, without waiting for anything.
pub(super) fn turn_away(stream: &UnixStream) {
    let fault = Fault::new(FaultCode::TooMany, "as many requests are open at the gate as there may be")
        .hint("try again when some of them have ended");
    tracing::warn!("the gate is full");
    if let Ok(text) = line_of(&GateReply::Fault(fault)) {
        // Who does not take it hears nothing.
        let _ = stream.try_write(&text);
    }
}
