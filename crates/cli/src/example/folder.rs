//! Writes the folder of the example app, ready to be deployed.

use std::{fmt::Write as _, io, os::unix::fs::PermissionsExt as _, path::Path};

/// How the written app is to behave.
#[derive(Debug, Clone, Default)]
pub struct ExampleOptions {
    /// The app's name; `hello` if empty.
    pub name: String,
    /// Servers of the inventory that it is deployed to.
    pub servers: Vec<String>,
    /// Its routes; every host if empty.
    pub routes: Vec<String>,
    /// How many instances; 1 if 0.
    pub instances: u32,
    /// Further arguments, such as `--never-healthy`.
    pub arguments: Vec<String>,
    /// How long it may take to become healthy, such as `2s`; the default if empty.
    pub health_timeout: String,
}

/// Writes `allod.toml`, `page.txt` with the version, and this very program as `bin/hello` into `folder`.
///
/// # Errors
/// When a file can't be written, or the program does not find itself.
pub fn write_example(folder: &Path, version: &str, options: &ExampleOptions) -> io::Result<()> {
    std::fs::create_dir_all(folder.join("bin"))?;
    let program = folder.join("bin/hello");
    if !program.exists() {
        std::fs::copy(std::env::current_exe()?, &program)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    }
    std::fs::write(folder.join("page.txt"), format!("{version}\n"))?;
    std::fs::write(folder.join("allod.toml"), document(options))
}

fn document(options: &ExampleOptions) -> String {
    let name = if options.name.is_empty() { "hello" } else { &options.name };
    let routes = if options.routes.is_empty() { vec!["/".to_owned()] } else { options.routes.clone() };
    let start: Vec<String> = ["./bin/hello", "example-app"].map(str::to_owned).into();
    let start = [start, options.arguments.clone()].concat();
    let mut text = format!(
        "name = {}\nservers = {}\n\n[units.web]\nstart = {}\ninstances = {}\nroutes = {}\nhealth = \"/health\"\n",
        quoted(name),
        list(&options.servers),
        list(&start),
        options.instances.max(1),
        list(&routes),
    );
    if !options.health_timeout.is_empty() {
        // Writing to a String can't fail.
        let _ = writeln!(text, "health_timeout = {}", quoted(&options.health_timeout));
    }
    text
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_reads_back_as_meant_whatever_stands_in_it() {
        let options = ExampleOptions {
            servers: vec!["we\"b\n1".to_owned()],
            arguments: vec!["--start-delay".to_owned(), "5".to_owned()],
            health_timeout: "2s".to_owned(),
            ..ExampleOptions::default()
        };
        let read: toml::Table = document(&options).parse().unwrap();
        assert_eq!(read["name"].as_str(), Some("hello"));
        assert_eq!(read["servers"][0].as_str(), Some("we\"b\n1"));
        let unit = &read["units"]["web"];
        assert_eq!(unit["start"].as_array().unwrap().len(), 4);
        assert_eq!((unit["instances"].as_integer(), unit["routes"][0].as_str()), (Some(1), Some("/")));
        assert_eq!(unit["health_timeout"].as_str(), Some("2s"));
    }

    #[test]
    fn a_second_version_keeps_the_program_and_changes_the_page() {
        let home = tempfile::tempdir().unwrap();
        write_example(home.path(), "v1", &ExampleOptions::default()).unwrap();
        let program = std::fs::metadata(home.path().join("bin/hello")).unwrap();
        write_example(home.path(), "v2", &ExampleOptions::default()).unwrap();
        let after = std::fs::metadata(home.path().join("bin/hello")).unwrap();
        assert_eq!(program.modified().unwrap(), after.modified().unwrap());
        assert_eq!(after.permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_to_string(home.path().join("page.txt")).unwrap(), "v2\n");
    }
}
