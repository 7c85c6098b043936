use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Sample {
    #[serde(rename = "ID")]
    id: i64,
    name: String,
    on: bool,
    maybe: Option<bool>,
    list: Vec<Sample>,
    map: BTreeMap<i64, Option<Vec<String>>>,
    any: Vec<serde_json::Value>,
}

fn sample(text: &str) -> Result<Sample, JsonError> {
    read(text.as_bytes(), 1 << 20)
}

fn complaint(text: &str) -> String {
    sample(text).unwrap_err().to_string()
}

#[test]
fn a_text_over_its_bound_is_not_looked_at() {
    assert_eq!(read::<Sample>(b"nonsense", 7), Err(JsonError::TooLong(7)));
}

#[test]
fn what_follows_the_value_is_refused() {
    assert!(sample("{} {}").is_err());
    assert!(sample("{}x").is_err());
    assert!(sample("").is_err());
}

#[test]
fn a_list_is_not_taken_for_a_struct() {
    assert!(sample("[1,\"a\"]").is_err());
    assert!(complaint("{\"List\":[[1]]}").starts_with("List: "));
}

#[test]
fn an_error_names_the_fields_on_the_way_and_is_short() {
    let text = complaint("{\"list\":[{},{\"LIST\":[{\"id\":\"five\"}]}]}");
    assert!(text.starts_with("List: List: ID: invalid type: string \"five\""), "{text}");
    let long = complaint(&format!("{{\"ID\":\"{}\\n\"}}", "x".repeat(100_000)));
    assert!(long.len() <= 300 && !long.contains('\n'), "{long}");
}

#[test]
fn a_key_matches_whatever_its_case_and_unknown_ones_are_ignored() {
    let read = sample("{\"id\":5,\"NAME\":\"a\\u003cb\",\"oN\":true,\"Else\":{\"ID\":[7]},\"\":1}").unwrap();
    assert_eq!(read, Sample { id: 5, name: "a<b".to_owned(), on: true, ..Sample::default() });
}

#[test]
fn null_is_the_zero_value_everywhere() {
    let all =
        "{\"ID\":null,\"Name\":null,\"On\":null,\"Maybe\":null,\"List\":null,\"Map\":null,\"Any\":null}";
    assert_eq!(sample(all), Ok(Sample::default()));
    assert_eq!(sample("null"), Ok(Sample::default()));
    assert_eq!(sample("{\"List\":[null]}").unwrap().list, [Sample::default()]);
}

#[test]
fn an_absent_value_and_an_empty_one_differ_where_the_type_says_so() {
    let map = sample("{\"Map\":{\"1\":null,\"2\":[],\"3\":[\"x\"]}}").unwrap().map;
    assert_eq!(map.get(&1), Some(&None));
    assert_eq!(map.get(&2), Some(&Some(Vec::new())));
    assert_eq!(map.get(&3), Some(&Some(vec!["x".to_owned()])));
}

#[test]
fn data_keeps_the_case_of_its_keys() {
    let any = sample("{\"any\":[{\"Key\":{\"kEy\":null}}]}").unwrap().any;
    assert_eq!(any, [serde_json::json!({"Key": {"kEy": null}})]);
}

#[test]
fn short_entries_of_large_types_do_not_take_memory_without_end() {
    let many = format!("{{\"List\":[{}{{}}]}}", "{},".repeat(3_000_000));
    let error = read::<Sample>(many.as_bytes(), 16 << 20).unwrap_err();
    assert!(error.to_string().contains("more entries"), "{error}");
    let any = format!("{{\"Any\":[{}0]}}", "[],".repeat(5_000_000));
    let error = read::<Sample>(any.as_bytes(), 16 << 20).unwrap_err();
    assert!(error.to_string().contains("more entries"), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{}{}", "{\"List\":[".repeat(10_000), "]}".repeat(10_000));
    assert!(complaint(&deep).starts_with("List: List: List: "));
    let any = format!("{{\"Any\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(complaint(&any).contains("recursion"));
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in "[\\[\\]{}\":,a-zA-Z0-9 .\\\\-]{0,80}") {
        let _ = sample(&text);
    }

    #[test]
    fn every_cut_of_a_good_text_is_refused(cut in 1..120_usize) {
        let text = "{\"ID\":5,\"List\":[{\"Name\":\"a\",\"Any\":[1,{\"b\":[]}]}],\"Map\":{\"4\":[\"c\"]},\"Maybe\":true}";
        let kept = text.get(..text.len().saturating_sub(cut)).unwrap_or_default();
        prop_assert!(sample(text).is_ok());
        prop_assert!(sample(kept).is_err());
    }
}
