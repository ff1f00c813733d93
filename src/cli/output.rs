//! Plans and reports on standard output, in the form that was asked for.

use super::console::Console;
use super::options::{PlanFormat, PlanOutputOptions, TextOptions};
use crate::apply::Report;
use crate::model::Blake3;
use crate::plan::{Plan, document};
use crate::view;
use crate::view::review::plan::PlanCommand;
use crate::view::text::plan::PlanView;
use crate::view::text::report::ReportView;

/// Prints a plan as it was asked for. `digest` names the plan that apply would be given.
pub(super) fn print_plan(
    plan: &Plan,
    digest: Blake3,
    command: PlanCommand,
    options: &PlanOutputOptions,
    console: &Console,
) {
    match options.format {
        PlanFormat::Human => print_plan_text(plan, command, &options.text, console),
        PlanFormat::Json => console.data(document::to_json(plan).as_bytes()),
        PlanFormat::Markdown => {
            let text = view::markdown::render(plan, digest, options.max_bytes);
            console.data(text.as_bytes());
        }
    }
}

/// Prints a plan for people.
pub(super) fn print_plan_text(
    plan: &Plan,
    command: PlanCommand,
    options: &TextOptions,
    console: &Console,
) {
    let view = PlanView {
        full: options.full,
        width: console.width(),
        color: console.color(),
        automation: console.is_automation(),
        command,
    };
    console.data(view::text::plan::render(plan, &view).as_bytes());
}

/// Prints a report for people.
pub(super) fn print_report(report: &Report, view: &ReportView, console: &Console) {
    console.data(view::text::report::render(report, view).as_bytes());
}
