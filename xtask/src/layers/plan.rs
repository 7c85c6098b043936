//! `layers.txt` as values: a line `ROW CRATE` places a crate (`s` for support, `# planned` at the end while it isn't
//! there), a line `A -> B` allows an edge within a row, `#` begins a comment.

use crate::finding::Finding;
use crate::tree::LAYERS;

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// A row of the product, 0 lowest.
    Number(u8),
    /// Tests, measurements and chores: may use anything, is used by tests only.
    Support,
}

/// One crate's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) row: Row,
    pub(crate) planned: bool,
    pub(crate) line: usize,
}

/// One allowed edge within a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) line: usize,
}

/// The whole file.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) places: Vec<Place>,
    pub(crate) edges: Vec<Edge>,
    /// Lines that make no sense.
    pub(crate) complaints: Vec<Finding>,
}

impl Plan {
    /// Reads the file; what makes no sense becomes a complaint and allows nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let mut plan = Self::default();
        for (index, whole) in text.lines().enumerate() {
            let (content, comment) = whole.split_once('#').unwrap_or((whole, ""));
            let words: Vec<&str> = content.split_whitespace().collect();
            let line = index + 1;
            match words.as_slice() {
                [] => {}
                [from, "->", to] => {
                    plan.edges.push(Edge { from: (*from).to_owned(), to: (*to).to_owned(), line });
                }
                [row, name] if row_of(row).is_some() => {
                    let (Some(row), planned) = (row_of(row), comment.trim() == "planned") else { continue };
                    plan.place(Place { name: (*name).to_owned(), row, planned, line });
                }
                _ => plan.complain(line, "neither `ROW CRATE` nor `CRATE -> CRATE`"),
            }
        }
        plan.refuse_senseless_edges();
        plan
    }

    /// The row of a crate.
    pub(crate) fn row(&self, name: &str) -> Option<Row> {
        self.places.iter().find(|place| place.name == name).map(|place| place.row)
    }

    /// Whether the edge is allowed by its own line.
    pub(crate) fn lists(&self, from: &str, to: &str) -> bool {
        self.edges.iter().any(|edge| edge.from == from && edge.to == to)
    }

    fn place(&mut self, place: Place) {
        if self.row(&place.name).is_some() {
            self.complain(place.line, &format!("{} has a row already", place.name));
        } else {
            self.places.push(place);
        }
    }

    fn refuse_senseless_edges(&mut self) {
        let (good, bad): (Vec<Edge>, Vec<Edge>) = std::mem::take(&mut self.edges).into_iter().partition(|edge| {
            matches!((self.row(&edge.from), self.row(&edge.to)), (Some(Row::Number(a)), Some(Row::Number(b))) if a == b)
        });
        self.edges = good;
        for edge in bad {
            let message =
                format!("{} -> {} is not within one row: only such edges are listed", edge.from, edge.to);
            self.complain(edge.line, &message);
        }
    }

    fn complain(&mut self, line: usize, message: &str) {
        self.complaints.push(Finding::failure(LAYERS, line, message));
    }
}

fn row_of(text: &str) -> Option<Row> {
    if text == "s" { Some(Row::Support) } else { text.parse().ok().map(Row::Number) }
}
