//! The routing tables of kamal-proxy's tests (host, path and prefix cases), as data, and what a table refuses.

use super::*;
use allod_proto::routes::RouteLimits;
use proptest::prelude::*;

fn table(patterns: &[&str]) -> Result<Table, String> {
    let routes = patterns.iter().enumerate().map(|(at, text)| Route {
        app: format!("app{}", at + 1).parse().unwrap(),
        unit: "web".parse().unwrap(),
        release: "0123456789ab".parse().unwrap(),
        pattern: RoutePattern::parse(text).unwrap(),
        strip_prefix: true,
        target: RouteTarget::Stopped { message: String::new() },
        limits: RouteLimits::default(),
    });
    let file = RouteTable { format: FORMAT, generation: 1, routes: routes.collect() };
    Table::compile(&file, |address| Arc::new(Instance::new(address)))
}

fn answers(table: &Table, host: &str, path: &str) -> Option<usize> {
    let entry = table.find(Some(host), path)?;
    entry.app.strip_prefix("app")?.strip_suffix("/production")?.parse().ok()
}

#[test]
fn a_table_of_another_format_or_with_one_pattern_twice_is_refused() {
    let newer = RouteTable { format: FORMAT + 1, generation: 1, routes: Vec::new() };
    assert!(Table::compile(&newer, |a| Arc::new(Instance::new(a))).unwrap_err().contains("format 2"));
    let error = table(&["example.com/api", "example.com/api"]).unwrap_err();
    assert!(error.contains("app1/production and app2/production"), "{error}");
}

#[test]
fn the_most_specific_host_answers() {
    let all = table(&["example.com", "app.example.com", "api.example.com", "*.example.com", "/"]).unwrap();
    for (host, expected) in [
        ("example.com", 1),
        ("app.example.com", 2),
        ("api.example.com", 3),
        ("anything.example.com", 4),
        ("extra.level.example.com", 5),
        ("other.com", 5),
        (".example.com", 5),
    ] {
        assert_eq!(answers(&all, host, "/"), Some(expected), "{host}");
    }
    assert_eq!(all.find(None, "/").unwrap().app, "app5/production");
    assert_eq!(answers(&table(&["example.com"]).unwrap(), "app.example.com", "/"), None);
}

#[test]
fn the_longest_prefix_on_a_segment_boundary_answers() {
    let all = table(&[
        "example.com",
        "example.com/api",
        "example.com/api/special",
        "other.example.com/api",
        "/api",
        "/",
    ])
    .unwrap();
    for (host, path, expected) in [
        ("example.com", "/", 1),
        ("example.com", "/random", 1),
        ("example.com", "/apiary", 1),
        ("example.com", "/api", 2),
        ("example.com", "/api/", 2),
        ("example.com", "/api/special", 3),
        ("other.example.com", "/api/test", 4),
        ("other.example.com", "/else", 6),
        ("second.example.com", "/api/test", 5),
        ("second.example.com", "/non-api/test", 6),
    ] {
        assert_eq!(answers(&all, host, path), Some(expected), "{host}{path}");
    }
}

#[test]
fn the_prefix_is_taken_off_where_the_route_says_so() {
    let all = table(&["/app", "/api/internal", "/"]).unwrap();
    for (path, expected) in [
        ("/app/show", "/show"),
        ("/app", "/"),
        ("/app?a=b", "/?a=b"),
        ("/api/internal/something?a=b", "/something?a=b"),
        ("/api/external/something", "/api/external/something"),
        ("/appointment", "/appointment"),
    ] {
        let bare = path.split('?').next().unwrap();
        assert_eq!(all.find(None, bare).unwrap().rewrite(path), expected, "{path}");
    }
}

proptest! {
    #[test]
    fn a_route_only_answers_paths_below_its_prefix(path in "(/[a-c]{0,2}){1,4}") {
        let all = table(&["/a", "/a/b", "/b/c"]).unwrap();
        if let Some(entry) = all.find(None, &path) {
            let prefix = &entry.route.pattern.path;
            let rest = path.strip_prefix(prefix.as_str()).unwrap();
            prop_assert!(rest.is_empty() || rest.starts_with('/'));
        } else {
            let is_below = |prefix: &str| path == prefix || path.starts_with(&[prefix, "/"].concat());
            prop_assert!(!is_below("/a") && !is_below("/b/c"));
        }
    }
}
