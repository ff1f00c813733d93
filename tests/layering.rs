//! The layers of the source: imports only go downward, and some things are known in one place only.
//!
//! It reads the text of `src`, without comments, strings and test modules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

/// The layers, the highest first. Those that share a line do not know each other.
const LAYERS: [&[&str]; 9] = [
    &["cli"],
    &["view"],
    &["apply"],
    &["plan"],
    &["source", "state"],
    &["remote"],
    &["transport"],
    &["config"],
    &["model"],
];

/// What only some files may name.
struct Reserved {
    text: &'static str,
    /// Prefixes of the paths below `src` that may.
    allowed: &'static [&'static str],
}

const RESERVED: [Reserved; 12] = [
    reserved("ssh2", &["transport/"]),
    reserved("libssh2_sys", &["transport/"]),
    reserved("indicatif", &["view/progress.rs"]),
    reserved("similar", &["plan/diffs/content.rs"]),
    reserved("clap", &["cli/args.rs"]),
    reserved("clap_complete", &["cli/"]),
    reserved("println!", &["cli/"]),
    reserved("print!", &["cli/"]),
    reserved("eprintln!", &["cli/"]),
    reserved("eprint!", &["cli/"]),
    reserved("std::env", &["cli/", "main.rs"]),
    reserved("process::exit", &["cli/", "main.rs"]),
];

const fn reserved(text: &'static str, allowed: &'static [&'static str]) -> Reserved {
    Reserved { text, allowed }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `needle` stands in `code` as a whole word.
fn words<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(needle)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let end = at + needle.len();
            let starts = at == 0 || !is_word(bytes[at - 1]);
            let ends =
                !is_word(bytes[end - 1]) || bytes.get(end).is_none_or(|byte| !is_word(*byte));
            starts && ends
        })
}

/// The text without comments and without what is in strings and characters; lines stay lines.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal_length(rest, &code) {
            length
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// The length of the string or character that `rest` begins with.
fn literal_length(rest: &str, before: &str) -> Option<usize> {
    let in_word = before.bytes().last().is_some_and(is_word);
    if let Some(raw) = rest
        .strip_prefix('r')
        .filter(|_| !in_word || before.ends_with('b'))
    {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = 1 + hashes + 1;
            return Some(
                rest[from..]
                    .find(&end)
                    .map_or(rest.len(), |at| from + at + end.len()),
            );
        }
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime is no character.
        let mut inside = rest[1..].chars();
        if inside.next() != Some('\\') && inside.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The code without the modules that are compiled for tests only.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        // An item ends with its block, or with a semicolon before one.
        let end = item.find([';', '{']).unwrap_or(item.len() - 1);
        let end = if item[end..].starts_with('{') {
            end + block_length(&item[end..])
        } else {
            end + 1
        };
        rest = &item[end..];
    }
    kept + rest
}

fn block_length(block: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in block.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    block.len()
}

