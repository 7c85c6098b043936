//! What the programs write for each other under a format number, as it was written (`tests/fixtures`). Who reads it refuses
//! a newer one: the proxy and the agent for routes, the executor and `apps` for manifests.

use allod_proto::{manifest, manifest::Manifest, routes, routes::RouteTable};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn same<T: Serialize + DeserializeOwned>(name: &str, number: u32) -> T {
    let path = format!("{}/tests/fixtures/{name}.format-{number}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let there: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), there, "a changed layout takes a new number");
    value
}

#[test]
fn every_format_is_read_as_it_was_written() {
    assert_eq!(same::<RouteTable>("routes", routes::FORMAT).format, routes::FORMAT);
    assert_eq!(same::<Manifest>("manifest", manifest::FORMAT).format, manifest::FORMAT);
}
