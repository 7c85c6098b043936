//! A route with a folder of files.

use crate::support::{Proxy, route, status};
use allod_proto::routes::{Route, RouteTarget};
use std::{fs, os::unix::fs::symlink, path::Path};

fn site(folder: &Path) -> Route {
    let root = folder.join("site");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::create_dir_all(root.join(".well-known")).unwrap();
    fs::write(folder.join("outside"), "SECRET").unwrap();
    fs::write(root.join(".git/config"), "SECRET").unwrap();
    fs::write(root.join(".env"), "SECRET").unwrap();
    fs::write(root.join(".well-known/x"), "known").unwrap();
    fs::write(root.join("index.html"), "<p>home").unwrap();
    fs::write(root.join("sub/index.html"), "<p>sub").unwrap();
    fs::write(root.join("a.txt"), "0123456789").unwrap();
    fs::write(root.join("big.bin"), vec![b'x'; 700_001]).unwrap();
    fs::write(root.join("s.css"), "plain").unwrap();
    fs::write(root.join("s.css.gz"), "packed").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    symlink("..", root.join("up")).unwrap();
    route("/", RouteTarget::Static { root, fallback: None })
}

async fn ask(proxy: &Proxy, method: &str, path: &str, headers: &str) -> String {
    proxy.exchange(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")).await
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder_or_to_a_hidden_file() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(vec![site(folder.path())]).await;
    for path in [
        "/../outside",
        "/%2e%2e/outside",
        "/sub/../../outside",
        "/..%2foutside",
        "/%2e%2e%2foutside",
        "/sub/..%5c..%5coutside",
        "/link",
        "/up/outside",
        "/.git/config",
        "/.env",
        "/%2eenv",
        "/sub/%00",
        "/.well-known/../.env",
        "//../outside",
        "/%252e%252e/outside",
        "/proc/self/root/etc/passwd",
        "/a.txt/",
        "/nothing",
    ] {
        let answer = ask(&proxy, "GET", path, "").await;
        assert_eq!(status(&answer), 404, "{path}: {answer}");
        assert!(!answer.contains("SECRET"), "{path}: {answer}");
    }
    assert!(ask(&proxy, "GET", "/.well-known/x", "").await.ends_with("known"));
}

#[tokio::test]
async fn another_method_than_reading_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(vec![site(folder.path())]).await;
    let answer = ask(&proxy, "POST", "/", "Content-Length: 0\r\n").await;
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
}

#[tokio::test]
async fn files_indexes_heads_and_folders_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(vec![site(folder.path())]).await;
    let home = ask(&proxy, "GET", "/", "").await;
    assert!(
        home.contains("content-type: text/html; charset=utf-8\r\n") && home.ends_with("<p>home"),
        "{home}"
    );
    let head = ask(&proxy, "HEAD", "/a.txt", "").await;
    assert!(head.contains("content-length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let redirect = ask(&proxy, "GET", "/sub", "").await;
    assert!(status(&redirect) == 308 && redirect.contains("location: ./sub/\r\n"), "{redirect}");
    let big = ask(&proxy, "GET", "/big.bin", "").await;
    assert_eq!(big.split_once("\r\n\r\n").unwrap().1.len(), 700_001);
}

#[tokio::test]
async fn ranges_and_tags_are_honoured() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(vec![site(folder.path())]).await;
    let whole = ask(&proxy, "GET", "/a.txt", "").await;
    let tag = whole.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let same = ask(&proxy, "GET", "/a.txt", &format!("If-None-Match: {tag}\r\n")).await;
    assert!(status(&same) == 304 && same.ends_with("\r\n\r\n"), "{same}");
    let part = ask(&proxy, "GET", "/a.txt", &format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n")).await;
    assert!(status(&part) == 206 && part.contains("content-range: bytes 2-4/10\r\n"), "{part}");
    assert!(part.ends_with("\r\n\r\n234"), "{part}");
    let stale = ask(&proxy, "GET", "/a.txt", "Range: bytes=2-4\r\nIf-Range: \"old\"\r\n").await;
    assert_eq!(status(&stale), 200);
    let beyond = ask(&proxy, "GET", "/a.txt", "Range: bytes=10-\r\n").await;
    assert!(status(&beyond) == 416 && beyond.contains("content-range: bytes */10\r\n"), "{beyond}");
}

#[tokio::test]
async fn a_precompressed_file_goes_to_who_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(vec![site(folder.path())]).await;
    let packed = ask(&proxy, "GET", "/s.css", "Accept-Encoding: br, gzip\r\n").await;
    assert!(
        packed.contains("content-encoding: gzip\r\n") && packed.contains("content-type: text/css"),
        "{packed}"
    );
    assert!(packed.contains("vary: accept-encoding\r\n") && packed.ends_with("packed"), "{packed}");
    for refused in ["", "Accept-Encoding: gzip;q=0\r\n", "Accept-Encoding: identity\r\n"] {
        assert!(ask(&proxy, "GET", "/s.css", refused).await.ends_with("\r\n\r\nplain"), "{refused}");
    }
}

#[tokio::test]
async fn a_missing_page_is_the_fallback_and_another_release_has_other_tags() {
    let folder = tempfile::tempdir().unwrap();
    let mut route = site(folder.path());
    let RouteTarget::Static { fallback, .. } = &mut route.target else { panic!("not static") };
    *fallback = Some("index.html".into());
    let proxy = Proxy::start(vec![route.clone()]).await;
    let first = ask(&proxy, "GET", "/deep/link", "").await;
    assert!(status(&first) == 200 && first.ends_with("<p>home"), "{first}");
    let tag = first.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    route.release = "ba9876543210".parse().unwrap();
    proxy.load(vec![route]).await;
    let second = ask(&proxy, "GET", "/deep/link", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!(status(&second), 200, "same size and time, another release: {second}");
}
