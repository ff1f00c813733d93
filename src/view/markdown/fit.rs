//! As much of a plan as fits.

use super::draft::draw;
use super::page::Page;
use super::part::Part;
use crate::model::Blake3;
use crate::plan::Plan;
use crate::view::review::plan::{PlanCommand, PlanOptions, PlanReview};

/// The plan as Markdown that ends in a newline, of at most `max_bytes` where these are 1,000 or more.
///
/// What does not fit is left out in whole rows, and counted: contents first, conflicts and deletes
/// last. Title, summary and counts always stay. `digest` names the plan.
pub fn render(plan: &Plan, digest: Blake3, max_bytes: usize) -> String {
    let review = review_of(plan, false);
    let page = Page::of(&review, digest);
    if let Some(text) = draw(&page, &page.everything(), max_bytes) {
        return text;
    }
    let review = review_of(plan, true);
    let page = Page::of(&review, digest);
    let mut amounts = page.everything();
    for part in Part::ALL {
        let mut fits_with = |number: usize| {
            amounts[part as usize] = number;
            draw(&page, &amounts, max_bytes)
        };
        let most = page.number_of(part);
        if let Some(text) = fits_with(most) {
            return text;
        }
        let Some(mut text) = fits_with(0) else {
            continue;
        };
        let (mut fits, mut too_many) = (0, most);
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            match fits_with(middle) {
                Some(longer) => (text, fits) = (longer, middle),
                None => too_many = middle,
            }
        }
        return text;
    }
    // Nothing is left but what always stays.
    draw(&page, &amounts, usize::MAX).unwrap_or_default()
}

fn review_of(plan: &Plan, folds_folders: bool) -> PlanReview<'_> {
    let options = PlanOptions {
        command: PlanCommand::Show,
        with_hints: false,
        alarms_apart: true,
        folds_folders,
    };
    PlanReview::of(plan, options)
}
