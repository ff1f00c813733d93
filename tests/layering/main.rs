//! The structure of the source: imports only go downward, no files go round in a circle, and some things
//! are known in one place only.
//!
//! It reads the text of `src`, without comments and test modules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod circles;
mod code;
mod strings;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use code::{block_length, code_only, first_word, without_tests, words};
use tree::SourceTree;

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

const RESERVED: [Reserved; 13] = [
    reserved("ssh2", &["transport/libssh2/"]),
    reserved("libssh2_sys", &["transport/libssh2/"]),
    // A second way to connect is to touch one file above the transport.
    reserved("transport::libssh2", &["transport/", "cli/session.rs"]),
    reserved("indicatif", &["view/progress.rs"]),
    reserved("similar", &["plan/diffs/content.rs"]),
    reserved("clap", &["cli/"]),
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

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn imports_only_go_downward() {
    let tree = SourceTree::read(&source());
    let files = tree.files().chain(["main.rs"]);
    let found: Vec<String> = files
        .flat_map(|path| violations(path, &fs::read_to_string(source().join(path)).unwrap()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_files_go_round_in_a_circle() {
    let tree = SourceTree::read(&source());
    assert!(tree.files().count() > 100, "{}", tree.files().count());
    let found = circles::circles(&tree);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn words_of_host_programs_are_spelled_at_home() {
    let found = strings::strays(&source());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn tests_that_the_threat_model_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
    };
    let names: Vec<&str> = text.split('`').filter(is_name).collect();
    assert!(names.len() > 30, "{names:?}");
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for file in walkdir::WalkDir::new(root.join(folder)) {
            let file = file.unwrap();
            if file
                .path()
                .extension()
                .is_some_and(|extension| extension == "rs")
            {
                code += &fs::read_to_string(file.path()).unwrap();
            }
        }
    }
    let is_missing = |name: &&&str| {
        !code.contains(&format!("#[test]\nfn {name}()"))
            && !code.contains(&format!("#[test]\n    fn {name}()"))
    };
    let missing: Vec<&&str> = names.iter().filter(is_missing).collect();
    assert!(
        missing.is_empty(),
        "docs/security.md names tests that there are not: {missing:?}"
    );
}

#[test]
fn every_module_is_in_a_layer() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
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
    assert_eq!(violations("view/plan.rs", "use clap::Parser;").len(), 1);
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
