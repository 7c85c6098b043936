//! Looks at a folder and says what kind of app is in it, so that `allod init` can write a file that nearly fits. It reads
//! a few well-known files and runs nothing.

use allod_appspec::{Detected, DetectedUnit};
use allod_proto::AppName;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

const LARGEST: u64 = 1024 * 1024;

/// What is in `folder`; a process that has to be filled in by hand where nothing is recognised.
///
/// # Errors
/// The folder can't be read.
pub fn detect(folder: &Path) -> io::Result<Detected> {
    std::fs::read_dir(folder)?;
    let look = Look { folder };
    let mut detected = look
        .package_json()
        .or_else(|| look.python())
        .or_else(|| look.go())
        .or_else(|| look.rust())
        .or_else(|| look.site())
        .unwrap_or_else(|| look.nothing());
    if let Some(file) = look.first(&["Containerfile", "Dockerfile"]) {
        detected.notes.push(format!(
            "There is a {file}; containers are not yet supported by this version, so the app runs as a process."
        ));
    }
    Ok(detected)
}

struct Look<'f> {
    folder: &'f Path,
}

impl Look<'_> {
    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn text(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        File::open(self.folder.join(name)).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn toml(&self, name: &str) -> Option<toml::Table> {
        self.text(name)?.parse().ok()
    }

    /// The project's own name, else the folder's.
    fn name(&self, project: Option<&str>) -> AppName {
        let folder = self.folder.canonicalize().ok();
        let folder =
            folder.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        project.and_then(app_name).or_else(|| app_name(&folder?)).unwrap_or_else(fallback_name)
    }

    fn process(&self, name: Option<&str>, what: &str, start: &[&str], runtime: Option<String>) -> Detected {
        Detected {
            name: self.name(name),
            what: what.to_owned(),
            unit: DetectedUnit::Process { start: owned(start), runtime },
            build: None,
            folder: None,
            vars: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn package_json(&self) -> Option<Detected> {
        let package: Value = serde_json::from_str(&self.text("package.json")?).ok()?;
        let text = |path: &str| package.pointer(path).and_then(Value::as_str);
        let bun = self.first(&["bun.lock", "bun.lockb", "bunfig.toml"]).is_some();
        let tool = if bun { "bun" } else { "npm" };
        let build = text("/scripts/build").map(|_| owned(&[tool, "run", "build"]));
        let served = self.package_entry(&package, bun);
        let bundler = ["/dependencies/", "/devDependencies/"].iter().any(|place| {
            ["vite", "parcel", "react-scripts"]
                .iter()
                .any(|name| package.pointer(&format!("{place}{name}")).is_some())
        });
        if bundler && text("/scripts/start").is_none() && text("/main").is_none() {
            let mut site = self.process(
                text("/name"),
                &format!("static site built by {tool} (package.json)"),
                &[],
                None,
            );
            let out = if text("/scripts/build").is_some_and(|run| run.contains("react-scripts")) {
                "build"
            } else {
                "dist"
            };
            site.unit = DetectedUnit::Static { root: String::new() };
            site.build = build;
            site.folder = Some(out.to_owned());
            return Some(site);
        }
        let (program, what) =
            if bun { ("bun", "Bun (package.json)") } else { ("node", "Node (package.json)") };
        let engine = text(if bun { "/engines/bun" } else { "/engines/node" });
        let runtime =
            engine.and_then(major).map_or(program.to_owned(), |version| format!("{program}@{version}"));
        let words: Vec<&str> = served.iter().map(String::as_str).collect();
        let mut detected = self.process(text("/name"), what, &words, Some(runtime));
        detected.build = build;
        if package.get("dependencies").and_then(Value::as_object).is_some_and(|all| !all.is_empty()) {
            detected.notes.push(
                "node_modules goes along unless an ignore file names it; if .gitignore does, write !node_modules/ in .allodignore."
                    .to_owned(),
            );
        }
        Some(detected)
    }

    /// How a package is started: what its start script runs, where that is one plain command; its main file otherwise.
    fn package_entry(&self, package: &Value, bun: bool) -> Vec<String> {
        let program = if bun { "bun" } else { "node" };
        let script = package.pointer("/scripts/start").and_then(Value::as_str);
        if let Some(script) = script {
            let plain = script.chars().all(|c| c.is_ascii_alphanumeric() || " ./_-=:@".contains(c));
            let words: Vec<&str> = script.split_whitespace().collect();
            if plain && words.first().is_some_and(|first| matches!(*first, "node" | "bun")) {
                return owned(&words);
            }
            return owned(&[if bun { "bun" } else { "npm" }, "run", "start"]);
        }
        let usual = ["server.js", "index.js", "app.js", "server.ts", "index.ts", "src/index.js"];
        let main = package.get("main").and_then(Value::as_str).filter(|main| !main.starts_with('-'));
        owned(&[program, main.or_else(|| self.first(&usual)).unwrap_or("server.js")])
    }

    fn python(&self) -> Option<Detected> {
        let by = self.first(&["pyproject.toml", "requirements.txt", "manage.py", "app.py", "main.py"])?;
        let project = self.toml("pyproject.toml");
        let name = project.as_ref().and_then(|toml| toml.get("project")?.get("name")?.as_str());
        let wants = project.as_ref().and_then(|toml| toml.get("project")?.get("requires-python")?.as_str());
        let what = format!("Python ({by})");
        let entry = self.first(&["app.py", "main.py", "server.py", "manage.py"]).unwrap_or("app.py");
        let mut detected = self.process(name, &what, &["python3", entry], Some("python3".to_owned()));
        if entry == "manage.py" {
            detected.notes.push(
                "Django: start a production server that listens on HOST and PORT, such as gunicorn, and run migrations with release."
                    .to_owned(),
            );
        }
        if self.has("requirements.txt") {
            let build = ["python3", "-m", "pip", "install", "--target", "vendor", "-r", "requirements.txt"];
            detected.build = Some(owned(&build));
            detected.vars.push(("PYTHONPATH".to_owned(), "vendor".to_owned()));
            detected
                .notes
                .push("Packages with compiled parts must be installed for the server's system.".to_owned());
        }
        if let Some(wants) = wants {
            detected.notes.push(format!(
                "The project asks for Python {wants}; write it as runtime = \"python3@3.12\"."
            ));
        }
        Some(detected)
    }

    fn go(&self) -> Option<Detected> {
        let module = self.text("go.mod")?;
        let module = module.lines().find_map(|line| line.strip_prefix("module "))?.trim().to_owned();
        // A module's last part may be a major version.
        let name = module.rsplit('/').find(|part| !is_major(part)).map(str::to_owned);
        let app = self.name(name.as_deref());
        let mut detected = self.process(Some(app.as_str()), "Go (go.mod)", &[&format!("./{app}")], None);
        let out = format!("dist/{app}");
        detected.build = Some(owned(&["env", "GOOS=linux", "CGO_ENABLED=0", "go", "build", "-o", &out, "."]));
        detected.folder = Some("dist".to_owned());
        detected.notes.push(
            "For a server with another processor, add GOARCH=arm64 or GOARCH=amd64 to build.".to_owned(),
        );
        Some(detected)
    }

    fn rust(&self) -> Option<Detected> {
        let cargo = self.toml("Cargo.toml")?;
        let package = cargo.get("package").and_then(|package| package.get("name")?.as_str());
        let program = cargo
            .get("bin")
            .and_then(|bins| bins.as_array()?.first()?.get("name")?.as_str())
            .or(package)
            .unwrap_or("app");
        let mut detected = self.process(package, "Rust (Cargo.toml)", &[&format!("./bin/{program}")], None);
        detected.build =
            Some(owned(&["cargo", "install", "--locked", "--no-track", "--path", ".", "--root", "dist"]));
        detected.folder = Some("dist".to_owned());
        if package.is_none() {
            detected
                .notes
                .push("This is a workspace: name the package's folder after --path in build.".to_owned());
        }
        detected.notes.push("Build on Linux, or with --target for the server's system.".to_owned());
        Some(detected)
    }

    fn site(&self) -> Option<Detected> {
        let places = [
            ("index.html", ""),
            ("public/index.html", "public"),
            ("dist/index.html", "dist"),
            ("_site/index.html", "_site"),
        ];
        let (index, root) = places.into_iter().find(|(index, _)| self.has(index))?;
        let mut detected = self.process(None, &format!("static site ({index})"), &[], None);
        detected.unit = DetectedUnit::Static { root: String::new() };
        if !root.is_empty() {
            detected.folder = Some(root.to_owned());
        }
        Some(detected)
    }

    fn nothing(&self) -> Detected {
        let mut detected = self.process(None, "nothing known", &["./start"], None);
        detected.notes.push("Fill in start: the program and its arguments, as a list.".to_owned());
        detected
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `22` of `>=22.3`, `^22`, `22.x`.
fn major(range: &str) -> Option<String> {
    let digits: String =
        range.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    // A range with an upper bound or alternatives names no single version.
    let single = !range.contains("||") && !range.contains('<') && !range.trim_start().starts_with(">=");
    (single && !digits.is_empty() && digits.len() < 4).then_some(digits)
}

fn is_major(part: &str) -> bool {
    part.strip_prefix('v')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name made to fit the rule of app names, if something of it is left.
fn app_name(text: &str) -> Option<AppName> {
    // The scope of an npm package says who, not what.
    let text = text.rsplit('/').next().unwrap_or(text).to_ascii_lowercase();
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_lowercase() || (c.is_ascii_digit() && !name.is_empty()) {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name: String = name.chars().take(31).collect();
    AppName::new(name.trim_end_matches('-')).ok()
}

fn fallback_name() -> AppName {
    #[expect(clippy::expect_used, reason = "the literal fits the rule of app names")]
    AppName::new("app").expect("a lower-case word is an app name")
}

#[cfg(test)]
mod tests;
