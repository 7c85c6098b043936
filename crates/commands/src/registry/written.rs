//! One file of the registry: as written, then as meant. All complaints at once, each with its line.

use super::{
    Choices,
    params::{Patterns, check, compile},
};
use crate::line::{RESERVED, value_is_sound};
use allod_appspec::{
    Complaints,
    complaint::{At, Spot},
    measure,
    reader::{Keys, List, Reader, expected},
};
use allod_proto::{
    Digest, NamedCommandName, ParamName, Role,
    named::{ApprovalRule, DEFINITION, Definition, OUTPUT, PARAMS, Param, ParamKind, STDIN, VALUE},
};
use std::collections::{BTreeMap, BTreeSet};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The longest that a command may take.
const LONGEST: u64 = 24 * 60 * 60 * 1000;
/// Who runs at once, and who waits, at most.
const AT_ONCE: u32 = 64;
const WAITING: u32 = 1000;
/// The most processes of one run.
const MOST_PROCESSES: u32 = 32_768;

/// Reads a file of the registry.
///
/// # Errors
/// Every complaint there is, in the order of the file.
pub fn parse(name: &NamedCommandName, text: &str) -> Result<Definition, Complaints> {
    let mut reader = Reader::new(text);
    if text.len() > DEFINITION {
        let complaint = Spot::default().complain(format!("larger than {DEFINITION} bytes"));
        return Err(Complaints::one(complaint));
    }
    if RESERVED.contains(&name.as_str()) {
        let spot = Spot { line: 1, column: 1, path: String::new() };
        let complaint = spot.complain(format!("no command is called {name}"));
        let hint = format!("over ssh, {} ask for something else: choose another name", RESERVED.join(", "));
        return Err(Complaints::one(complaint.hint(hint)));
    }
    let table = reader.table()?;
    let definition = File::read(&mut reader, name, table.get_ref());
    Complaints::check(reader.complaints)?;
    definition.ok_or_else(|| Complaints::one(Spot::default().complain("it can't be read")))
}

/// The keys of one file, each checked as it is taken.
struct File<'r, 'a, 't> {
    keys: &'a mut Keys<'r, 't>,
}

