//! Words of the programs of hosts: they are spelled beside these programs alone, since a circle can hide in
//! a string.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

use super::code::{is_word, strings};

/// Where the programs of hosts are.
const HOME: &str = "remote/";

/// Words of these programs that are spelled elsewhere, and programs that lie elsewhere.
pub(crate) fn strays(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap();
        match Path::new(path).extension().and_then(|it| it.to_str()) {
            Some("rs") => {
                let text = fs::read_to_string(entry.path()).unwrap();
                let beside = entry.path().parent().unwrap();
                found.extend(strays_in(path, &text, &variables_beside(beside)));
            }
            Some("sh" | "pl") if !path.starts_with(HOME) => {
                found.push(format!("{path}: belongs below {HOME}"));
            }
            _ => {}
        }
    }
    found
}

/// The variables that the programs in a folder have.
fn variables_beside(folder: &Path) -> BTreeSet<String> {
    let programs = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let programs = programs.filter(|path| path.extension().is_some_and(|it| it == "sh"));
    programs
        .flat_map(|path| variables(&fs::read_to_string(path).unwrap()))
        .collect()
}

/// The names of variables in a text, without the numbers behind them.
fn variables(text: &str) -> BTreeSet<String> {
    let names = text.match_indices("hs_").filter(|(at, _)| {
        let before = text[..*at].bytes().next_back();
        before.is_none_or(|byte| !is_word(byte))
    });
    let names = names.map(|(at, _)| {
        let name = text[at..].bytes().take_while(|byte| is_word(*byte));
        let name: String = name.map(char::from).collect();
        name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_')
            .to_owned()
    });
    names.collect()
}

/// What a file spells that is not its own. `own` are the variables of the programs beside it.
fn strays_in(path: &str, text: &str, own: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let is_at_home = path.starts_with(HOME);
    let is_task = path.starts_with("remote/tasks/");
    for string in strings(text) {
        if string.contains("HOSTSYNC ") && !is_at_home {
            found.push(format!(
                "{path}: the marker of answers belongs below {HOME}: {string}"
            ));
        }
        for name in variables(&string) {
            if !is_at_home {
                found.push(format!("{path}: {name} belongs below {HOME}"));
            } else if is_task && !own.contains(&name) {
                found.push(format!(
                    "{path}: {name} is no variable of the program beside it"
                ));
            }
        }
    }
    found
}

#[test]
fn word_of_a_program_is_found_away_from_home() {
    let none = BTreeSet::new();
    let own = BTreeSet::from(["hs_base".to_owned(), "hs_root".to_owned()]);
    let count = |path, text, own| strays_in(path, text, own).len();
    assert_eq!(
        count("apply/commit.rs", "script.text(\"hs_base\")", &own),
        1
    );
    assert_eq!(
        count("apply/commit.rs", "// hs_base\nlet hs_base = 1;", &own),
        0
    );
    assert_eq!(
        count("view/plan.rs", "format!(\"HOSTSYNC {nonce}\")", &none),
        1
    );
    assert_eq!(count("cli/mod.rs", "\"HOSTSYNC_CONFIG\"", &none), 0);
    let base = "script.path(\"hs_base\"); format!(\"hs_root_{index}\")";
    assert_eq!(count("remote/tasks/look/mod.rs", base, &own), 0);
    assert_eq!(count("remote/tasks/fetch/mod.rs", base, &none), 2);
    assert_eq!(count("remote/bootstrap.rs", "\"hs_nonce\"", &none), 0);
}

#[test]
fn names_of_variables_are_found_without_their_numbers() {
    let text = "eval \"hs_base=\\$hs_base_$hs_i\"; echo xhs_no \"$hs_root_0\"";
    let expected = ["hs_base", "hs_i", "hs_root"].map(str::to_owned);
    assert_eq!(variables(text), BTreeSet::from(expected));
}
