//! What stands in the record of a call that was allowed and of one that was refused (D8), by each door, beside a committed
//! file. Times, digests and what is random are marks; `ALLOD_BLESS=1` writes the file anew.

use super::{Named, real};
use crate::processes::eventually;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// Each thing that the record must have of a call, and where that is: in the intent, in its outcome, in a refusal.
type Field = (&'static str, Places, Places, Places);
type Places = &'static [&'static str];

const FIELDS: [Field; 16] = [
    ("sequence", &["/seq"], &["/seq", "/intent"], &["/seq"]),
    ("wall time", &["/at"], &["/at"], &["/at"]),
    ("monotonic time", &["/boot"], &["/boot"], &["/boot"]),
    ("caller", &["/who/name", "/who/role"], &[], &["/who/name", "/who/role"]),
    ("key, where one asked", &["/who/key"], &[], &["/who/key"]),
    ("source", &["/who/source"], &[], &["/who/source"]),
    ("door", &["/who/door"], &[], &["/who/door"]),
    (
        "request",
        &["/request", "/command", "/target", "/params/params"],
        &[],
        &["/request", "/command", "/asked"],
    ),
    ("decision", &["/entry"], &["/result"], &["/entry", "/result"]),
    ("reason", &[], &["/code", "/message"], &["/code", "/said"]),
    ("registry version", &["/params/registry"], &["/reply/end/registry"], &["/registry"]),
    ("program digest", &[], &["/reply/end/program"], &[]),
    ("exit code", &[], &["/reply/end/code"], &[]),
    ("duration", &[], &["/took_ms", "/reply/end/took_ms"], &[]),
    ("bytes", &[], &["/reply/end/output_bytes"], &[]),
    ("truncated", &[], &["/reply/end/truncated"], &[]),
];

#[tokio::test]
async fn d8_the_lines_of_an_allowed_run_and_of_a_refusal_are_the_committed_ones_by_each_door() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("d8: SKIPPED, who is at the local door is root here");
        return;
    }
    let named = Named::new().await;
    let path = named.script("shout", "printf 0123456789; exit $1");
    let text = format!(
        "exec = [{path:?}, \"{{code}}\", \"{{word}}\"]\ninterpreter = [{:?}]\noutput_limit = \"4B\"\n\
         params.code = {{ integer = [1, 9] }}\nparams.word = {{ pattern = \"[a-z]+\", secret = true, default = \"x\" }}\n",
        real("/bin/sh")
    );
    named.define("shout", &text).await;
    let mut seq = 0;
    named.lines_after(&mut seq).await;
    let mut found: Vec<Value> = Vec::new();
    for (number, words) in ["shout code=3 word=canarybird", "shout code=0 word=canarybird"].iter().enumerate()
    {
        let split: Vec<&str> = words.split(' ').collect();
        named.run(&split).await;
        named.as_sshd_begins_it(words).output().await.unwrap();
        named.on_the_machine(&split).output().await.unwrap();
        eventually("the lines are in the record", async || {
            let new = named.lines_after(&mut seq).await;
            found
                .extend(new.into_iter().filter(|line| {
                    ["intent", "outcome", "denied"].iter().any(|kind| line["entry"] == *kind)
                }));
            (found.len() == 6 + number * 3).then_some(())
        })
        .await;
    }
    has_all_fields(&found);
    let mut marks = Marks { path: path.to_string_lossy().into_owned(), numbers: BTreeMap::new() };
    let text: String = found.iter().map(|line| format!("{}\n", marks.marked(line))).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/named/golden/record.jsonl");
    if std::env::var_os("ALLOD_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(file).unwrap());
}

fn has_all_fields(lines: &[Value]) {
    for (what, intent, outcome, denied) in FIELDS {
        for line in lines {
            let pointers = match line["entry"].as_str().unwrap() {
                "intent" => intent,
                "outcome" => outcome,
                _ => denied,
            };
            for pointer in pointers {
                // Root on the machine has a uid and no key.
                let is_there = line.pointer(pointer).is_some_and(|value| !value.is_null());
                assert!(
                    is_there || (*pointer == "/who/key" && line["who"]["door"] == "socket"),
                    "{what}: {pointer} of {line}"
                );
            }
        }
    }
}

/// What stands in the place of what is another at each time.
struct Marks {
    /// The program's own path.
    path: String,
    /// Lines by their true numbers.
    numbers: BTreeMap<u64, String>,
}

impl Marks {
    fn marked(&mut self, line: &Value) -> String {
        let mut line = line.clone();
        for (pointer, mark) in [
            ("/prev", "DIGEST"),
            ("/at", "TIME"),
            ("/boot", "TIME"),
            ("/took_ms", "TOOK"),
            ("/reply/end/took_ms", "TOOK"),
            ("/reply/end/program", "DIGEST"),
            ("/reply/run", "RUN"),
            ("/request", "ID"),
            ("/nonce", "RANDOM"),
            ("/signature", "SIGNATURE"),
            ("/signed", "LINES"),
            ("/signed_at", "TIME"),
        ] {
            if let Some(value) = line.pointer_mut(pointer) {
                *value = mark.into();
            }
        }
        if let Some(source) =
            line.pointer_mut("/who/source").filter(|source| source.to_string().contains("pid "))
        {
            *source = "pid PID".into();
        }
        for pointer in ["/seq", "/intent"] {
            if let Some(value) = line.pointer_mut(pointer) {
                let next = format!("LINE {}", self.numbers.len() + 1);
                *value = self.numbers.entry(value.as_u64().unwrap()).or_insert(next).clone().into();
            }
        }
        let text = line.to_string().replace(&self.path, "PROGRAM");
        assert!(!text.contains("canarybird"), "{text}");
        // A secret is a hash with a key of this life of the executor's.
        let mut parts = text.split("hash:");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| format!("{text}hash:MARK{}", &part[16..]))
    }
}
