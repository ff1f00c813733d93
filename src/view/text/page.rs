//! A page of text for people: sections with headings, paragraphs and lists.

use anstyle::Style;

use super::style::{HEADING, QUIET, paint};
use super::table::{self, Row};

/// A plan of more lines starts with its summary.
const LONG: usize = 40;

/// The lines of a page so far.
pub(super) struct Page {
    lines: Vec<String>,
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

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Text in a style, as far as colours are used.
    pub(super) fn paint(&self, text: &str, style: Style) -> String {
        paint(text, style, self.color)
    }

    /// Adds a line as it is.
    pub(super) fn line(&mut self, line: String) {
        self.lines.push(line);
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

    pub(super) fn table(&mut self, rows: &[Row<'_>], indent: usize) {
        let lines = table::lines(rows, indent, self.width, self.color);
        self.lines.extend(lines);
    }

    /// Says what is left out.
    pub(super) fn more(&mut self, what: &str, indent: usize) {
        let text = format!("… and {what}; --full shows them");
        self.paragraph(&text, indent, QUIET);
    }

    /// Says also above a long page what its last line will be.
    pub(super) fn repeat_if_long(&mut self, summary: &str) {
        if self.lines.len() > LONG {
            let summary = self.paint(summary, HEADING);
            self.lines.splice(0..0, [summary, String::new()]);
        }
    }

    /// The text, which ends in this line.
    pub(super) fn end(mut self, summary: &str) -> String {
        self.section();
        self.lines.push(self.paint(summary, HEADING));
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }
}
