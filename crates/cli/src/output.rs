//! What is printed where: results on stdout, everything else on stderr. With `--json`, stdout holds one JSON document,
//! or one JSON value a line for streams, and nothing else.

use crate::{failure::Failure, render::style::Style, render::text::safe, render::time::iso_times};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, PoisonError},
};

/// How much may be done with the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// stdout is a terminal that may have colours.
    pub color_out: bool,
    /// stderr is a terminal that may have colours.
    pub color_err: bool,
    /// A person can be asked: stdin and stderr are a terminal, and this is not CI.
    pub can_ask: bool,
    /// stderr may be drawn over.
    pub live: bool,
}

impl Surroundings {
    /// Looks at the terminal.
    #[must_use]
    pub fn look(no_color: bool, ci: bool) -> Self {
        let (out, err, input) =
            (io::stdout().is_terminal(), io::stderr().is_terminal(), io::stdin().is_terminal());
        Self {
            color_out: out && !no_color,
            color_err: err && !no_color,
            can_ask: input && err && !ci,
            live: err && !ci && !no_color,
        }
    }
}

type Sink = Mutex<Box<dyn Write + Send>>;

/// Where a command prints.
pub struct Output {
    json: bool,
    surroundings: Surroundings,
    out: Sink,
    err: Sink,
}

impl Output {
    /// To the process's own stdout and stderr.
    #[must_use]
    pub fn standard(json: bool, surroundings: Surroundings) -> Self {
        Self::to(json, surroundings, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// To anything else.
    #[must_use]
    pub fn to(
        json: bool,
        surroundings: Surroundings,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        Self { json, surroundings, out: Mutex::new(out), err: Mutex::new(err) }
    }

    /// Whether stdout is for programs.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person can be asked.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        self.surroundings.can_ask
    }

    /// Whether stderr may be drawn over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.surroundings.live
    }

    /// Colours for stdout.
    #[must_use]
    pub fn style(&self) -> Style {
        Style::new(self.surroundings.color_out && !self.json)
    }

    /// Colours for stderr.
    #[must_use]
    pub fn error_style(&self) -> Style {
        Style::new(self.surroundings.color_err)
    }

    /// The command's result: `{"ok":true}` and the fields of `value`, which is to be an object, or a text for people,
    /// printed as it is: what came from a server goes through [`safe`] or a table first.
    ///
    /// # Errors
    /// [`Failure`] when stdout can't be written.
    pub fn document<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Failure> {
        if !self.json {
            return self.print(&text(self.style()));
        }
        let mut document = Map::new();
        document.insert("ok".to_owned(), Value::Bool(true));
        match json(value)? {
            Value::Object(fields) => document.extend(fields),
            other => drop(document.insert("result".to_owned(), other)),
        }
        self.print(&format!("{}\n", Value::Object(document)))
    }

    /// One item of a stream: a JSON value on a line of its own, or a line for people.
    ///
    /// # Errors
    /// [`Failure`] when stdout can't be written.
    pub fn item<T: Serialize>(&self, value: &T, text: impl FnOnce(Style) -> String) -> Result<(), Failure> {
        if self.json { self.print(&format!("{}\n", json(value)?)) } else { self.print(&text(self.style())) }
    }

    /// Text on stdout as it is.
    ///
    /// # Errors
    /// [`Failure`] when stdout can't be written.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Bytes on stdout as they are.
    ///
    /// # Errors
    /// [`Failure`] when stdout can't be written.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // `allod … | head` ends well.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure {
                exit: 0,
                ..Failure::new(allod_proto::FaultCode::Internal, "stdout is closed").already_said()
            }),
            Err(error) => Err(Failure::new(allod_proto::FaultCode::Internal, format!("stdout: {error}"))),
        }
    }

    /// A line on stderr.
    pub fn note(&self, text: &str) {
        self.say(&format!("{}\n", safe(text)));
    }

    /// A warning on stderr.
    pub fn warn(&self, text: &str) {
        self.say(&format!("{} {}\n", self.error_style().warn("warning:"), safe(text)));
    }

    /// Text on stderr as it is.
    pub fn say(&self, text: &str) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        // There is no one left to tell when stderr is gone.
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// How a command failed: on stderr for people, on stdout as the one document for programs.
    pub fn failure(&self, failure: &Failure) {
        if failure.exit == 0 {
            return;
        }
        if self.json {
            // If stdout is gone as well, the exit code still tells.
            let _ = self.print(&format!("{}\n", failure.document()));
        } else if !failure.said {
            self.say(&describe(failure, self.error_style()));
        }
    }
}

fn describe(failure: &Failure, style: Style) -> String {
    let fault = &failure.fault;
    let server = failure.details.get("server").and_then(Value::as_str);
    // Many messages name their server already.
    let server = server.filter(|server| !fault.message.contains(server));
    let place = server.map(|server| format!("{}: ", safe(server))).unwrap_or_default();
    let mut text = format!("{} {place}{}\n", style.bad("error:"), safe(&fault.message));
    if let Some(hint) = &fault.hint {
        text.push_str(&format!("  {} {}\n", style.dim("hint:"), safe(hint)));
    }
    if let Some(request) = &fault.request {
        text.push_str(&format!("  {} {}\n", style.dim("request:"), safe(request)));
    }
    text
}

fn json<T: Serialize>(value: &T) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(value)
        .map_err(|error| Failure::new(allod_proto::FaultCode::Internal, error.to_string()))?;
    iso_times(&mut value);
    Ok(value)
}

#[cfg(test)]
pub(crate) mod tests;
