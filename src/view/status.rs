//! Where each host stands, for people.
//!
//! Hosts that stand alike share a row of the matrix. What has drifted follows below it, and hosts that
//! nobody could look at stand at the end.

use std::collections::{BTreeMap, BTreeSet};

use anstyle::Style;

use super::change::moved_in_words;
use super::page::Page;
use super::plan::{DRIFT, LIST_MAX, PROBLEMS, below, errors, problems, with_count};
use super::style::{HEADING, PLAIN, QUIET, UPDATE, paint};
use super::table::plain_row;
use super::text::{count, escape, escape_text, width_of};
use crate::plan::status::{Applied, MappingStanding, Standing, Status};
use crate::plan::{HostPlan, HostStatus};

/// A host column is not wider than this; longer names stand above their row.
const HOSTS_MAX: usize = 32;
/// Destinations of one source that have columns of their own.
const COLUMNS_MAX: usize = 3;
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

/// The status as text that ends in a newline. Its last line is [`summary_line`].
pub fn render(status: &Status, options: &StatusView) -> String {
    let mut page = StatusPage {
        page: Page::new(options.width, options.color),
        options,
    };
    page.matrix(status);
    page.drift(status);
    page.applies(status);
    page.without_a_look(status);
    page.problems(status);
    page.page.section();
    page.page
        .lines
        .push(paint(&summary_line(status), HEADING, options.color));
    let mut text = page.page.lines.join("\n");
    text.push('\n');
    text
}

/// The status in one line that can be read alone and whose form is kept, since people search for it.
pub fn summary_line(status: &Status) -> String {
    let summary = status.summary();
    if summary.hosts == 0 {
        return "Status: there are no hosts.".to_owned();
    }
    let verb = if summary.agree == 1 {
        "agrees"
    } else {
        "agree"
    };
    let hosts = count(summary.hosts, "host", "hosts");
    let mut line = format!("Status: {} of {hosts} {verb}", summary.agree);
    let entries = count(summary.drifted_entries, "entry", "entries");
    let unsendable: usize = status.plan.hosts.iter().map(|it| it.problems.len()).sum();
    let entry = if unsendable == 1 { "entry" } else { "entries" };
    for (number, what) in [
        (summary.drifted, format!("drifted ({entries})")),
        (summary.behind, "behind".to_owned()),
        (
            summary.never_applied,
            "with a mapping never applied".to_owned(),
        ),
        (
            summary.in_the_middle,
            "in the middle of an apply".to_owned(),
        ),
        (unsendable, format!("{entry} cannot be sent")),
        (summary.unreachable, "unreachable".to_owned()),
        (summary.failed, "failed".to_owned()),
    ] {
        if number > 0 {
            line.extend(["; ", &number.to_string(), " ", &what]);
        }
    }
    line.push('.');
    line
}

/// What a mapping is called: source and destination; the latter is `None` where each host has its own.
type Column<'a> = (&'a str, Option<&'a str>);

/// How a mapping of a host stands, as far as the matrix shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    standing: Standing,
    drifted: usize,
    to_apply: usize,
}

impl Cell {
    fn of(mapping: &MappingStanding) -> Self {
        Self {
            standing: mapping.standing,
            drifted: mapping.drift.len(),
            to_apply: mapping.to_apply,
        }
    }

    fn words(self) -> String {
        let drifted = format!("{} drifted", self.drifted);
        let to_apply = format!("{} to apply", self.to_apply);
        match self.standing {
            Standing::Agrees => "agrees".to_owned(),
            Standing::Drifted => drifted,
            Standing::Behind => to_apply,
            Standing::Both => format!("{drifted}, {to_apply}"),
            Standing::NeverApplied => "never applied".to_owned(),
        }
    }

    fn symbols(self) -> String {
        let Self {
            drifted, to_apply, ..
        } = self;
        match self.standing {
            Standing::Agrees => "=".to_owned(),
            Standing::Drifted => format!("!{drifted}"),
            Standing::Behind => format!("+{to_apply}"),
            Standing::Both => format!("!{drifted}+{to_apply}"),
            Standing::NeverApplied => "?".to_owned(),
        }
    }

    fn style(self) -> Style {
        match self.standing {
            Standing::Agrees => PLAIN,
            Standing::NeverApplied => QUIET,
            Standing::Drifted | Standing::Behind | Standing::Both => UPDATE,
        }
    }
}