impl<'r, 't> File<'r, '_, 't> {
    fn read(reader: &mut Reader<'t>, name: &NamedCommandName, table: &DeTable<'t>) -> Option<Definition> {
        let mut keys = Keys::new(reader, table, "");
        let mut file = File { keys: &mut keys };
        let params = file.params();
        let slot = file.slot(&params);
        let exec = file.exec(&params, slot.as_ref());
        let summary = file.line("summary", 200);
        let definition = Definition {
            name: name.clone(),
            summary: summary.clone().unwrap_or_default(),
            exec: exec.clone().unwrap_or_default(),
            interpreter: file.interpreter(),
            run_as: file.user(),
            directory: file.absolute("directory").unwrap_or_else(|| "/".to_owned()),
            params,
            slot,
            timeout_ms: file.milliseconds("timeout", LONGEST).unwrap_or(60_000),
            concurrency: file.between("concurrency", 1, AT_ONCE).unwrap_or(1),
            queue: file.between("queue", 0, WAITING).unwrap_or(16),
            per_minute: file.between("per_minute", 1, 60_000),
            output_limit: file.bytes("output_limit", OUTPUT).unwrap_or(1 << 20),
            stdin_limit: file.bytes("stdin_limit", STDIN).unwrap_or(0),
            memory_bytes: file.memory(),
            processes: file.between("processes", 1, MOST_PROCESSES),
            env: file.environment(),
            digest: file.digest(),
            callers: file.callers(),
            survives_client: file.on_disconnect(),
            approval: file.approval(),
        };
        let broken = keys.finish();
        for (key, is_there) in [("summary", summary.is_some()), ("exec", exec.is_some())] {
            if !is_there && !broken.contains(key) {
                let complaint = Spot { line: 1, column: 1, path: key.to_owned() }.complain("is missing");
                let complaint = match key {
                    "exec" => complaint.hint("exec = [\"/absolute/program\", \"argument\"]"),
                    _ => complaint.hint("say in one line what it does"),
                };
                reader.complaints.push(complaint);
            }
        }
        Some(definition)
    }

    fn complain(&mut self, key: &str, spot: &Spot, why: impl Into<String>, hint: &str) {
        let complaint = spot.complain(why);
        let complaint = if hint.is_empty() { complaint } else { complaint.hint(hint) };
        self.keys.reader().complaints.push(complaint);
        self.keys.is_broken(key);
    }

    /// A text of one line that can be shown as it is.
    fn line(&mut self, key: &'static str, longest: usize) -> Option<String> {
        let At { spot, value } = self.keys.string(key)?;
        if value.trim().is_empty() || value.len() > longest || value.chars().any(char::is_control) {
            self.complain(key, &spot, format!("not one line of at most {longest} bytes"), "");
            return None;
        }
        Some(value)
    }

    fn absolute(&mut self, key: &'static str) -> Option<String> {
        let At { spot, value } = self.keys.string(key)?;
        if let Err(why) = is_plain_path(&value) {
            self.complain(key, &spot, why, "write an absolute path");
            return None;
        }
        Some(value)
    }

    fn user(&mut self) -> Option<String> {
        let At { spot, value } = self.keys.string("run_as")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let sound = (1..=32).contains(&value.len())
            && value.bytes().all(plain)
            && !value.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'-');
        if !sound {
            self.complain("run_as", &spot, "not a user's name", "leave it out: a user of its own is made");
            return None;
        }
        Some(value)
    }

    fn milliseconds(&mut self, key: &'static str, most: u64) -> Option<u64> {
        let At { spot, value } = self.keys.string(key)?;
        match measure::milliseconds(&value) {
            Ok(time) if (1..=most).contains(&time) => return Some(time),
            Ok(_) => self.complain(key, &spot, "out of its bounds: from 1ms to a day", ""),
            Err(why) => self.complain(key, &spot, why, ""),
        }
        None
    }

    fn bytes(&mut self, key: &'static str, most: u64) -> Option<u64> {
        let At { spot, value } = self.keys.string(key)?;
        match measure::bytes(&value) {
            Ok(size) if size <= most => return Some(size),
            Ok(_) => self.complain(key, &spot, format!("more than {} KB", most / 1024), ""),
            Err(why) => self.complain(key, &spot, why, ""),
        }
        None
    }

    /// As for a copy of an app.
    fn memory(&mut self) -> Option<u64> {
        let At { spot, value } = self.keys.string("memory")?;
        match measure::bytes(&value) {
            Ok(size) if size >= measure::LEAST_MEMORY => return Some(size),
            Ok(_) => self.complain("memory", &spot, "must be at least 4MB", ""),
            Err(why) => self.complain("memory", &spot, why, ""),
        }
        None
    }

    fn between(&mut self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let At { spot, value } = self.keys.number(key)?;
        if !(least..=most).contains(&value) {
            self.complain(key, &spot, format!("not from {least} to {most}"), "");
            return None;
        }
        Some(value)
    }

    fn digest(&mut self) -> Option<Digest> {
        let At { spot, value } = self.keys.string("digest")?;
        let digest = value.strip_prefix("sha256:").unwrap_or(&value).parse();
        if digest.is_err() {
            let hint = "64 of 0-9 and a-f, as sha256sum prints it";
            self.complain("digest", &spot, "not a SHA-256", hint);
        }
        digest.ok()
    }

    fn callers(&mut self) -> Vec<String> {
        let Some(At { value, .. }) = self.keys.list("callers") else { return Vec::new() };
        let mut callers = Vec::new();
        for At { spot, value } in value {
            if value.is_empty() || value.len() > 100 || value.chars().any(|c| c.is_control() || c == '*') {
                let hint = "the name that `allod keys list` shows, or SHA256:…; there are no patterns";
                self.complain("callers", &spot, "not a key's name or fingerprint", hint);
            } else {
                callers.push(value);
            }
        }
        callers
    }

    fn on_disconnect(&mut self) -> bool {
        let Some(At { spot, value }) = self.keys.string("on_disconnect") else { return true };
        match value.as_str() {
            "finish" => true,
            "end" => false,
            _ => {
                self.complain("on_disconnect", &spot, "neither finish nor end", "");
                true
            }
        }
    }

    fn environment(&mut self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for (name, At { spot, value }) in self.keys.strings("env") {
            let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let sound = (1..=64).contains(&name.len())
                && name.bytes().all(plain)
                && !name.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
            if !sound || name.starts_with("ALLOD_") {
                self.complain("env", &spot, "not a variable's name", "A-Z, 0-9 and _, not ALLOD_…");
            } else if value.len() > 4096 || value.contains('\0') {
                self.complain("env", &spot, "longer than 4096 bytes, or with a NUL byte", "");
            } else {
                env.insert(name, value);
            }
        }
        env
    }

    fn interpreter(&mut self) -> Vec<String> {
        let Some(At { spot, value }) = self.keys.command("interpreter") else { return Vec::new() };
        let words: Vec<String> = value.into_iter().map(|word| word.value).collect();
        let problem = match words.first() {
            None => Some("is empty".to_owned()),
            Some(program) => is_plain_path(program).err(),
        };
        if let Some(why) = problem {
            self.complain("interpreter", &spot, why, "interpreter = [\"/usr/bin/python3\", \"-I\"]");
        } else if words.iter().any(|word| word.contains('\0') || word.contains('{')) {
            self.complain("interpreter", &spot, "takes no parameters", "put them in exec");
        }
        words
    }

    fn approval(&mut self) -> Option<ApprovalRule> {
        let (spot, value) = self.keys.any("approval")?;
        let usual = ApprovalRule { role: Role::Operator, within_seconds: 600 };
        let table = match value.get_ref() {
            DeValue::Boolean(true) => return Some(usual),
            DeValue::Boolean(false) => return None,
            DeValue::Table(table) => table,
            other => {
                let why = expected("true, or a table", other);
                self.complain("approval", &spot, why, "approval = { role = \"operator\", within = \"10m\" }");
                return None;
            }
        };
        let mut inner = Keys::new(self.keys.reader(), table, "approval");
        let mut file = File { keys: &mut inner };
        let within =
            file.milliseconds("within", LONGEST).map_or(usual.within_seconds, |ms| ms.div_ceil(1000));
        let role = match file.keys.string("role") {
            None => usual.role,
            Some(At { spot, value }) => value.parse().unwrap_or_else(|_| {
                file.complain("role", &spot, "not a role", "viewer, deployer, operator or owner");
                usual.role
            }),
        };
        inner.finish();
        Some(ApprovalRule { role, within_seconds: within })
    }

    fn params(&mut self) -> BTreeMap<ParamName, Param> {
        let mut params = BTreeMap::new();
        for (spot, name, value) in self.keys.named("params") {
            let Ok(name) = ParamName::new(name.clone()) else {
                let hint = "a lower-case letter, then up to 30 of a-z, 0-9 and _";
                self.complain("params", &spot, format!("{name:?} is not a parameter's name"), hint);
                continue;
            };
            if let Some(param) = self.param(&spot, value) {
                params.insert(name, param);
            }
        }
        if params.len() > PARAMS {
            let spot = Spot { line: 1, column: 1, path: "params".to_owned() };
            self.complain("params", &spot, format!("more than {PARAMS}"), "");
        }
        params
    }

    fn param(&mut self, spot: &Spot, value: &Spanned<DeValue<'t>>) -> Option<Param> {
        let Some(table) = value.get_ref().as_table() else {
            let why = expected("a table", value.get_ref());
            self.complain("params", spot, why, "branch = { choice = [\"main\"] }");
            return None;
        };
        let mut inner = Keys::new(self.keys.reader(), table, &spot.path);
        let mut file = File { keys: &mut inner };
        let kinds = file.kinds();
        let default = file.keys.string("default");
        let secret = file.keys.flag("secret").is_some_and(|flag| flag.value);
        let broken = inner.finish();
        let mut kinds = kinds.into_iter();
        let (first, second) = (kinds.next(), kinds.next());
        let Some(kind) = first.filter(|_| second.is_none()) else {
            if broken.is_empty() {
                let hint = "choice = [\"a\", \"b\"], list = \"/etc/…\", integer = [1, 10] or pattern = \"…\"";
                self.complain("params", spot, "say in exactly one way what it may be", hint);
            }
            return None;
        };
        let default = default.map(|At { spot, value }| {
            let param = Param { kind: kind.clone(), default: None, secret };
            let is_list = matches!(kind, ParamKind::List { .. });
            let fits = is_list || check(&param, &value, &Choices::default(), &Patterns::of([&param])).is_ok();
            if !value_is_sound(&value) || !fits {
                self.complain("params", &spot, "the default is no value of the parameter", "");
            }
            value
        });
        Some(Param { kind, default, secret })
    }

    /// Every way in which the table says what the parameter may be.
    fn kinds(&mut self) -> Vec<ParamKind> {
        let mut kinds = Vec::new();
        if let Some(list) = self.keys.list("choice") {
            kinds.push(ParamKind::Choice { values: self.choice(list) });
        }
        if let Some(file) = self.absolute("list") {
            kinds.push(ParamKind::List { file });
        }
        if let Some((spot, value)) = self.keys.any("integer") {
            match bounds(value.get_ref()) {
                Some((min, max)) => kinds.push(ParamKind::Integer { min, max }),
                None => self.complain("integer", &spot, "not two whole numbers, the lower first", "[1, 10]"),
            }
        }
        let length = self.keys.number("max_length");
        if let Some(At { spot, value: pattern }) = self.keys.string("pattern") {
            let most = length.as_ref().map_or(64, |length| length.value);
            if !usize::try_from(most).is_ok_and(|most| (1..=VALUE).contains(&most)) {
                self.complain("max_length", &spot, format!("max_length is not from 1 to {VALUE}"), "");
            }
            match compile(&pattern) {
                Ok(_) => kinds.push(ParamKind::Pattern { pattern, max_length: most }),
                Err(why) => self.complain("pattern", &spot, format!("not a pattern: {why}"), ""),
            }
        } else if let Some(length) = length {
            self.complain("max_length", &length.spot, "is only for a pattern", "");
        }
        kinds
    }

    fn choice(&mut self, list: List) -> Vec<String> {
        let mut values = Vec::new();
        if list.value.is_empty() {
            self.complain("choice", &list.spot, "is empty, so nothing could be chosen", "");
        }
        for At { spot, value } in list.value {
            if value_is_sound(&value) {
                values.push(value);
            } else {
                let hint = "letters, digits and ._:,@%/+=-, not - at its beginning";
                self.complain("choice", &spot, format!("{value:?} can be no value"), hint);
            }
        }
        values
    }

    fn slot(&mut self, params: &BTreeMap<ParamName, Param>) -> Option<ParamName> {
        let At { spot, value } = self.keys.string("slot")?;
        let slot = ParamName::new(value).ok().filter(|name| params.contains_key(name));
        match slot.as_ref().and_then(|name| params.get(name)) {
            None => self.complain("slot", &spot, "names no parameter of this file", ""),
            Some(param) if param.default.is_some() => {
                self.complain("slot", &spot, "its parameter has a default, so its end could be missing", "");
            }
            Some(_) => {}
        }
        slot
    }

    fn exec(&mut self, params: &BTreeMap<ParamName, Param>, slot: Option<&ParamName>) -> Option<Vec<String>> {
        let At { spot, value } = self.keys.command("exec")?;
        let Some(program) = value.first() else {
            self.complain("exec", &spot, "is empty", "exec = [\"/absolute/program\", \"argument\"]");
            return None;
        };
        if let Err(why) = is_plain_path(&program.value) {
            self.complain("exec", &program.spot, why, "the program is absolute and has no parameters in it");
        }
        let mut used = BTreeSet::new();
        let mut after_dashes = false;
        for At { spot, value } in value.iter().skip(1) {
            after_dashes |= value == "--";
            let Ok(names) = placeholders(value) else {
                self.complain(
                    "exec",
                    spot,
                    format!("{value:?} has a NUL, or a brace that names no parameter"),
                    "{name}",
                );
                continue;
            };
            for name in &names {
                if !params.contains_key(name) {
                    self.complain(
                        "exec",
                        spot,
                        format!("there is no parameter {name}"),
                        "declare it in [params]",
                    );
                }
            }
            let whole = |name: &ParamName| *value == format!("{{{name}}}");
            if !after_dashes && slot.is_some_and(whole) {
                let hint = "put \"--\" before it, so that the program takes it for no option";
                self.complain("exec", spot, "the end of the name would be an argument before --", hint);
            }
            used.extend(names);
        }
        for name in params.keys().filter(|name| !used.contains(*name)) {
            self.complain(
                "exec",
                &spot,
                format!("parameter {name} is used nowhere"),
                "write {name} where it belongs",
            );
        }
        Some(value.into_iter().map(|word| word.value).collect())
    }
}

