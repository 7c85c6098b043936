//! Columns that line up. Cells are made harmless; colours are put on after widths are known.

use super::{style::Style, text::safe};

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Just text.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth knowing.
    Warn,
    /// Needs doing.
    Bad,
    /// Less important.
    Dim,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text with a meaning.
    #[must_use]
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Self { text: safe(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Rows under a heading.
#[derive(Debug, Clone, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(heading: &[&str]) -> Self {
        Self { heading: heading.iter().map(|&word| word.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ended by a newline.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let mut widths: Vec<usize> = self.heading.iter().map(|word| width(word)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(&cell.text));
            }
        }
        let heading: Vec<Cell> = self.heading.iter().map(|word| Cell::toned(Tone::Dim, word)).collect();
        std::iter::once(&heading).chain(&self.rows).map(|row| line(row, &widths, style)).collect()
    }
}

fn line(row: &[Cell], widths: &[usize], style: Style) -> String {
    let mut line = String::new();
    for (at, (cell, &widest)) in row.iter().zip(widths).enumerate() {
        line.push_str(&paint(cell, style));
        if at + 1 < row.len() {
            line.push_str(&" ".repeat(widest.saturating_sub(width(&cell.text)) + 2));
        }
    }
    format!("{}\n", line.trim_end())
}

fn paint(cell: &Cell, style: Style) -> String {
    match cell.tone {
        Tone::Plain => cell.text.clone(),
        Tone::Good => style.good(&cell.text),
        Tone::Warn => style.warn(&cell.text),
        Tone::Bad => style.bad(&cell.text),
        Tone::Dim => style.dim(&cell.text),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(&["name", "state"]);
        table.row(vec!["web1".into(), Cell::toned(Tone::Good, "ok")]);
        table.row(vec!["a-longer-name".into(), "".into()]);
        assert_eq!(
            table.render(Style::new(false)),
            "name           state\nweb1           ok\na-longer-name\n"
        );
    }

    #[test]
    fn a_cell_can_not_break_the_table() {
        let mut table = Table::new(&["name"]);
        table.row(vec!["a\nb\u{1b}[31m".into()]);
        assert_eq!(table.render(Style::new(false)), "name\na\\u{a}b\\u{1b}[31m\n");
    }
}
