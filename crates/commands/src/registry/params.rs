//! What a parameter may be: one check, and the same in words.

use super::Choices;
use allod_proto::named::{Param, ParamKind};
use regex_lite::{Regex, RegexBuilder};
use std::collections::BTreeMap;

/// How large a pattern may grow in memory, in bytes.
const PATTERN: usize = 256 * 1024;

/// A pattern that a value must match as a whole.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let whole = format!("^(?:{pattern})$");
    RegexBuilder::new(&whole).size_limit(PATTERN).build().map_err(|error| error.to_string())
}

/// The patterns of some parameters, compiled once and not for each call.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(BTreeMap<String, Regex>);

impl Patterns {
    /// Of these parameters. One that can't be compiled is left out, and nothing matches it.
    pub(super) fn of<'a>(params: impl IntoIterator<Item = &'a Param>) -> Self {
        let patterns = params.into_iter().filter_map(|param| match &param.kind {
            ParamKind::Pattern { pattern, .. } => Some((pattern.clone(), compile(pattern).ok()?)),
            ParamKind::Choice { .. } | ParamKind::List { .. } | ParamKind::Integer { .. } => None,
        });
        Self(patterns.collect())
    }

    fn is_match(&self, pattern: &str, value: &str) -> bool {
        self.0.get(pattern).is_some_and(|pattern| pattern.is_match(value))
    }
}

/// Whether a value that is in the alphabet is one of the parameter's; the error says what would be.
pub(super) fn check(
    param: &Param,
    value: &str,
    choices: &Choices,
    patterns: &Patterns,
) -> Result<(), String> {
    let fits = match &param.kind {
        ParamKind::Choice { values } => values.iter().any(|one| one == value),
        ParamKind::List { file } => choices.has(file, value),
        ParamKind::Integer { min, max } => {
            // One text, one number: no sign and no zero that need not be there.
            value.parse::<i64>().is_ok_and(|n| n.to_string() == value && (*min..=*max).contains(&n))
        }
        ParamKind::Pattern { pattern, max_length } => {
            let short = usize::try_from(*max_length).is_ok_and(|most| value.len() <= most);
            short && patterns.is_match(pattern, value)
        }
    };
    if fits { Ok(()) } else { Err(describe(param)) }
}

/// What it may be, in words.
#[must_use]
pub fn describe(param: &Param) -> String {
    let kind = match &param.kind {
        ParamKind::Choice { values } => format!("one of {}", values.join(", ")),
        ParamKind::List { file } => format!("a line of {file}"),
        ParamKind::Integer { min, max } => format!("a number from {min} to {max}"),
        ParamKind::Pattern { pattern, max_length } => {
            format!("at most {max_length} characters that match {pattern}")
        }
    };
    match &param.default {
        Some(default) => format!("{kind}; {default} if not given"),
        None => kind,
    }
}
