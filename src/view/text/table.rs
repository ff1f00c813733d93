//! Lines of a list: symbol, name, detail and reason in columns as far as the width allows.

use anstyle::Style;

use super::style::{PLAIN, paint};
use crate::view::width::{pad, width_of, wrap, wrap_path};

/// One entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// One character in front of the name; empty for none.
    pub(super) symbol: &'static str,
    /// Of symbol and name.
    pub(super) style: Style,
    /// Escaped; never shortened, but broken after slashes when it is too long for a line.
    pub(super) name: &'a str,
    /// Sizes or permission bits; may be empty.
    pub(super) detail: &'a str,
    /// In words; may be empty.
    pub(super) reason: &'a str,
}

impl<'a> Row<'a> {
    /// One of text alone.
    pub(super) fn plain(name: &'a str, reason: &'a str) -> Self {
        Self {
            symbol: "",
            style: PLAIN,
            name,
            detail: "",
            reason,
        }
    }
}

/// Space between columns.
const GAP: usize = 2;
/// A name column is not squeezed below this for the sake of the others.
const NAME_MIN: usize = 24;
/// A reason column narrower than this is not worth having.
const REASON_MIN: usize = 16;

/// Widths of the columns. A column of width 0 is left out.
struct Columns {
    name: usize,
    detail: usize,
    reason: usize,
}

/// The rows as lines of at most `width` columns, each after `indent` spaces; none ends in a space.
pub(super) fn lines(rows: &[Row<'_>], indent: usize, width: usize, color: bool) -> Vec<String> {
    let symbol = if rows.iter().any(|row| !row.symbol.is_empty()) {
        2
    } else {
        0
    };
    let start = indent + symbol;
    let available = width.saturating_sub(start).max(1);
    let columns = columns(rows, available);
    let mut out = Vec::new();
    for row in rows {
        // Name and what follows it share a line when both fit.
        let rest = match &columns {
            Some(columns) => columns.rest(row),
            None => stacked(row, available),
        };
        let name = wrap_path(row.name, available);
        let in_column = columns
            .as_ref()
            .map(|columns| columns.for_name(row))
            .filter(|name_width| name.len() == 1 && width_of(row.name) <= *name_width);
        for (at, part) in name.iter().enumerate() {
            let symbol = if at > 0 || symbol == 0 {
                " ".repeat(symbol)
            } else {
                format!("{} ", paint(row.symbol, row.style, color))
            };
            let mut line = format!(
                "{}{symbol}{}",
                " ".repeat(indent),
                paint(part, row.style, color)
            );
            if let (Some(name_width), Some(first)) = (in_column, rest.first()) {
                // What comes after the name has its own place, also where the name reaches further.
                let space = name_width.saturating_sub(width_of(part)) + GAP;
                line.push_str(&" ".repeat(space));
                line.push_str(if row.detail.is_empty() {
                    first.trim_start()
                } else {
                    first
                });
            }
            out.push(line.trim_end().to_owned());
        }
        let below = if in_column.is_some() {
            rest.get(1..).unwrap_or_default()
        } else {
            &rest
        };
        let before = start
            + columns.as_ref().map_or(2, |columns| {
                if columns.name == 0 {
                    2
                } else {
                    columns.name + GAP
                }
            });
        for line in below {
            let line = format!("{}{line}", " ".repeat(before));
            out.push(line.trim_end().to_owned());
        }
    }
    out
}

/// The widths to be used, or `None` when there is no room for columns.
fn columns(rows: &[Row<'_>], available: usize) -> Option<Columns> {
    let widest = |text: for<'a> fn(&Row<'a>) -> &'a str| {
        rows.iter()
            .map(|row| width_of(text(row)))
            .max()
            .unwrap_or(0)
    };
    let name = widest(|row| row.name);
    let detail = widest(|row| row.detail);
    let reason = widest(|row| row.reason);
    let gap = |column: usize| if column == 0 { 0 } else { GAP };
    let fixed = gap(detail) + detail + gap(reason);
    let left = available.checked_sub(fixed)?;
    if name + reason <= left {
        return Some(Columns {
            name,
            detail,
            reason,
        });
    }
    let name = name.min(left.saturating_sub(reason).max(NAME_MIN));
    let room = left.checked_sub(name)?;
    (room >= reason.min(REASON_MIN)).then_some(Columns {
        name,
        detail,
        reason: reason.min(room),
    })
}

