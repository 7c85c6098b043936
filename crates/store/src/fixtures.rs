//! Files of every format, kept as they were written: that they are read, that the newest is what is written now, and that
//! a newer one is refused with the version that is needed. For the tests of whoever has a [`Format`].

use crate::{
    Format, StoreError,
    format::{from_bytes, load, to_bytes},
};
use serde_json::Value;
use std::path::Path;

/// The file of a kind and format: `<kind>.format-<number>.json`, with `-` for what is no letter or digit.
#[must_use]
pub fn file_name(kind: &str, format: u32) -> String {
    let kind: String = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{kind}.format-{format}.json")
}

/// Looks at the fixtures of one kind in `folder`.
///
/// # Errors
/// A sentence: one is missing, can't be read, or is not what is written now; or a newer one is not refused clearly.
pub fn check<T: Format>(folder: &Path) -> Result<(), String> {
    for number in T::FORMAT.saturating_sub(1).max(1)..=T::FORMAT {
        let path = folder.join(file_name(T::NAME, number));
        let value: Option<T> = load(&path).map_err(|error| error.to_string())?;
        let value = value.ok_or_else(|| format!("{} is missing", path.display()))?;
        let written = to_bytes(&path, &value).map_err(|error| error.to_string())?;
        let text = std::fs::read(&path).map_err(|error| error.to_string())?;
        if number == T::FORMAT {
            let json =
                |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string());
            let (written, there) = (json(&written)?, json(&text)?);
            if written != there {
                return Err(format!(
                    "{} is not what is written under this number now; a changed layout takes a new one:\n{written:#}",
                    path.display()
                ));
            }
            is_newer_refused::<T>(&path, there)?;
        }
    }
    Ok(())
}

fn is_newer_refused<T: Format>(path: &Path, mut text: Value) -> Result<(), String> {
    let newer = T::FORMAT.saturating_add(1);
    if let Some(fields) = text.as_object_mut() {
        fields.insert("format".to_owned(), newer.into());
        // What a newer program would add.
        fields.insert("something-new".to_owned(), true.into());
    }
    match from_bytes::<T>(path, text.to_string().as_bytes()) {
        Err(error @ StoreError::NewerFormat { .. }) => {
            let sentence = error.to_string();
            let says = sentence.contains(&format!("use a version that reads {newer}"));
            if says { Ok(()) } else { Err(format!("it does not say which version is needed: {sentence}")) }
        }
        Err(other) => Err(format!("a newer {} is refused for another reason: {other}", T::NAME)),
        Ok(_) => Err(format!("a newer {} is read", T::NAME)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    struct Thing {
        count: u32,
    }

    impl Format for Thing {
        const NAME: &'static str = "a thing";
        const FORMAT: u32 = 1;
    }

    fn judged(text: Option<&str>) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(folder.path().join("a-thing.format-1.json"), text).unwrap();
        }
        check::<Thing>(folder.path())
    }

    #[test]
    fn a_fixture_that_is_missing_or_not_what_is_written_now_fails() {
        assert!(judged(None).unwrap_err().contains("is missing"));
        let grown = judged(Some(r#"{"format":1,"kind":"a thing","count":1,"name":"x"}"#)).unwrap_err();
        assert!(grown.contains("takes a new one"), "{grown}");
        assert!(judged(Some(r#"{"format":2,"kind":"a thing","count":1}"#)).is_err());
    }

    #[test]
    fn a_fixture_that_is_written_the_same_now_holds() {
        judged(Some(r#"{"format":1,"kind":"a thing","count":1}"#)).unwrap();
    }
}
