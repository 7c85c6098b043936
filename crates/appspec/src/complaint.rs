//! What is wrong with the file: every complaint has its line, the key it is about, and where possible what to write
//! instead. They are collected, never thrown one by one.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Counts from 1.
    pub line: usize,
    /// Characters from the start of the line, from 1.
    pub column: usize,
    /// The key, as `units.web.start`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, as a clause.
    pub message: String,
    /// What to do about it, as a clause.
    pub hint: Option<String>,
}

impl Complaint {
    /// As it is shown about this file: `deploy-site.toml:3: timeout: …`.
    #[must_use]
    pub fn about(&self, file: &str) -> String {
        let mut text = format!("{file}:{}: ", self.line);
        if !self.path.is_empty() {
            text.push_str(&format!("{}: ", self.path));
        }
        text.push_str(&self.message);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("; {hint}"));
        }
        text
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about(crate::FILE))
    }
}

/// Everything that is wrong with a file, at least one complaint, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Complaints(Vec<Complaint>);

impl Complaints {
    /// `Err` if there is anything to complain about.
    ///
    /// # Errors
    /// All of them, in the order of the file.
    pub fn check(mut found: Vec<Complaint>) -> Result<(), Self> {
        found.sort();
        found.dedup();
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }

    /// Just this one.
    #[must_use]
    pub fn one(complaint: Complaint) -> Self {
        Self(vec![complaint])
    }

    /// The complaints, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Complaint> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Complaints {
    type Item = &'a Complaint;
    type IntoIter = std::slice::Iter<'a, Complaint>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One per line: `allod.toml:12: units.web.strat: unknown key; did you mean start?`
impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for complaint in &self.0 {
            write!(f, "{between}{complaint}")?;
            between = "\n";
        }
        Ok(())
    }
}

/// Where a key or value stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spot {
    /// Counts from 1.
    pub line: usize,
    /// Characters from the start of the line, from 1.
    pub column: usize,
    /// The key, as `units.web.start`.
    pub path: String,
}

impl Spot {
    /// That this is wrong here.
    #[must_use]
    pub fn complain(&self, message: impl Into<String>) -> Complaint {
        Complaint {
            line: self.line,
            column: self.column,
            path: self.path.clone(),
            message: message.into(),
            hint: None,
        }
    }
}

impl Complaint {
    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// Where.
    pub spot: Spot,
    /// What.
    pub value: T,
}

/// The known word that was probably meant: close enough that a slip of the fingers explains it.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}
