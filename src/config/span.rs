//! Places in a file, and what errors show around them.

use std::sync::Arc;

use miette::{MietteError, SourceCode, SourceSpan};

/// How many lines are shown around a label, before it and behind it.
const CONTEXT_LINES: usize = 1;

/// A piece of a document: byte offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// Its beginning, to mark where something long starts rather than all of it.
    pub(super) fn first_byte(self) -> Self {
        Self {
            start: self.start,
            end: self.end.min(self.start + 1),
        }
    }
}

/// The text of a file without what may be a secret.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    pub(super) text: Arc<str>,
}

impl Excerpt {
    /// `span` cut down to the text and to whole characters; `None` when there is no text.
    pub(super) fn fitting(&self, span: Span) -> Option<SourceSpan> {
        let last = self.text.char_indices().next_back()?.0;
        let start = self.text.floor_char_boundary(span.start.min(last));
        let end = self
            .text
            .ceil_char_boundary(span.end.clamp(start, self.text.len()));
        Some((start, end - start).into())
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, MietteError> {
        self.text.read_span(
            span,
            context_lines_before.min(CONTEXT_LINES),
            context_lines_after.min(CONTEXT_LINES),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_beyond_the_text_moves_to_its_end() {
        let excerpt = Excerpt { text: "aé".into() };
        let span = excerpt.fitting(Span { start: 9, end: 12 });
        assert_eq!(span, Some((1, 2).into()));
        let empty = Excerpt { text: "".into() };
        assert_eq!(empty.fitting(Span { start: 0, end: 1 }), None);
    }
}
