use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Apps {
    apps: BTreeMap<String, u64>,
}

impl Format for Apps {
    const NAME: &'static str = "apps";
    const FORMAT: u32 = 3;

    fn upgrade(mut value: Value, from: u32) -> Result<Value, String> {
        assert_eq!(from, 2, "only the format before is ever asked for");
        let list = value.get_mut("list").ok_or("no list")?.take();
        Ok(serde_json::json!({ "apps": list }))
    }
}

fn apps() -> Apps {
    Apps { apps: BTreeMap::from([("blog".to_owned(), u64::MAX), ("shop".to_owned(), 0)]) }
}

fn problem(text: &str) -> String {
    from_bytes::<Apps>(Path::new("/x/apps.json"), text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_newer_format_is_refused_with_the_one_that_is_needed() {
    let text = problem(r#"{"format":4,"kind":"apps","apps":{},"more":1}"#);
    assert_eq!(
        text,
        "/x/apps.json has apps format 4; this program reads up to 3, use a version that reads 4"
    );
}

#[test]
fn a_format_two_behind_is_refused() {
    assert!(
        problem(r#"{"format":1,"kind":"apps","apps":{}}"#)
            .contains("format 1; this program reads 2 and later")
    );
    assert!(problem(r#"{"format":0,"kind":"apps","apps":{}}"#).contains("format 0"));
}

#[test]
fn garbage_is_refused_by_name_and_never_empty() {
    for bad in [
        "",
        "\0\0\0\0",
        "{}",
        "[]",
        "null",
        r#"{"format":3}"#,
        r#"{"format":"3","kind":"apps","apps":{}}"#,
        r#"{"format":-3,"kind":"apps","apps":{}}"#,
        r#"{"format":4294967299,"kind":"apps","apps":{}}"#,
        r#"{"format":3,"kind":"keys","apps":{}}"#,
        r#"{"format":3,"kind":"apps"}"#,
        r#"{"format":3,"kind":"apps","apps":{},"surprise":1}"#,
        r#"{"format":3,"kind":"apps","apps":{}}{"#,
        r#"{"format":2,"kind":"apps","apps":{}}"#,
    ] {
        let text = problem(bad);
        assert!(text.starts_with("/x/apps.json is not a readable apps file: "), "{bad:?}: {text}");
    }
}

#[test]
fn a_value_that_would_hide_its_own_format_is_not_written() {
    #[derive(Serialize, Deserialize)]
    struct Clash {
        format: String,
    }
    impl Format for Clash {
        const NAME: &'static str = "clash";
        const FORMAT: u32 = 1;
    }
    #[derive(Serialize, Deserialize)]
    struct Bare(Vec<u8>);
    impl Format for Bare {
        const NAME: &'static str = "bare";
        const FORMAT: u32 = 1;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    assert!(save(&path, &Clash { format: "tar".to_owned() }, 0o600).is_err());
    assert!(save(&path, &Bare(vec![1]), 0o600).is_err());
    assert!(!path.exists());
}

#[test]
fn a_pipe_in_the_files_place_is_refused_and_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apps.json");
    rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    assert!(matches!(load::<Apps>(&path), Err(StoreError::NotAFile { .. })));
    assert!(matches!(load::<Apps>(folder.path()), Err(StoreError::NotAFile { .. })));
}

#[test]
fn a_file_over_the_bound_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "12345").unwrap();
    assert!(matches!(read_regular(&path, File::open(&path).unwrap(), 4), Err(StoreError::TooLarge { .. })));
    assert_eq!(read_regular(&path, File::open(&path).unwrap(), 5).unwrap(), b"12345");
}

#[test]
fn what_is_not_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load::<Apps>(&folder.path().join("apps.json")).unwrap(), None);
    assert_eq!(load::<Apps>(&folder.path().join("no/folder")).unwrap(), None);
}

#[test]
fn the_format_before_is_upgraded() {
    let old = r#"{"format":2,"kind":"apps","list":{"blog":7}}"#;
    let read: Apps = from_bytes(Path::new("apps.json"), old.as_bytes()).unwrap();
    assert_eq!(read.apps["blog"], 7);
}

#[test]
fn a_file_begins_with_format_and_kind_and_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apps.json");
    save(&path, &apps(), 0o600).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n  \"format\": 3,\n  \"kind\": \"apps\",\n"), "{text}");
    assert_eq!(load::<Apps>(&path).unwrap(), Some(apps()));
}

proptest! {
    #[test]
    fn a_torn_file_is_refused_wherever_it_is_torn(cut in 0_usize..60) {
        let whole = to_bytes(Path::new("f"), &apps()).unwrap();
        // The last two bytes are the closing brace and the newline.
        let cut = cut.min(whole.len() - 2);
        prop_assert!(from_bytes::<Apps>(Path::new("f"), &whole[..cut]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes::<Apps>(Path::new("f"), &bytes);
    }
}
