//! The folder of an app to deploy: the example app of the binary, run through a one-line script so that a deploy sends
//! hundreds of bytes and not the whole debug binary.

use crate::{cli::Output, world::World};
use serde_json::Value;
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
    /// Which server it is for; the only one there is otherwise.
    pub(crate) server: Option<&'static str>,
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
            server: None,
            more: String::new(),
        }
    }
}

impl App {
    pub(crate) fn new(folder: &Path, binary: &Path, name: &str) -> Self {
        let app = Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            binary: binary.to_owned(),
            options: Options::default(),
        };
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

    /// Writes it and deploys it as the owner.
    pub(crate) async fn deploy(&self, world: &World, version: &str) -> Output {
        self.write(version);
        self.run(world, &["deploy"]).await
    }

    /// Runs `allod --json --yes …` in its folder as the owner.
    pub(crate) async fn run(&self, world: &World, words: &[&str]) -> Output {
        world.cli.run_in(&self.folder, words).await
    }

    /// Runs `allod …` in its folder as the owner, as a person would see it.
    pub(crate) async fn plain(&self, world: &World, words: &[&str]) -> Output {
        world.cli.plain_in(&self.folder, words).await
    }

    /// How the server says that it stands.
    pub(crate) async fn status(&self, world: &World) -> Value {
        let document = world.allod(&["servers", "status"]).await.ok().json();
        let apps = document["servers"][0]["status"]["apps"].as_array().unwrap().clone();
        let name = format!("{}/production", self.name);
        apps.into_iter().find(|app| app["app"] == name).unwrap_or_else(|| panic!("no {name} in {document}"))
    }

    /// The processes of its healthy copies.
    pub(crate) async fn pids(&self, world: &World) -> Vec<u32> {
        let status = self.status(world).await;
        let instances = status["units"][0]["instances"].as_array().unwrap();
        let running = instances.iter().filter(|instance| instance["exit"].is_null());
        running.map(|instance| u32::try_from(instance["pid"].as_u64().unwrap()).unwrap()).collect()
    }

    /// Writes just the document.
    pub(crate) fn write_document(&self, text: &str) {
        std::fs::write(self.folder.join("allod.toml"), text).unwrap();
    }

    fn document(&self) -> String {
        let Options { routes, instances, arguments, health_timeout, drain, server, more } = &self.options;
        let start = [vec!["sh".to_owned(), "run.sh".to_owned()], arguments.clone()].concat();
        let servers = server.map(|server| format!("servers = [{server:?}]\n")).unwrap_or_default();
        let mut text = format!("name = {:?}\n{servers}\n[units.web]\n", self.name);
        writeln!(text, "start = {start:?}\ninstances = {instances}\nroutes = {routes:?}").unwrap();
        writeln!(text, "health = \"/health\"\nhealth_timeout = {health_timeout:?}\ndrain = {drain:?}")
            .unwrap();
        text.push_str(more);
        text
    }
}
