//! Circles of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::tree::SourceTree;

type Arrows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>;

/// A shortest circle for each file that lies on one, once for all of its files, with what each takes from
/// the next.
pub(crate) fn circles(tree: &SourceTree) -> Vec<String> {
    let arrows = tree.arrows();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for file in arrows.keys() {
        if told.contains(file) {
            continue;
        }
        if let Some(circle) = shortest_circle(&arrows, file) {
            told.extend(&circle);
            found.push(in_words(&arrows, &circle));
        }
    }
    found
}

/// From a file over others back to itself.
fn shortest_circle<'a>(arrows: &Arrows<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = vec![start];
    while !open.is_empty() {
        let mut next = Vec::new();
        for file in open {
            for used in arrows
                .get(file)
                .into_iter()
                .flatten()
                .map(|(used, _)| *used)
            {
                if used == start {
                    let mut circle = vec![file];
                    let mut at = file;
                    while at != start {
                        at = came_from[at];
                        circle.push(at);
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if !came_from.contains_key(used) {
                    came_from.insert(used, file);
                    next.push(used);
                }
            }
        }
        open = next;
    }
    None
}

fn in_words(arrows: &Arrows<'_>, circle: &[&str]) -> String {
    let mut text = circle[0].to_owned();
    for (index, file) in circle.iter().enumerate() {
        let next = circle[(index + 1) % circle.len()];
        let names: Vec<_> = arrows[file][next].iter().map(String::as_str).collect();
        let _ = write!(text, " -> {next} ({})", names.join(", "));
    }
    text
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let file = |path: &str| {
        let mut files = files.iter();
        let found = files.find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    circles(&SourceTree::of(&file))
}

#[test]
fn circle_is_found_in_every_spelling() {
    let a = ("lib.rs", "mod a;\nmod b;");
    for (of_a, of_b) in [
        ("use crate::b::B;", "use crate::a::A;"),
        ("use super::b::{B, C};", "fn f() { crate::a::f() }"),
        ("use super::b;\nfn f() { b::g() }", "use crate::{a::A};"),
        ("use super::b::*;", "fn f(x: super::a::A) {}"),
        (
            "pub(super) fn f() -> crate::b::B {}",
            "use super::a::{self as other};\nfn f() { other::f() }",
        ),
    ] {
        let found = circles_of(&[a, ("a.rs", of_a), ("b.rs", of_b)]);
        assert_eq!(found.len(), 1, "{of_a} {of_b}: {found:?}");
        assert!(found[0].starts_with("a.rs -> b.rs ("), "{found:?}");
        assert!(circles_of(&[a, ("a.rs", of_a), ("b.rs", "")]).is_empty());
    }
}

#[test]
fn circle_of_three_is_told_with_what_ties_it() {
    let found = circles_of(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;"),
        ("a.rs", "use crate::b::{One, Two};"),
        ("b.rs", "use crate::c::three;"),
        ("c.rs", "use crate::a::Four;"),
    ]);
    let told = "a.rs -> b.rs (One, Two) -> c.rs (three) -> a.rs (Four)";
    assert_eq!(found, [told]);
}

#[test]
fn module_that_only_passes_on_is_no_part_of_a_circle() {
    let files = [
        ("lib.rs", "mod m;"),
        (
            "m/mod.rs",
            "mod a;\nmod b;\npub use a::A;\npub(crate) use b::B;",
        ),
        ("m/a.rs", "pub struct A;"),
        ("m/b.rs", "use super::A;\npub struct B;"),
    ];
    assert_eq!(circles_of(&files), [""; 0]);
    let mut files = files;
    files[2].1 = "use crate::m::B;";
    let found = circles_of(&files);
    assert_eq!(found, ["m/a.rs -> m/b.rs (B) -> m/a.rs (A)"]);
}

#[test]
fn module_that_calls_its_child_and_is_used_by_it_is_a_circle() {
    let files = [
        ("lib.rs", "mod m;"),
        ("m/mod.rs", "mod a;\npub struct M;\nfn f() { a::f() }"),
        ("m/a.rs", "use super::M;"),
    ];
    let found = circles_of(&files);
    assert_eq!(found, ["m/a.rs -> m/mod.rs (M) -> m/a.rs (f)"]);
}

#[test]
fn tests_are_no_part_of_a_circle() {
    let a = "use crate::b::B;";
    for b in [
        "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}",
        "#[cfg(test)]\nmod tests;",
        "// use crate::a::A;\nconst X: &str = \"crate::a::A\";",
    ] {
        let files = [
            ("lib.rs", "mod a;\nmod b;"),
            ("a.rs", a),
            ("b.rs", b),
            ("b/tests.rs", "use crate::a::A;"),
        ];
        assert_eq!(circles_of(&files), [""; 0], "{b}");
    }
}
