//! The few styles of everything that people see.

use anstyle::{AnsiColor, Style};

use crate::view::review::class::Class;

/// Something appears.
pub(super) const CREATE: Style = AnsiColor::Green.on_default();
/// Something changes.
pub(super) const UPDATE: Style = AnsiColor::Yellow.on_default();
/// Something goes away.
pub(super) const DELETE: Style = AnsiColor::Red.on_default();
/// Something would be lost, or went wrong.
pub(super) const ALARM: Style = AnsiColor::Red.on_default().bold();
/// A title.
pub(super) const HEADING: Style = Style::new().bold();
/// What may be overlooked.
pub(super) const QUIET: Style = Style::new().dimmed();
/// Everything else.
pub(super) const PLAIN: Style = Style::new();

/// How a change is painted.
pub(super) fn of_class(class: Class) -> Style {
    match class {
        Class::Conflict => ALARM,
        Class::Delete => DELETE,
        Class::Create => CREATE,
        Class::Update | Class::Metadata => UPDATE,
    }
}

/// `text` in `style`, or as it is where `color` is off or there is nothing to see.
pub(super) fn paint(text: &str, style: Style, color: bool) -> String {
    if color && style != PLAIN && !text.is_empty() {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_leaves_no_trace_without_colour() {
        assert_eq!(paint("x", ALARM, false), "x");
        assert_eq!(paint("", ALARM, true), "");
        assert_eq!(paint("x", CREATE, true), "\u{1b}[32mx\u{1b}[0m");
    }
}