/// The parameters that an argument names.
fn placeholders(part: &str) -> Result<Vec<ParamName>, ()> {
    let mut names = Vec::new();
    let mut rest = part;
    if part.contains('\0') {
        return Err(());
    }
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(())?;
        if before.contains('}') {
            return Err(());
        }
        names.push(ParamName::new(name).map_err(|_| ())?);
        rest = after;
    }
    if rest.contains('}') { Err(()) } else { Ok(names) }
}

fn bounds(value: &DeValue<'_>) -> Option<(i64, i64)> {
    let numbers = value.as_array()?;
    let number = |value: &Spanned<DeValue<'_>>| {
        let number = value.get_ref().as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    };
    match (numbers.first(), numbers.get(1), numbers.len()) {
        (Some(min), Some(max), 2) => Some((number(min)?, number(max)?)).filter(|(min, max)| min <= max),
        _ => None,
    }
}

/// Absolute, with nothing in it that means another place than it says.
fn is_plain_path(path: &str) -> Result<(), String> {
    let parts = path.strip_prefix('/').ok_or_else(|| format!("{path:?} is not absolute"))?;
    if path != "/" && parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{path:?} has an empty part, . or .. in it"));
    }
    if path.len() > 1024 || path.chars().any(|c| c.is_control() || c == '{' || c == '}') {
        return Err(format!("{path:?} is too long, or has a control character or a parameter in it"));
    }
    Ok(())
}
