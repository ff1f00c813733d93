//! A page of text for people: sections with headings, paragraphs and lists.

use anstyle::Style;

use super::style::{HEADING, QUIET};
use super::table::{self, Row};

/// The lines of a page so far.
pub(super) struct Page {
    pub(super) lines: Vec<String>,
    /// Columns of the terminal; `usize::MAX` for no limit.
    width: usize,
    /// Whether colours are used.
    color: bool,
}

impl Page {
    /// An empty one.
    pub(super) fn new(width: usize, color: bool) -> Self {
        Self {
            lines: Vec::new(),
            width,
            color,
        }
    }

    /// Leaves an empty line unless this is the start.
    pub(super) fn section(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
    }

    pub(super) fn paragraph(&mut self, text: &str, indent: usize, style: Style) {
        let lines = table::paragraph(text, indent, self.width, style, self.color);
        self.lines.extend(lines);
    }

    /// Begins a section.
    pub(super) fn heading(&mut self, text: &str) {
        self.section();
        self.paragraph(text, 0, HEADING);
    }

    pub(super) fn table(&mut self, rows: &[Row], indent: usize) {
        let lines = table::lines(rows, indent, self.width, self.color);
        self.lines.extend(lines);
    }

    /// Says what is left out.
    pub(super) fn more(&mut self, what: &str, indent: usize) {
        let text = format!("… and {what}; --full shows them");
        self.paragraph(&text, indent, QUIET);
    }
}
