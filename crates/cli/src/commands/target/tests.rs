use super::*;
use crate::{
    arguments::Globals,
    inventory::{Inventory, InventoryError},
    output::{Output, Surroundings},
    settings::Settings,
};
use std::sync::Arc;

fn session(home: &Path, servers: &[&str], chosen: &[&str]) -> Session {
    let settings =
        Settings::from_lookup(|name| (name == "ALLOD_HOME").then(|| home.join("allod").into())).unwrap();
    for name in servers {
        let added = Inventory::change(&settings.config, |known| {
            known.push(Server {
                name: (*name).to_owned(),
                address: "127.0.0.1:1".to_owned(),
                identity: format!("SHA256:{}", name.repeat(43).get(..43).unwrap()).parse().unwrap(),
                record_key: None,
                recipient: None,
                key: None,
            });
            Ok::<_, InventoryError>(())
        });
        added.unwrap();
    }
    let globals =
        Globals { server: chosen.iter().map(|&name| name.to_owned()).collect(), ..Globals::default() };
    let output =
        Output::to(false, Surroundings::default(), Box::new(std::io::sink()), Box::new(std::io::sink()));
    Session::new(settings, globals, Arc::new(output))
}

fn which(app: Option<&str>, env: Option<&str>) -> Which {
    Which::new(app.map(|app| app.parse().unwrap()), env.map(|env| env.parse().unwrap()))
}

const FILE: &str = "name = \"shop\"\nservers = [\"b\"]\n[units.web]\nstart = [\"./web\"]\n\
                    [env.staging]\nservers = [\"a\", \"b\"]\n";

fn names_of(target: &Target) -> String {
    format!("{} on {}", target.app, names(&target.servers))
}

#[test]
fn two_environments_are_one_too_many() {
    assert!(which(Some("shop/staging"), Some("production")).named().is_err());
    assert_eq!(
        which(Some("shop/staging"), Some("staging")).named().unwrap().unwrap().to_string(),
        "shop/staging"
    );
    assert_eq!(which(Some("shop"), Some("staging")).named().unwrap().unwrap().to_string(), "shop/staging");
    assert_eq!(which(Some("shop"), None).named().unwrap().unwrap().to_string(), "shop/production");
}

#[test]
fn without_a_file_and_a_name_there_is_no_app() {
    let home = tempfile::tempdir().unwrap();
    let refused = which(None, None).target_in(&session(home.path(), &["a"], &[]), home.path()).unwrap_err();
    assert_eq!((refused.exit, refused.fault.hint.unwrap().contains("--app")), (2, true));
}

#[test]
fn with_several_servers_and_nothing_said_the_error_lists_them() {
    let home = tempfile::tempdir().unwrap();
    let session = session(home.path(), &["a", "b"], &[]);
    let refused = which(Some("shop"), None).target_in(&session, home.path()).unwrap_err();
    assert!(refused.fault.message.contains("a, b"), "{refused:?}");
    assert_eq!(refused.exit, 2);
}

#[test]
fn a_server_of_the_file_that_is_not_known_is_refused() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("allod.toml"), FILE).unwrap();
    let refused = which(None, None).target_in(&session(home.path(), &["a"], &[]), home.path()).unwrap_err();
    assert_eq!(refused.fault.code, FaultCode::NotFound);
}

#[test]
fn an_environment_the_file_does_not_know_is_refused() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("allod.toml"), FILE).unwrap();
    let refused =
        which(None, Some("stagin")).target_in(&session(home.path(), &["a"], &[]), home.path()).unwrap_err();
    assert_eq!(refused.exit, 2);
    assert!(refused.fault.message.contains("stagin"), "{refused:?}");
}

#[test]
fn the_flag_comes_before_the_file_and_the_file_before_the_only_server() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("allod.toml"), FILE).unwrap();
    let asked = |chosen: &[&str], which: Which| {
        let home = tempfile::tempdir_in(home.path()).unwrap();
        let session = session(home.path(), &["a", "b"], chosen);
        let target = which.target_in(&session, home.path().parent().unwrap()).unwrap();
        names_of(&target)
    };
    assert_eq!(asked(&[], which(None, None)), "shop/production on b");
    assert_eq!(asked(&[], which(None, Some("staging"))), "shop/staging on a, b");
    assert_eq!(asked(&[], which(Some("shop/staging"), None)), "shop/staging on a, b");
    assert_eq!(asked(&["a"], which(None, None)), "shop/production on a");
    assert_eq!(asked(&["a"], which(Some("blog"), None)), "blog/production on a");
}
