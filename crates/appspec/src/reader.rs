//! Takes keys out of a TOML table, each with its place. A key that nobody took is unknown: the list of known keys is
//! the list of keys that were asked for, so the two can't drift apart.

use crate::complaint::{At, Complaint, Complaints, Spot, nearest};
use std::{borrow::Cow, collections::BTreeSet};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// Words in order, each with its place.
pub type List = At<Vec<At<String>>>;

/// The text's line starts, and what was complained about so far.
pub struct Reader<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    /// What was complained about so far.
    pub complaints: Vec<Complaint>,
}

impl<'t> Reader<'t> {
    /// For this text.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Self { text, line_starts, complaints: Vec::new() }
    }

    /// The text as a table.
    ///
    /// # Errors
    /// What makes it none. What follows a syntax error may be read wrongly, so that alone is worth telling.
    pub fn table(&mut self) -> Result<Spanned<DeTable<'t>>, Complaints> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            let complaint = self.spot(offset, String::new()).complain(error.message().replace('\n', ", "));
            self.complaints.push(complaint);
        }
        Complaints::check(std::mem::take(&mut self.complaints))?;
        Ok(table)
    }

    /// The place of a byte of the text.
    #[must_use]
    pub fn spot(&self, offset: usize, path: String) -> Spot {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Spot { line, column, path }
    }
}

/// One table while its keys are taken out.
pub struct Keys<'r, 't> {
    reader: &'r mut Reader<'t>,
    table: &'r DeTable<'t>,
    prefix: String,
    asked: BTreeSet<&'static str>,
    /// Keys that are there but could not be read, or were probably meant by an unknown key: not missing.
    broken: BTreeSet<String>,
}

impl<'r, 't> Keys<'r, 't> {
    /// The keys of a table whose own path is `prefix`.
    pub fn new(reader: &'r mut Reader<'t>, table: &'r DeTable<'t>, prefix: &str) -> Self {
        Self { reader, table, prefix: prefix.to_owned(), asked: BTreeSet::new(), broken: BTreeSet::new() }
    }

    /// The whole path of a key.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    fn entry(&mut self, key: &'static str) -> Option<(Spot, &'r Spanned<DeValue<'t>>)> {
        self.asked.insert(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some((self.reader.spot(name.span().start, self.path(key)), value))
    }

    fn complain(&mut self, key: &str, complaint: Complaint) {
        self.broken.insert(key.to_owned());
        self.reader.complaints.push(complaint);
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl Fn(&DeValue<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        let (spot, value) = self.entry(key)?;
        match read(value.get_ref()) {
            Some(value) => Some(At { spot, value }),
            None => {
                let complaint = spot.complain(expected(wanted, value.get_ref()));
                self.complain(key, complaint);
                None
            }
        }
    }

    /// A string.
    pub fn string(&mut self, key: &'static str) -> Option<At<String>> {
        self.value(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str) -> Option<At<bool>> {
        self.value(key, "true or false", DeValue::as_bool)
    }

    /// A whole number from 0.
    pub fn number(&mut self, key: &'static str) -> Option<At<u32>> {
        self.value(key, "a whole number from 0", |value| {
            let number = value.as_integer()?;
            u32::from_str_radix(number.as_str(), number.radix()).ok()
        })
    }

    /// A list of strings.
    pub fn list(&mut self, key: &'static str) -> Option<List> {
        self.list_or(key, |text| format!("write a list: [{text:?}]"))
    }

    /// An argument vector. No shell reads it, so a string can't be one; the list it would be is shown.
    pub fn command(&mut self, key: &'static str) -> Option<List> {
        self.list_or(key, |text| {
            let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
            format!("write a list, no shell reads it: [{}]", words.join(", "))
        })
    }

    fn list_or(&mut self, key: &'static str, hint: impl Fn(&str) -> String) -> Option<List> {
        let (spot, value) = self.entry(key)?;
        let Some(array) = value.get_ref().as_array() else {
            let complaint = spot.complain(expected("a list of strings", value.get_ref()));
            let complaint = match value.get_ref().as_str() {
                Some(text) => complaint.hint(hint(text)),
                None => complaint,
            };
            self.complain(key, complaint);
            return None;
        };
        Some(At { value: self.words(key, &spot, array)?, spot })
    }

    fn words(&mut self, key: &str, list: &Spot, array: &DeArray<'t>) -> Option<Vec<At<String>>> {
        let mut words = Vec::new();
        let mut whole = true;
        for item in array {
            let spot = self.reader.spot(item.span().start, list.path.clone());
            if let Some(text) = item.get_ref().as_str() {
                words.push(At { spot, value: text.to_owned() });
            } else {
                whole = false;
                let complaint = spot.complain(expected("a list of strings", item.get_ref()));
                self.complain(key, complaint);
            }
        }
        whole.then_some(words)
    }

    /// A table whose keys are the user's own: name, place and value of each.
    pub fn named(&mut self, key: &'static str) -> Vec<(Spot, String, &'r Spanned<DeValue<'t>>)> {
        let Some((spot, value)) = self.entry(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            let complaint = spot.complain(expected("a table", value.get_ref()));
            self.complain(key, complaint);
            return Vec::new();
        };
        let path = self.path(key);
        let entry = |(key, value): (&Spanned<Cow<'t, str>>, &'r Spanned<DeValue<'t>>)| {
            let name = key.get_ref().to_string();
            (self.reader.spot(key.span().start, format!("{path}.{name}")), name, value)
        };
        table.iter().map(entry).collect()
    }

    /// The entries of a user's own table that are strings.
    pub fn strings(&mut self, key: &'static str) -> Vec<(String, At<String>)> {
        let mut strings = Vec::new();
        for (spot, name, value) in self.named(key) {
            match value.get_ref().as_str() {
                Some(text) => strings.push((name, At { spot, value: text.to_owned() })),
                None => {
                    let complaint = spot.complain(expected("a string", value.get_ref()));
                    let complaint = match value.get_ref() {
                        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                            complaint.hint("put it in quotes")
                        }
                        DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                            complaint
                        }
                    };
                    self.complain(key, complaint);
                }
            }
        }
        strings
    }

    /// A value of several shapes: the caller reads it.
    pub fn any(&mut self, key: &'static str) -> Option<(Spot, &'r Spanned<DeValue<'t>>)> {
        self.entry(key)
    }

    /// What the table is read with.
    pub fn reader(&mut self) -> &mut Reader<'t> {
        self.reader
    }

    /// Marks a key as there but unreadable, so that it does not count as missing as well.
    pub fn is_broken(&mut self, key: &str) {
        self.broken.insert(key.to_owned());
    }

    /// Complains about every key that nobody asked for; answers which keys are there but unreadable.
    pub fn finish(mut self) -> BTreeSet<String> {
        for (name, _) in self.table {
            let key: &str = name.get_ref();
            if self.asked.contains(key) {
                continue;
            }
            let complaint = self.reader.spot(name.span().start, self.path(key)).complain("unknown key");
            let known = nearest(key, self.asked.iter().copied());
            let complaint = match known {
                Some(known) => complaint.hint(format!("did you mean {known}?")),
                None => {
                    let known: Vec<&str> = self.asked.iter().copied().collect();
                    complaint.hint(format!("known here: {}", known.join(", ")))
                }
            };
            self.broken.extend(known.map(str::to_owned));
            self.reader.complaints.push(complaint);
        }
        self.broken
    }
}

/// What was wanted, and what stands there instead.
#[must_use]
pub fn expected(wanted: &str, found: &DeValue<'_>) -> String {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("expected {wanted}, found {found}")
}
