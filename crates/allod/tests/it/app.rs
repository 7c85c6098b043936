//! The folder of an app to deploy: the example app of the binary, run through a one-line script so that a deploy sends
//! hundreds of bytes and not the whole debug binary.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// A folder with an `allod.toml`.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    binary: PathBuf,
    options: Options,
}

/// How it is to behave.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) routes: Vec<String>,
    pub(crate) instances: u32,
    /// Flags of `allod example-app`.
    pub(crate) arguments: Vec<String>,
    pub(crate) health_timeout: &'static str,
    pub(crate) drain: &'static str,
    /// Further lines, at the end of the file.
    pub(crate) more: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            routes: vec!["/".to_owned()],
            instances: 1,
            arguments: Vec::new(),
            health_timeout: "30s",
            drain: "10s",
            more: String::new(),
        }
    }
}

impl App {
    pub(crate) fn new(folder: &Path, binary: &Path, name: &str) -> Self {
        let app =
            Self { folder: folder.to_owned(), name: name.to_owned(), binary: binary.to_owned(), options: Options::default() };
        app.write("v1");
        app
    }

    /// Changes what it is; the version stays to be written.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Writes it as this version.
    pub(crate) fn write(&self, version: &str) {
        std::fs::create_dir_all(&self.folder).unwrap();
        let script = format!("#!/bin/sh\nexec '{}' example-app \"$@\"\n", self.binary.display());
        std::fs::write(self.folder.join("run.sh"), script).unwrap();
        std::fs::write(self.folder.join("page.txt"), format!("{version}\n")).unwrap();
        self.write_document(&self.document());
    }

    /// Writes just the document.
    pub(crate) fn write_document(&self, text: &str) {
        std::fs::write(self.folder.join("allod.toml"), text).unwrap();
    }

    fn document(&self) -> String {
        let Options { routes, instances, arguments, health_timeout, drain, more } = &self.options;
        let start = [vec!["sh".to_owned(), "run.sh".to_owned()], arguments.clone()].concat();
        let mut text = format!("name = {:?}\n\n[units.web]\n", self.name);
        writeln!(text, "start = {start:?}\ninstances = {instances}\nroutes = {routes:?}").unwrap();
        writeln!(text, "health = \"/health\"\nhealth_timeout = {health_timeout:?}\ndrain = {drain:?}").unwrap();
        text.push_str(more);
        text
    }
}