impl Columns {
    /// How wide the name may be: a row without a detail has its room too.
    fn for_name(&self, row: &Row<'_>) -> usize {
        if row.detail.is_empty() && self.detail > 0 {
            self.name + GAP + self.detail
        } else {
            self.name
        }
    }

    /// Detail and reason, one string a line.
    fn rest(&self, row: &Row<'_>) -> Vec<String> {
        if row.detail.is_empty() && row.reason.is_empty() {
            return Vec::new();
        }
        let (before, after) = if self.detail == 0 {
            (String::new(), String::new())
        } else {
            let gap = " ".repeat(GAP);
            let blank = " ".repeat(self.detail);
            (
                format!("{}{gap}", pad(row.detail, self.detail)),
                format!("{blank}{gap}"),
            )
        };
        wrap(row.reason, self.reason)
            .into_iter()
            .enumerate()
            .map(|(at, part)| format!("{}{part}", if at == 0 { &before } else { &after }))
            .collect()
    }
}

/// Detail and reason below the name.
fn stacked(row: &Row<'_>, available: usize) -> Vec<String> {
    let parts = [row.detail, row.reason];
    let text = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ");
    if text.is_empty() {
        return Vec::new();
    }
    wrap(&text, available.saturating_sub(2))
}

/// Text after `indent` spaces; the lines that it is broken into are two further in.
pub(super) fn paragraph(
    text: &str,
    indent: usize,
    width: usize,
    style: Style,
    color: bool,
) -> Vec<String> {
    wrap(text, width.saturating_sub(indent + 2).max(1))
        .into_iter()
        .enumerate()
        .map(|(at, line)| {
            let indent = if at == 0 { indent } else { indent + 2 };
            format!("{}{}", " ".repeat(indent), paint(&line, style, color))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(name: &'a str, detail: &'a str, reason: &'a str) -> Row<'a> {
        Row {
            symbol: "+",
            style: PLAIN,
            name,
            detail,
            reason,
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row("a", "1 B", "new"), row("long/name", "", "new")];
        assert_eq!(
            lines(&rows, 4, 80, false),
            ["    + a          1 B  new", "    + long/name       new"]
        );
    }

    #[test]
    fn name_too_long_for_its_column_stands_above_the_rest() {
        let long = "some/folder/with/a/very/long/name/that/goes/on/file.txt";
        let rows = [row("a", "1 B", "new"), row(long, "2 B", "content")];
        assert_eq!(
            lines(&rows, 0, 50, false),
            [
                "+ a                                   1 B  new".to_owned(),
                "+ some/folder/with/a/very/long/name/that/goes/on/".to_owned(),
                "  file.txt".to_owned(),
                format!("{}2 B  content", " ".repeat(38)),
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_asked_for_or_ends_in_a_space() {
        let rows = [
            row(
                "some/folder/with/a/name/x.txt",
                "1.0 KiB → 1.2 KiB",
                "overwrites a change",
            ),
            row(
                "日本語/日本語/日本語/日本語",
                "",
                "content, mode 0644 → 0755",
            ),
            row("a", "", ""),
        ];
        for width in [12, 20, 40, 60, 80] {
            for line in lines(&rows, 4, width, false) {
                assert!(width_of(&line) <= width, "{width}: {line:?}");
                assert_eq!(line.trim_end(), line);
            }
        }
    }

    #[test]
    fn unlimited_width_keeps_every_row_on_one_line() {
        let long = "x/".repeat(500);
        let rows = [row(&long, "1 B", "new"), row("a", "", "new")];
        assert_eq!(lines(&rows, 4, usize::MAX, false).len(), 2);
    }
}
