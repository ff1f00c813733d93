//! A plan as Markdown, for a comment on a pull request.
//!
//! What comes from outside (names, errors, contents) stands in code spans, fences and `<code>` alone,
//! where it is neither markup nor a mention, and where it cannot get out.

mod draft;
mod fit;
mod markup;
mod page;
mod part;

pub use fit::render;
pub use page::MARKER;

#[cfg(test)]
mod tests;