/// Hosts that stand alike, with their cells by column.
struct MatrixRow<'a> {
    hosts: Vec<&'a HostPlan>,
    cells: BTreeMap<usize, Cell>,
}

/// The columns of all mappings, and the rows of all hosts that were looked at.
fn columns_and_rows(status: &Status) -> (Vec<Column<'_>>, Vec<MatrixRow<'_>>) {
    let seen = || {
        status
            .iter()
            .filter(|(plan, _)| plan.status == HostStatus::Ok)
    };
    let names = || seen().flat_map(|(plan, _)| &plan.mappings);
    let dests = |src: &str| -> usize {
        let dests = names().filter(|names| names.src == src);
        dests
            .map(|names| &names.dest)
            .collect::<BTreeSet<_>>()
            .len()
    };
    let sources: BTreeSet<&str> = names().map(|names| names.src.as_str()).collect();
    let many: BTreeSet<&str> = sources
        .into_iter()
        .filter(|src| dests(src) > COLUMNS_MAX)
        .collect();
    let mut columns: Vec<Column<'_>> = Vec::new();
    let mut rows: Vec<MatrixRow<'_>> = Vec::new();
    let mut index_of_row: BTreeMap<BTreeMap<usize, Cell>, usize> = BTreeMap::new();
    let mut index_of_column: BTreeMap<(Column<'_>, usize), usize> = BTreeMap::new();
    for (plan, host) in seen() {
        let mut cells = BTreeMap::new();
        for (names, mapping) in plan.mappings.iter().zip(&host.mappings) {
            let src = names.src.as_str();
            let column = (src, (!many.contains(src)).then_some(names.dest.as_str()));
            // A source may go to two places on one host.
            let mut again = 0;
            let index = loop {
                let index = *index_of_column.entry((column, again)).or_insert_with(|| {
                    columns.push(column);
                    columns.len() - 1
                });
                if !cells.contains_key(&index) {
                    break index;
                }
                again += 1;
            };
            cells.insert(index, Cell::of(mapping));
        }
        if cells.is_empty() {
            continue;
        }
        let index = *index_of_row.entry(cells.clone()).or_insert_with(|| {
            let hosts = Vec::new();
            rows.push(MatrixRow { hosts, cells });
            rows.len() - 1
        });
        rows[index].hosts.push(plan);
    }
    (columns, rows)
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

    fn heading(self, index: usize, (src, dest): Column<'_>) -> String {
        match self {
            Self::Words => escape(dest.unwrap_or(src).as_bytes()),
            Self::Numbered | Self::Symbols => (index + 1).to_string(),
        }
    }

    fn cell(self, cell: Cell) -> String {
        match self {
            Self::Words | Self::Numbered => cell.words(),
            Self::Symbols => cell.symbols(),
        }
    }
}

struct StatusPage<'a> {
    page: Page,
    options: &'a StatusView,
}