/// The first modules that `crate::…` paths name: `crate::a::b` and `crate::{a::b, c}`.
fn imports(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for at in words(code, "crate").filter(|&at| !code[..at].ends_with('$')) {
        let Some(path) = code[at + "crate".len()..].trim_start().strip_prefix("::") else {
            continue;
        };
        let path = path.trim_start();
        if path.starts_with('{') {
            let group = &path[1..block_length(path) - 1];
            let mut depth = 0_usize;
            let outer = group.split(|c| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                c == ',' && depth == 0
            });
            modules.extend(outer.map(first_word));
        } else {
            modules.push(first_word(path));
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

fn first_word(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// What is wrong with one file. `path` is relative to `src`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = without_tests(&code_only(text));
    let mut found = Vec::new();
    let module = path.split('/').next().unwrap().trim_end_matches(".rs");
    if let Some(own) = layer_of(module) {
        for import in imports(&code) {
            match layer_of(&import) {
                Some(layer) if layer > own || import == module => {}
                Some(layer) if layer == own => {
                    found.push(format!(
                        "{path}: {module} and {import} do not know each other"
                    ));
                }
                Some(_) => found.push(format!("{path}: {import} lies above {module}")),
                None => found.push(format!("{path}: crate::{import} is in no layer")),
            }
        }
    } else if module != "lib" && module != "main" {
        found.push(format!("{path}: {module} is in no layer"));
    }
    if words(&code, "super::super").next().is_some() {
        found.push(format!(
            "{path}: super::super is to be spelled out from crate"
        ));
    }
    for Reserved { text, allowed } in RESERVED {
        let may = allowed.iter().any(|prefix| path.starts_with(prefix));
        if !may && words(&code, text).next().is_some() {
            found.push(format!("{path}: {text} belongs to {}", allowed.join(", ")));
        }
    }
    found
}

fn check_folder(root: &Path, folder: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_folder(root, &path, found, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *files += 1;
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
            // Whole files of tests are declared as such in the file above them.
            if !relative.ends_with("tests.rs") {
                found.extend(violations(relative, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
}

#[test]
fn imports_only_go_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut files) = (Vec::new(), 0);
    check_folder(&root, &root, &mut found, &mut files);
    assert!(files > 40, "only {files} files");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_is_in_a_layer() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let code = code_only(&lib);
    let declared: Vec<String> = words(&code, "mod")
        .map(|at| first_word(&code[at + 3..]))
        .collect();
    assert_eq!(declared.len(), LAYERS.concat().len());
    for module in declared {
        assert!(layer_of(&module).is_some(), "{module}");
    }
}

// --- the checker itself ------------------------------------------------------------------------------

#[test]
fn import_that_goes_up_is_found_in_every_spelling() {
    for text in [
        "use crate::plan::Plan;",
        "use crate::{model::HostId, plan::Plan};",
        "use crate::{\n    config::{Config, Host},\n    plan,\n};",
        "fn f() -> crate::plan::Plan {}",
        "pub(crate) use crate :: plan;",
    ] {
        let found = violations("source/local.rs", text);
        assert_eq!(found, ["source/local.rs: plan lies above source"], "{text}");
    }
}

#[test]
fn neighbours_do_not_know_each_other() {
    assert_eq!(
        violations("source/local.rs", "use crate::state::StateStore;").len(),
        1
    );
    assert_eq!(
        violations("state/store.rs", "use crate::source::local;").len(),
        1
    );
    assert_eq!(
        violations("state/store.rs", "use super::super::source;").len(),
        1
    );
    assert_eq!(
        violations("state/store.rs", "use crate::state::files;").len(),
        0
    );
}

#[test]
fn import_of_what_is_in_no_layer_is_found() {
    assert_eq!(
        violations("model/path.rs", "use crate::helpers::x;").len(),
        1
    );
    assert_eq!(violations("helpers.rs", "").len(), 1);
}

#[test]
fn what_belongs_elsewhere_is_found() {
    assert_eq!(violations("plan/x.rs", "use ssh2::Session;").len(), 1);
    assert_eq!(
        violations("view/plan.rs", "let bar = indicatif::ProgressBar::new(1);").len(),
        1
    );
    assert_eq!(violations("cli/plan.rs", "use clap::Parser;").len(), 1);
    assert_eq!(violations("apply/mod.rs", "println!(\"x\");").len(), 1);
    assert_eq!(
        violations("apply/mod.rs", "let x = std::env::var(\"x\");").len(),
        1
    );
    assert_eq!(
        violations("cli/exit.rs", "println!(\"{:?}\", std::env::args());").len(),
        0
    );
    assert_eq!(
        violations("plan/x.rs", "let libssh2 = 1; let version = env!(\"X\");").len(),
        0
    );
}

#[test]
fn comments_strings_and_tests_are_no_imports() {
    for text in [
        "/// See [`crate::cli`].\n// use crate::cli;\n/* use crate::cli; */",
        "const X: &str = \"use crate::cli; \\\" println!()\";",
        "const X: &str = r#\"\"use crate::cli;\"#;",
        "const Q: char = '\"'; const E: char = '\\''; /* \" */",
        "#[cfg(test)]\nmod tests {\n    use crate::cli;\n    fn f() { { println!() } }\n}",
        "#[cfg(test)]\nuse crate::cli;",
        "macro_rules! m { () => { $crate::cli::x } }",
    ] {
        assert_eq!(violations("model/path.rs", text), [""; 0], "{text}");
    }
    let after = "#[cfg(test)]\nmod tests {}\nconst C: char = '\"'; fn f<'a>(x: &'a str) {}\nuse crate::cli;";
    assert_eq!(violations("model/path.rs", after).len(), 1);
}
