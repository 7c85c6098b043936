//! One test for each sample, and one that none was forgotten.

use super::{folder, read};
use allod_appspec::parse;
use std::collections::BTreeSet;

macro_rules! samples {
    ($list:ident, $check:ident, $($name:ident),* $(,)?) => {
        const $list: &[&str] = &[$(stringify!($name)),*];
        mod $check {
            $(#[test] fn $name() { super::$check(stringify!($name)); })*
        }
    };
}

samples!(
    INVALID,
    is_complained_about,
    a_command_as_a_string,
    container,
    empty,
    env_slips,
    health_ways,
    hooks,
    key_twice,
    many_at_once,
    measures,
    names,
    not_toml,
    programs,
    routes,
    secret_value,
    static_keys,
    unknown_keys,
    wrong_types
);
samples!(VALID, resolves, environments, everything, smallest);

fn is_complained_about(name: &str) {
    let complaints = parse(&read("invalid", &format!("{name}.toml"))).unwrap_err().to_string();
    assert_eq!(complaints, read("invalid", &format!("{name}.txt")).trim_end(), "in {name}:\n{complaints}");
}

fn resolves(name: &str) {
    let written = parse(&read("valid", &format!("{name}.toml"))).unwrap_or_else(|error| panic!("{error}"));
    for environment in written.environments() {
        written.resolve(&environment).unwrap();
    }
}

#[test]
fn every_sample_has_its_test() {
    for (kind, listed) in [("invalid", INVALID), ("valid", VALID)] {
        let there: BTreeSet<String> = std::fs::read_dir(folder(kind))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
            .collect();
        assert_eq!(there, listed.iter().map(|name| (*name).to_owned()).collect());
    }
}