impl StatusPage<'_> {
    /// Hosts by mapping.
    fn matrix(&mut self, status: &Status) {
        let (columns, rows) = columns_and_rows(status);
        if rows.is_empty() {
            return;
        }
        let names: Vec<String> = rows.iter().map(|row| with_count(&row.hosts)).collect();
        let widest = names.iter().map(|name| width_of(name)).max();
        let hosts = widest.unwrap_or(0).clamp("host".len(), HOSTS_MAX);
        let dests: BTreeSet<_> = columns
            .iter()
            .map(|(src, dest)| dest.unwrap_or(src))
            .collect();
        let forms = Form::ALL.into_iter();
        let mut forms = forms.filter(|form| *form != Form::Words || dests.len() == columns.len());
        let fitting = forms.find_map(|form| {
            let widths: Vec<usize> = columns
                .iter()
                .enumerate()
                .map(|(index, column)| {
                    let cells = rows.iter().filter_map(|row| row.cells.get(&index));
                    let cells = cells.map(|cell| width_of(&form.cell(*cell)));
                    let heading = width_of(&form.heading(index, *column));
                    cells.max().unwrap_or(0).max(heading)
                })
                .collect();
            let total = hosts + widths.iter().map(|width| width + GAP).sum::<usize>();
            (total <= self.options.width).then_some((form, widths))
        });
        let Some((form, widths)) = fitting else {
            self.list(&columns, &rows);
            return;
        };
        let headings = columns.iter().enumerate();
        let headings = headings.map(|(index, column)| (form.heading(index, *column), HEADING));
        let heading = self.row(("host", HEADING), hosts, headings, &widths);
        self.page.lines.push(heading);
        for (row, name) in rows.iter().zip(&names) {
            let cells = (0..columns.len()).map(|index| {
                let cell = row.cells.get(&index);
                cell.map_or((String::new(), PLAIN), |cell| {
                    (form.cell(*cell), cell.style())
                })
            });
            let mut name = name.as_str();
            if width_of(name) > hosts {
                self.page.paragraph(name, 0, PLAIN);
                name = "";
            }
            let line = self.row((name, PLAIN), hosts, cells, &widths);
            self.page.lines.push(line);
        }
        if form != Form::Words {
            self.page.section();
            for (index, column) in columns.iter().enumerate() {
                self.page
                    .paragraph(&format!("{}  {}", index + 1, in_words(*column)), 0, PLAIN);
            }
        }
        if form == Form::Symbols {
            self.page.section();
            let used: BTreeSet<Standing> = rows
                .iter()
                .flat_map(|row| row.cells.values())
                .map(|cell| cell.standing)
                .collect();
            self.page.paragraph(&legend(&used), 0, PLAIN);
        }
    }

    /// One line of the matrix.
    fn row(
        &self,
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
                line.push_str(&paint(&text, style, self.options.color));
                missing = 0;
            }
            missing += width.saturating_sub(width_of(&text)) + GAP;
        }
        line
    }

    /// The matrix where there is no room for one.
    fn list(&mut self, columns: &[Column<'_>], rows: &[MatrixRow<'_>]) {
        for row in rows {
            self.page.heading(&with_count(&row.hosts));
            let cells = row.cells.iter();
            let lines: Vec<_> = cells
                .map(|(index, cell)| plain_row(in_words(columns[*index]), cell.words()))
                .collect();
            self.page.table(&lines, 2);
        }
    }

    /// What is not as it was written last.
    fn drift(&mut self, status: &Status) {
        let full = self.options.full;
        let mut groups: Vec<Vec<&HostPlan>> = Vec::new();
        let mut index_of: BTreeMap<Vec<(String, String)>, usize> = BTreeMap::new();
        for (plan, host) in status.iter() {
            let mappings = plan.mappings.iter().zip(&host.mappings);
            let drift: Vec<(String, String)> = mappings
                .flat_map(|(names, mapping)| {
                    let dest = escape(names.dest.trim_end_matches('/').as_bytes());
                    let drift = mapping.drift.iter();
                    drift.map(move |drift| (below(&dest, &drift.path), moved_in_words(drift)))
                })
                .collect();
            if drift.is_empty() {
                continue;
            }
            let index = *index_of.entry(drift).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[index].push(plan);
        }
        if groups.is_empty() {
            return;
        }
        let mut drifts: Vec<_> = index_of.into_iter().collect();
        drifts.sort_by_key(|(_, index)| *index);
        self.page.heading(DRIFT);
        for ((drift, _), hosts) in drifts.into_iter().zip(groups) {
            self.page.paragraph(&with_count(&hosts), 2, PLAIN);
            let number = drift.len();
            let shown = if full { number } else { number.min(LIST_MAX) };
            let rows: Vec<_> = drift
                .into_iter()
                .take(shown)
                .map(|(name, how)| plain_row(name, how))
                .collect();
            self.page.table(&rows, 4);
            if shown < number {
                self.page.more(&format!("{} more", number - shown), 4);
            }
        }
    }

    /// Which apply was the last, and when.
    fn applies(&mut self, status: &Status) {
        let mut applies: BTreeMap<(u64, bool), (Vec<&HostPlan>, &str)> = BTreeMap::new();
        for (plan, host) in status.iter() {
            let Some(Applied {
                serial,
                at,
                is_in_the_middle,
            }) = &host.applied
            else {
                continue;
            };
            let (hosts, last) = applies.entry((*serial, *is_in_the_middle)).or_default();
            hosts.push(plan);
            *last = (*last).max(at);
        }
        if applies.is_empty() {
            return;
        }
        self.page.heading("Last apply");
        let number = applies.len();
        let shown = if self.options.full {
            number
        } else {
            number.min(LIST_MAX)
        };
        for ((serial, is_in_the_middle), (hosts, at)) in applies.into_iter().rev().take(shown) {
            let progress = if is_in_the_middle {
                ", not finished"
            } else {
                ""
            };
            let hosts = with_count(&hosts);
            let text = format!("serial {serial}, {}{progress}: {hosts}", escape_text(at));
            self.page.paragraph(&text, 2, PLAIN);
        }
        if shown < number {
            self.page.more(&format!("{} more", number - shown), 2);
        }
    }

    fn without_a_look(&mut self, status: &Status) {
        let errors = errors(&status.plan);
        if errors.is_empty() {
            return;
        }
        self.page.heading("Hosts that could not be looked at");
        for ((how, error), hosts) in errors {
            let text = format!("{} {how}: {error}", with_count(&hosts));
            self.page.paragraph(&text, 2, PLAIN);
        }
    }

    fn problems(&mut self, status: &Status) {
        let problems = problems(&status.plan);
        if problems.is_empty() {
            return;
        }
        self.page.heading(PROBLEMS);
        for (problems, hosts) in problems {
            self.page.paragraph(&with_count(&hosts), 2, PLAIN);
            for problem in problems {
                self.page.paragraph(&escape_text(problem), 4, PLAIN);
            }
        }
    }
}

