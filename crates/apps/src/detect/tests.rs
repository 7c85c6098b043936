//! Folders as people have them. What `init` writes for each must parse.

use super::*;
use allod_appspec::{document, parse};
use allod_proto::EnvName;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("my-").tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn detected(files: &[(&str, &str)]) -> Detected {
    let folder = folder(files);
    let detected = detect(folder.path()).unwrap();
    let text = document(&detected);
    let written = parse(&text).unwrap_or_else(|complaints| panic!("{complaints}\n{text}"));
    assert_eq!(written.resolve(&EnvName::default()).unwrap().spec.app.name, detected.name);
    detected
}

fn start(detected: &Detected) -> (Vec<&str>, Option<&str>) {
    match &detected.unit {
        DetectedUnit::Process { start, runtime } => {
            (start.iter().map(String::as_str).collect(), runtime.as_deref())
        }
        DetectedUnit::Static { .. } => panic!("{detected:?}"),
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    assert!(detect(Path::new("/nonexistent/folder")).is_err());
}

#[test]
fn an_unknown_or_broken_folder_still_gives_a_file_to_fill_in() {
    assert_eq!(start(&detected(&[])).0, ["./start"]);
    for name in ["package.json", "Cargo.toml", "go.mod"] {
        assert_eq!(detected(&[(name, "{ broken \u{1} [")]).what, "nothing known", "{name}");
    }
}

#[test]
fn node_is_told_by_package_json() {
    let package = r#"{"name":"@acme/My_Shop","scripts":{"start":"node src/server.js --port=1","build":"tsc"},
        "engines":{"node":"22.x"},"dependencies":{"express":"5"}}"#;
    let found = detected(&[("package.json", package)]);
    assert_eq!(found.name.as_str(), "my-shop");
    assert_eq!(start(&found), (vec!["node", "src/server.js", "--port=1"], Some("node@22")));
    assert_eq!(found.build.as_deref(), Some(&owned(&["npm", "run", "build"])[..]));
    assert!(found.notes[0].contains("node_modules"));
}

#[test]
fn a_start_script_that_needs_a_shell_is_left_to_npm() {
    let found =
        detected(&[("package.json", r#"{"scripts":{"start":"NODE_ENV=x node a.js && echo $HOME"}}"#)]);
    assert_eq!(start(&found), (vec!["npm", "run", "start"], Some("node")));
    let found = detected(&[("package.json", r#"{"main":"lib/main.js","engines":{"node":">=18 <23"}}"#)]);
    assert_eq!(start(&found), (vec!["node", "lib/main.js"], Some("node")));
    assert_eq!(start(&detected(&[("package.json", "{}"), ("app.js", "")])).0, ["node", "app.js"]);
}

#[test]
fn bun_is_told_by_its_lock_file() {
    let found = detected(&[("package.json", r#"{"name":"1st"}"#), ("bun.lock", ""), ("index.ts", "")]);
    assert_eq!(start(&found), (vec!["bun", "index.ts"], Some("bun")));
    assert_eq!(found.name.as_str(), "st");
}

#[test]
fn a_bundled_site_is_built_and_served() {
    let package = r#"{"name":"docs","scripts":{"build":"vite build"},"devDependencies":{"vite":"7"}}"#;
    let found = detected(&[("package.json", package), ("index.html", "")]);
    assert_eq!(found.unit, DetectedUnit::Static { root: String::new() });
    assert_eq!(found.folder.as_deref(), Some("dist"));
}

#[test]
fn python_is_told_by_its_files() {
    let project = "[project]\nname = \"shop\"\nrequires-python = \">=3.11\"\n";
    let found = detected(&[("pyproject.toml", project), ("requirements.txt", ""), ("main.py", "")]);
    assert_eq!(start(&found), (vec!["python3", "main.py"], Some("python3")));
    assert_eq!(found.vars, [("PYTHONPATH".to_owned(), "vendor".to_owned())]);
    assert!(found.notes.iter().any(|note| note.contains(">=3.11")));
    assert!(detected(&[("manage.py", "")]).notes[0].starts_with("Django"));
}

#[test]
fn go_and_rust_are_built_into_a_folder_of_their_own() {
    let found = detected(&[("go.mod", "// x\nmodule github.com/acme/Shop/v2\n\ngo 1.25\n")]);
    assert_eq!(start(&found), (vec!["./shop"], None));
    assert_eq!(found.folder.as_deref(), Some("dist"));
    let cargo = "[package]\nname = \"shop\"\n[[bin]]\nname = \"shopd\"\npath = \"x.rs\"\n";
    let found = detected(&[("Cargo.toml", cargo)]);
    assert_eq!((start(&found), found.name.as_str()), ((vec!["./bin/shopd"], None), "shop"));
    assert!(detected(&[("Cargo.toml", "[workspace]\n")]).notes[0].contains("workspace"));
}

#[test]
fn a_folder_of_pages_is_a_static_site() {
    let found = detected(&[("public/index.html", "")]);
    assert_eq!(found.unit, DetectedUnit::Static { root: String::new() });
    assert_eq!(found.folder.as_deref(), Some("public"));
    assert_eq!(detected(&[("index.html", "")]).folder, None);
}

#[test]
fn a_containerfile_is_noticed_and_said_to_be_unsupported() {
    for name in ["Containerfile", "Dockerfile"] {
        let found = detected(&[(name, "FROM scratch"), ("go.mod", "module a\n")]);
        assert!(found.notes.iter().any(|note| note.starts_with(&format!("There is a {name}"))), "{found:?}");
    }
}

#[test]
fn names_are_made_to_fit() {
    for (text, name) in
        [("@a/b", Some("b")), ("--X__y  z--", Some("x-y-z")), ("123", None), ("été", Some("t"))]
    {
        assert_eq!(app_name(text).as_ref().map(AppName::as_str), name, "{text}");
    }
    assert_eq!(app_name(&"a".repeat(99)).unwrap().as_str().len(), 31);
}
