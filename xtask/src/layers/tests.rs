use super::*;

const PLAN: &str = "0 proto\n0 signing\n1 store\n2 apps\n2 mesh\n3 agent\ns testkit\n\nsigning -> proto\n";

fn package(folder: &str, dependencies: &str) -> Package {
    let text = format!("[package]\nname = \"allod-{folder}\"\n{dependencies}");
    let manifest = manifest::parse(&text, &Vec::new()).unwrap().unwrap();
    Package { folder: folder.to_owned(), file: format!("crates/{folder}/Cargo.toml"), manifest }
}

/// What the plan says when `folder` has these lines and all other crates have none.
fn verdict(folder: &str, dependencies: &str) -> Vec<String> {
    let others = ["proto", "signing", "store", "apps", "mesh", "agent", "testkit"]
        .into_iter()
        .filter(|n| *n != folder);
    let mut packages: Vec<_> = others.map(|name| package(name, "")).collect();
    packages.push(package(folder, dependencies));
    judge(&Plan::parse(PLAN), &packages).into_iter().filter(|f| f.fails).map(|f| f.to_string()).collect()
}

#[test]
fn an_edge_that_points_up_is_refused_with_its_line() {
    let found =
        verdict("store", "[dependencies]\nallod-proto.workspace = true\nallod-agent.workspace = true\n");
    assert_eq!(found.len(), 1);
    assert!(
        found.concat().starts_with("crates/store/Cargo.toml:5: store (row 1) -> agent (row 3) points up"),
        "{found:?}"
    );
}

#[test]
fn an_edge_within_a_row_is_refused_unless_listed() {
    assert!(
        verdict("apps", "[dependencies]\nallod-mesh = \"*\"\n")
            .concat()
            .contains("apps -> mesh is within row 2")
    );
    assert!(
        verdict("proto", "[dependencies]\nallod-signing = \"*\"\n").concat().contains("proto -> signing")
    );
    assert_eq!(verdict("signing", "[dependencies]\nallod-proto = \"*\"\n"), Vec::<String>::new());
}

#[test]
fn build_and_target_dependencies_are_edges_too() {
    for section in ["build-dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
        assert_eq!(verdict("store", &format!("[{section}]\nallod-agent = \"*\"\n")).len(), 1, "{section}");
    }
}

#[test]
fn a_support_crate_is_for_tests_only() {
    assert_eq!(verdict("apps", "[dependencies]\nallod-testkit = \"*\"\n").len(), 1);
    assert_eq!(verdict("apps", "[build-dependencies]\nallod-testkit = \"*\"\n").len(), 1);
    assert_eq!(verdict("apps", "[dev-dependencies]\nallod-testkit = \"*\"\n"), Vec::<String>::new());
    assert_eq!(verdict("testkit", "[dependencies]\nallod-agent = \"*\"\n"), Vec::<String>::new());
}

#[test]
fn an_edge_down_is_free() {
    assert_eq!(
        verdict("agent", "[dependencies]\nallod-apps = \"*\"\nallod-proto = \"*\"\n"),
        Vec::<String>::new()
    );
}

#[test]
fn a_crate_without_a_row_is_refused() {
    let found = judge(&Plan::parse("0 proto\n"), &[package("proto", ""), package("stray", "")]);
    assert!(found.iter().any(|f| f.fails && f.message.starts_with("stray has no row")), "{found:?}");
}

#[test]
fn a_row_without_its_crate_is_refused_unless_planned() {
    let found = judge(&Plan::parse("0 proto\n0 gone\n0 soon # planned\n"), &[package("proto", "")]);
    assert_eq!(found.len(), 1);
    assert!(found.iter().all(|f| f.fails && f.line == 2));
    let found = judge(&Plan::parse("0 proto # planned\n"), &[package("proto", "")]);
    assert!(found.iter().all(|f| !f.fails && f.message.contains("is there now")) && found.len() == 1);
}

#[test]
fn a_package_not_called_after_its_folder_is_refused() {
    let mut stray = package("proto", "");
    stray.manifest.name = "allod-words".to_owned();
    assert!(
        judge(&Plan::parse("0 proto\n"), &[stray])
            .iter()
            .any(|f| f.fails && f.message.contains("allod-proto"))
    );
}

#[test]
fn the_plan_itself_may_not_list_an_edge_between_rows_or_nonsense() {
    for bad in ["store -> agent", "agent -> store", "signing -> nobody", "4", "x y", "a -> b c", "0 proto"] {
        let plan = Plan::parse(&format!("{PLAN}{bad}\n"));
        assert_eq!(plan.complaints.len(), 1, "{bad}");
        assert!(plan.complaints.iter().all(|f| f.fails && f.line == 10), "{bad}");
    }
    assert_eq!(Plan::parse(PLAN).complaints, []);
}

#[test]
fn a_listed_edge_that_nobody_uses_is_a_warning() {
    let found = judge(
        &Plan::parse("0 proto\n0 signing\nsigning -> proto\n"),
        &[package("proto", ""), package("signing", "")],
    );
    assert!(found.len() == 1 && found.iter().all(|f| !f.fails && f.line == 3), "{found:?}");
}

#[test]
fn only_crates_and_top_folders_are_packages_of_the_plan() {
    assert_eq!(folder_of("crates/mesh/Cargo.toml"), Some("mesh"));
    assert_eq!(folder_of("xtask/Cargo.toml"), Some("xtask"));
    assert_eq!(folder_of("crates/mesh/fuzz/Cargo.toml"), None);
    assert_eq!(folder_of("Cargo.toml"), None);
}