/// `app → /srv/app`.
fn in_words((src, dest): Column<'_>) -> String {
    let src = escape(src.as_bytes());
    dest.map_or_else(
        || src.clone(),
        |dest| format!("{src} → {}", escape(dest.as_bytes())),
    )
}

/// What the symbols mean that were used.
fn legend(used: &BTreeSet<Standing>) -> String {
    let has = |standings: &[Standing]| standings.iter().any(|it| used.contains(it));
    [
        (has(&[Standing::Agrees]), "= agrees"),
        (has(&[Standing::Drifted, Standing::Both]), "!n drifted"),
        (has(&[Standing::Behind, Standing::Both]), "+n to apply"),
        (has(&[Standing::NeverApplied]), "? never applied"),
    ]
    .into_iter()
    .filter(|(is_used, _)| *is_used)
    .map(|(_, meaning)| meaning)
    .collect::<Vec<_>>()
    .join("   ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use super::*;
    use crate::model::{Node, RelPath};
    use crate::plan::MappingNames;
    use crate::plan::status::{Drift, HostStanding};
    use crate::view::plan::tests::{file, host, plan, unreachable};

    fn view() -> StatusView {
        StatusView {
            full: false,
            width: 80,
            color: false,
        }
    }

    fn status(hosts: Vec<(HostPlan, HostStanding)>) -> Status {
        let (plans, hosts) = hosts.into_iter().unzip();
        Status {
            plan: plan(plans),
            hosts,
        }
    }

    fn shown(hosts: Vec<(HostPlan, HostStanding)>) -> String {
        render(&status(hosts), &view())
    }

    fn mapping(standing: Standing, drift: Vec<Drift>, to_apply: usize) -> MappingStanding {
        MappingStanding {
            standing,
            drift,
            to_apply,
        }
    }

    fn agrees() -> MappingStanding {
        mapping(Standing::Agrees, Vec::new(), 0)
    }

    fn drifted(drift: Vec<Drift>) -> MappingStanding {
        mapping(Standing::Drifted, drift, 1)
    }

    fn drift(path: &str, recorded: Option<Node>, actual: Option<Node>) -> Drift {
        Drift {
            path: RelPath::new(path).unwrap(),
            recorded,
            actual,
        }
    }

    fn removed(path: &str) -> Drift {
        drift(path, Some(file(1, 0o644)), None)
    }

    fn seen(name: &str, mappings: Vec<MappingStanding>) -> (HostPlan, HostStanding) {
        let applied = Some(Applied {
            serial: 7,
            at: "2026-01-02T03:04:05Z".to_owned(),
            is_in_the_middle: false,
        });
        (host(name, Vec::new()), HostStanding { applied, mappings })
    }

    fn unseen(name: &str, error: &str) -> (HostPlan, HostStanding) {
        let standing = HostStanding {
            applied: None,
            mappings: Vec::new(),
        };
        (unreachable(name, error), standing)
    }

    #[test]
    fn hosts_that_stand_alike_share_a_row_and_drift_stands_below() {
        let link = Node::Symlink {
            target: (*b"x").into(),
        };
        let moved = || {
            vec![
                drift("a", Some(file(1, 0o644)), Some(file(2, 0o644))),
                removed("b"),
                drift("c", Some(file(1, 0o644)), Some(link.clone())),
                drift("d", None, Some(link.clone())),
            ]
        };
        let mut hosts: Vec<_> = (1..=4)
            .map(|n| seen(&format!("web{n}"), vec![agrees(), agrees()]))
            .collect();
        hosts.push(seen("web5", vec![drifted(moved()), agrees()]));
        hosts.push(seen("web6", vec![drifted(moved()), agrees()]));
        hosts.push(seen(
            "db1",
            vec![
                mapping(Standing::Both, vec![removed("x")], 3),
                mapping(Standing::NeverApplied, Vec::new(), 1),
            ],
        ));
        hosts.push(seen(
            "db2",
            vec![mapping(Standing::Behind, Vec::new(), 2), agrees()],
        ));
        hosts[7].1.applied.as_mut().unwrap().is_in_the_middle = true;
        hosts.push(unseen("web7", "login refused\nnot for people"));
        assert_eq!(
            shown(hosts),
            "\
host                /srv/app               /etc/nginx/nginx.conf
web[1-4] (4 hosts)  agrees                 agrees
web[5-6] (2 hosts)  4 drifted              agrees
db1                 1 drifted, 3 to apply  never applied
db2                 2 to apply             agrees

Changed on the hosts since the last apply
  web[5-6] (2 hosts)
    /srv/app/a  changed
    /srv/app/b  removed
    /srv/app/c  replaced by a symlink
    /srv/app/d  appeared
  db1
    /srv/app/x  removed

Last apply
  serial 7, 2026-01-02T03:04:05Z, not finished: db2
  serial 7, 2026-01-02T03:04:05Z: web[1-6], db1 (7 hosts)

Hosts that could not be looked at
  web7 unreachable: login refused

Status: 4 of 9 hosts agree; 3 drifted (9 entries); 2 behind; 1 with a mapping never applied; 1 in the middle of an apply; 1 unreachable.
"
        );
    }

    /// A host with so many mappings, each of which stands like this.
    fn wide(name: &str, number: usize, standing: &MappingStanding) -> (HostPlan, HostStanding) {
        let (mut plan, standing) = seen(name, vec![standing.clone(); number]);
        plan.mappings = (0..number)
            .map(|n| MappingNames {
                src: format!("source{n}"),
                dest: format!("/some/where/far/away/{n}"),
                source: None,
            })
            .collect();
        (plan, standing)
    }

    #[test]
    fn many_mappings_are_numbered_then_shown_as_symbols_then_listed() {
        let behind = mapping(Standing::Behind, Vec::new(), 12);
        let lines = |number| {
            let text = shown(vec![
                wide("a", number, &behind),
                wide("b", number, &agrees()),
            ]);
            assert!(text.lines().all(|line| width_of(line) <= 80), "{text}");
            text
        };
        assert!(lines(5).starts_with(
            "host  1            2            3            4            5\n\
             a     12 to apply  12 to apply  12 to apply  12 to apply  12 to apply\n\
             b     agrees       agrees       agrees       agrees       agrees\n\
             \n\
             1  source0 → /some/where/far/away/0\n"
        ));
        let symbols = lines(10);
        assert!(symbols.starts_with(
            "host  1    2    3    4    5    6    7    8    9    10\n\
             a     +12  +12  +12  +12  +12  +12  +12  +12  +12  +12\n\
             b     =    =    =    =    =    =    =    =    =    =\n"
        ));
        assert!(symbols.contains("\n= agrees   +n to apply\n"), "{symbols}");
        let list = lines(40);
        assert!(
            list.starts_with("a\n  source0 → /some/where/far/away/0    12 to apply\n"),
            "{list}"
        );
    }

    #[test]
    fn five_hundred_hosts_that_agree_are_a_few_lines() {
        let hosts = (0..500).map(|n| seen(&format!("h{n:03}"), vec![agrees(), agrees()]));
        let text = shown(hosts.collect());
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(text.ends_with("\nStatus: 500 of 500 hosts agree.\n"));

        // Also where each host has a destination of its own.
        let hosts = (0..500).map(|n| {
            let (mut plan, standing) = seen(&format!("h{n:03}"), vec![agrees(), agrees()]);
            plan.mappings[0].dest = format!("/srv/{n}");
            (plan, standing)
        });
        let text = shown(hosts.collect());
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            text.starts_with("host                    app     /etc/nginx"),
            "{text}"
        );
    }

    #[test]
    fn long_names_of_hosts_stand_above_their_row() {
        let names = [
            "amber", "birch", "cedar", "dogwood", "elder", "fir", "gorse",
        ];
        let text = shown(
            names
                .map(|name| seen(name, vec![agrees(), agrees()]))
                .to_vec(),
        );
        assert!(
            text.starts_with(
                "\
host                              /srv/app  /etc/nginx/nginx.conf
amber, birch, cedar, dogwood, elder, fir, gorse (7 hosts)
                                  agrees    agrees
"
            ),
            "{text}"
        );
    }

    #[test]
    fn mapping_that_a_host_does_not_have_leaves_its_cell_empty() {
        let (mut one, mut standing) = seen("b", vec![agrees()]);
        one.mappings.remove(0);
        standing.applied = None;
        let text = shown(vec![seen("a", vec![agrees(), agrees()]), (one, standing)]);
        assert!(
            text.starts_with(
                "\
host  /srv/app  /etc/nginx/nginx.conf
a     agrees    agrees
b               agrees
"
            ),
            "{text}"
        );
    }

    #[test]
    fn same_destination_of_different_sources_is_told_apart() {
        let (mut other, standing) = seen("b", vec![agrees(), agrees()]);
        other.mappings[0].src = "other".to_owned();
        let text = shown(vec![seen("a", vec![agrees(), agrees()]), (other, standing)]);
        assert!(text.contains("\n1  app → /srv/app\n"), "{text}");
        assert!(text.contains("\n3  other → /srv/app\n"), "{text}");
    }

    #[test]
    fn long_drift_is_folded_unless_all_of_it_is_asked_for() {
        let drift = || (0..30).map(|n| removed(&format!("f{n:02}"))).collect();
        let hosts = || vec![seen("a", vec![drifted(drift()), agrees()])];
        let text = shown(hosts());
        assert!(
            text.contains("\n    … and 10 more; --full shows them\n"),
            "{text}"
        );
        let full = StatusView {
            full: true,
            ..view()
        };
        assert!(render(&status(hosts()), &full).contains("/srv/app/f29  removed"));
    }

    #[test]
    fn summary_can_be_read_alone() {
        let line = |hosts| summary_line(&status(hosts));
        assert_eq!(line(Vec::new()), "Status: there are no hosts.");
        assert_eq!(
            line(vec![seen("a", vec![agrees()])]),
            "Status: 1 of 1 host agrees."
        );
        let mut failed = unseen("a", "x");
        failed.0.status = HostStatus::Failed("x".into());
        let mut unsendable = seen("b", vec![agrees()]);
        unsendable.0.problems = vec!["x: is a socket".to_owned()];
        assert_eq!(
            line(vec![failed, unsendable]),
            "Status: 0 of 2 hosts agree; 1 entry cannot be sent; 1 failed."
        );
    }

    #[test]
    fn names_forge_neither_lines_nor_terminal_codes() {
        let evil = "x\nStatus: 9 of 9 hosts agree.\u{1b}[2J\u{202e}";
        let (mut plan, standing) = seen(evil, vec![drifted(vec![removed(evil)]), agrees()]);
        plan.mappings[0].src = evil.to_owned();
        plan.mappings[1].dest = evil.to_owned();
        let text = shown(vec![(plan, standing), unseen(evil, evil)]);
        let is_evil = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(is_evil), "{text:?}");
        let lines = text.lines().filter(|line| line.starts_with("Status:"));
        assert_eq!(lines.count(), 1);
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let hosts = || vec![seen("a", vec![drifted(vec![removed("x")]), agrees()])];
        let color = StatusView {
            color: true,
            ..view()
        };
        let colored = render(&status(hosts()), &color);
        assert!(
            colored.contains("\u{1b}[33m1 drifted\u{1b}[0m"),
            "{colored}"
        );
        let plain = anstream::adapter::strip_str(&colored).to_string();
        assert_eq!(plain, shown(hosts()));
    }
}
