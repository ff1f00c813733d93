//! A status in a terminal.

use std::collections::BTreeSet;

use anstyle::Style;

use super::page::Page;
use super::sections;
use super::style::{HEADING, PLAIN, QUIET, UPDATE};
use super::table::Row;
use crate::plan::status::{Standing, Status};
use crate::view::review::limits::{Limits, split};
use crate::view::review::status::{Cell, Column, MatrixRow, StatusReview};
use crate::view::width::width_of;

/// A host column is not wider than this; longer names stand above their row.
const HOSTS_MAX: usize = 32;
/// Space between columns.
const GAP: usize = 2;

/// How the status is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusView {
    /// Every entry on a line of its own, however many there are.
    pub full: bool,
    /// Columns of the terminal; `usize::MAX` for no limit.
    pub width: usize,
    /// Whether colours are used.
    pub color: bool,
}

/// The status as text that ends in a newline. Its last line is that of
/// [`summary_line`](crate::view::review::status::summary_line).
pub fn render(status: &Status, options: &StatusView) -> String {
    let review = StatusReview::of(status);
    let limits = Limits::of(options.full);
    let mut page = Page::new(options.width, options.color);
    matrix(&mut page, &review);
    sections::drift(&mut page, &review.drift, limits);
    applies(&mut page, &review, limits);
    sections::errors(&mut page, &review.without_look, usize::MAX);
    sections::problems(&mut page, &review.problems);
    page.end(&review.summary)
}

/// How the matrix is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Destinations above, words below.
    Words,
    /// Numbers above, words below.
    Numbered,
    /// Numbers above, symbols below.
    Symbols,
}

impl Form {
    const ALL: [Self; 3] = [Self::Words, Self::Numbered, Self::Symbols];

    fn heading(self, index: usize, column: &Column) -> String {
        match self {
            Self::Words => column.name().to_owned(),
            Self::Numbered | Self::Symbols => (index + 1).to_string(),
        }
    }

    fn cell(self, cell: Cell) -> String {
        match self {
            Self::Words | Self::Numbered => cell.in_words(),
            Self::Symbols => cell.in_symbols(),
        }
    }

    /// The widths of the columns, each as wide as what is in it.
    fn widths(self, columns: &[Column], rows: &[MatrixRow<'_>]) -> Vec<usize> {
        let columns = columns.iter().enumerate();
        let widths = columns.map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.cells.get(&index));
            let cells = cells.map(|cell| width_of(&self.cell(*cell)));
            let heading = width_of(&self.heading(index, column));
            cells.max().unwrap_or(0).max(heading)
        });
        widths.collect()
    }
}

fn style_of(cell: Cell) -> Style {
    match cell.standing {
        Standing::Agrees => PLAIN,
        Standing::NeverApplied => QUIET,
        Standing::Drifted | Standing::Behind | Standing::Both => UPDATE,
    }
}

/// Hosts by mapping.
fn matrix(page: &mut Page, review: &StatusReview<'_>) {
    let StatusReview { columns, rows, .. } = review;
    if rows.is_empty() {
        return;
    }
    let names: Vec<String> = rows.iter().map(|row| row.hosts.in_words()).collect();
    let widest = names.iter().map(|name| width_of(name)).max();
    let hosts = widest.unwrap_or(0).clamp("host".len(), HOSTS_MAX);
    let headings: BTreeSet<&str> = columns.iter().map(Column::name).collect();
    let forms = Form::ALL.into_iter();
    // Destinations are not enough where they do not tell columns apart.
    let mut forms = forms.filter(|form| *form != Form::Words || headings.len() == columns.len());
    let fitting = forms.find_map(|form| {
        let widths = form.widths(columns, rows);
        let total = hosts + widths.iter().map(|width| width + GAP).sum::<usize>();
        (total <= page.width()).then_some((form, widths))
    });
    let Some((form, widths)) = fitting else {
        list(page, columns, rows);
        return;
    };
    let headings = columns.iter().enumerate();
    let headings = headings.map(|(index, column)| (form.heading(index, column), HEADING));
    let heading = row_line(page, ("host", HEADING), hosts, headings, &widths);
    page.line(heading);
    for (row, name) in rows.iter().zip(&names) {
        let cells = (0..columns.len()).map(|index| {
            let cell = row.cells.get(&index);
            cell.map_or((String::new(), PLAIN), |cell| {
                (form.cell(*cell), style_of(*cell))
            })
        });
        let mut name = name.as_str();
        if width_of(name) > hosts {
            page.paragraph(name, 0, PLAIN);
            name = "";
        }
        let line = row_line(page, (name, PLAIN), hosts, cells, &widths);
        page.line(line);
    }
    if form != Form::Words {
        page.section();
        for (index, column) in columns.iter().enumerate() {
            let text = format!("{}  {}", index + 1, column.in_words());
            page.paragraph(&text, 0, PLAIN);
        }
    }
    if form == Form::Symbols {
        page.section();
        page.paragraph(&review.legend().join("   "), 0, PLAIN);
    }
}

/// One line of the matrix.
fn row_line(
    page: &Page,
    (name, style): (&str, Style),
    name_width: usize,
    cells: impl Iterator<Item = (String, Style)>,
    widths: &[usize],
) -> String {
    let mut line = String::new();
    let mut missing = 0;
    let named = std::iter::once(((name.to_owned(), style), name_width));
    for ((text, style), width) in named.chain(cells.zip(widths.iter().copied())) {
        if !text.is_empty() {
            line.push_str(&" ".repeat(missing));
            line.push_str(&page.paint(&text, style));
            missing = 0;
        }
        missing += width.saturating_sub(width_of(&text)) + GAP;
    }
    line
}

/// The matrix where there is no room for one.
fn list(page: &mut Page, columns: &[Column], rows: &[MatrixRow<'_>]) {
    for row in rows {
        page.heading(&row.hosts.in_words());
        let cells = row.cells.iter();
        let cells: Vec<(String, String)> = cells
            .map(|(index, cell)| (columns[*index].in_words(), cell.in_words()))
            .collect();
        let rows: Vec<Row<'_>> = cells
            .iter()
            .map(|(column, cell)| Row::plain(column, cell))
            .collect();
        page.table(&rows, 2);
    }
}

/// Which apply was the last, and when.
fn applies(page: &mut Page, review: &StatusReview<'_>, limits: Limits) {
    if review.applies.is_empty() {
        return;
    }
    page.heading(review.applies.title);
    let (shown, rest) = split(&review.applies.items, limits.rows);
    for apply in shown {
        let text = format!("{}: {}", apply.in_words(), apply.hosts.in_words());
        page.paragraph(&text, 2, PLAIN);
    }
    if !rest.is_empty() {
        page.more(&format!("{} more", rest.len()), 2);
    }
}

#[cfg(test)]
mod tests;
