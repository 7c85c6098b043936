use super::*;
use allod_proto::FaultCode;
use std::sync::Arc;

/// Something that can be written to and read back.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn printed(json: bool, print: impl FnOnce(&Output)) -> (String, String) {
    let (out, err) = (Buffer::default(), Buffer::default());
    print(&Output::to(json, Surroundings::default(), Box::new(out.clone()), Box::new(err.clone())));
    let text = |buffer: Buffer| String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    (text(out), text(err))
}

#[test]
fn a_failure_is_one_document_on_stdout_for_programs_and_stderr_for_people() {
    let failure = Failure::new(FaultCode::NotFound, "no \u{1b}[31msuch").hint("look").on("web1");
    let (out, err) = printed(true, |output| output.failure(&failure));
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        serde_json::json!({"ok": false, "server": "web1",
            "fault": {"code": "not_found", "message": "no \u{1b}[31msuch", "hint": "look"}})
    );
    assert_eq!((out.lines().count(), err.as_str()), (1, ""));
    let (out, err) = printed(false, |output| output.failure(&failure));
    assert_eq!((out.as_str(), err.as_str()), ("", "error: web1: no \\u{1b}[31msuch\n  hint: look\n"));
}

#[test]
fn notes_never_reach_stdout() {
    let (out, err) = printed(true, |output| {
        output.note("a note");
        output.warn("a warning");
    });
    assert_eq!((out.as_str(), err.as_str()), ("", "a note\nwarning: a warning\n"));
}

#[test]
fn a_closed_stdout_ends_well_and_silently() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let err = Buffer::default();
    let output = Output::to(false, Surroundings::default(), Box::new(Closed), Box::new(err.clone()));
    let failure = output.document(&serde_json::json!({}), |_| "text".to_owned()).unwrap_err();
    output.failure(&failure);
    assert_eq!(failure.exit, 0);
    assert!(err.0.lock().unwrap().is_empty());
}
