//! The modules of the source, and which file uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::code::{block_length, code_only, first_word, is_word, without_tests};

/// A module path below the crate: `["plan", "goal"]`.
type ModulePath = Vec<String>;

/// The files of a crate that are compiled outside of tests.
pub(crate) struct SourceTree {
    /// By module.
    modules: BTreeMap<ModulePath, Module>,
}

struct Module {
    /// Relative to the root of the source.
    file: String,
    code: String,
    /// Paths that it names: what is imported under which name, and what stands in the code.
    uses: Vec<Use>,
}

struct Use {
    path: ModulePath,
    /// The name that it has in the file; `None` for one that stands in the code, and for a glob.
    name: Option<String>,
    /// Whether the module offers it as its own.
    is_reexport: bool,
}

impl SourceTree {
    /// Follows the declarations of modules from `lib.rs` on.
    pub(crate) fn read(root: &Path) -> Self {
        let file = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self::of(&file)
    }

    /// The same, of files that `file` gives by their path.
    pub(crate) fn of(file: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut modules = BTreeMap::new();
        let mut open: Vec<(ModulePath, String)> = vec![(Vec::new(), "lib.rs".to_owned())];
        while let Some((module, path)) = open.pop() {
            let text = file(&path).unwrap_or_else(|| panic!("{path} is missing"));
            let code = without_tests(&code_only(&text));
            for name in declared(&code) {
                let below = [module.as_slice(), std::slice::from_ref(&name)].concat();
                let short = format!("{}.rs", below.join("/"));
                let long = format!("{}/mod.rs", below.join("/"));
                let path = if file(&short).is_some() { short } else { long };
                open.push((below, path));
            }
            let uses = uses_of(&code, &module);
            modules.insert(
                module,
                Module {
                    file: path,
                    code,
                    uses,
                },
            );
        }
        Self { modules }
    }

    /// The paths of the files, relative to the root of the source.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(|module| module.file.as_str())
    }

    /// The files that each file uses, each with the names that are taken from it. What a module only passes
    /// on is used by whoever takes it, not by that module.
    pub(crate) fn arrows(&self) -> BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> {
        let mut arrows: BTreeMap<&str, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let from = arrows.entry(&module.file).or_default();
            let mut add = |path: &[String]| {
                if let Some((file, name)) = self.home_of(path, 0)
                    && file != module.file
                {
                    from.entry(file).or_default().insert(name.to_owned());
                }
            };
            for used in module.uses.iter().filter(|used| !used.is_reexport) {
                match &used.name {
                    Some(name) if self.modules.contains_key(&used.path) => {
                        // A module: what counts is what is taken from it.
                        for item in taken_from(&module.code, name) {
                            add(&[used.path.as_slice(), &[item]].concat());
                        }
                    }
                    _ => add(&used.path),
                }
            }
            // What is reached through a module that is declared here.
            for name in declared(&module.code) {
                for item in taken_from(&module.code, &name) {
                    add(&[path.as_slice(), &[name.clone(), item]].concat());
                }
            }
        }
        arrows
    }

    /// The file that defines what a path names, and the name.
    fn home_of<'p>(&self, path: &'p [String], depth: usize) -> Option<(&str, &'p str)> {
        let mut length = path.len();
        while !self.modules.contains_key(&path[..length]) {
            length = length.checked_sub(1)?;
        }
        let module = &self.modules[&path[..length]];
        let Some(name) = path.get(length) else {
            return Some((&module.file, path.last().map_or("", String::as_str)));
        };
        let passed_on = module
            .uses
            .iter()
            .find(|used| used.is_reexport && used.name.as_ref() == Some(name) && depth < 8);
        match passed_on {
            // The name of the path is the one that is shown.
            Some(used) => {
                let (file, _) = self.home_of(&used.path, depth + 1)?;
                Some((file, name))
            }
            None => Some((&module.file, name)),
        }
    }
}

/// The names of the modules that a file declares.
fn declared(code: &str) -> Vec<String> {
    let statements = code.split([';', '}', '{']);
    let names = statements.filter_map(|statement| {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let at = words.len().checked_sub(2)?;
        let is_module = words[at] == "mod" && words[at + 1].bytes().all(is_word);
        is_module.then(|| words[at + 1].to_owned())
    });
    // A module with a body has no file; there is none outside of tests.
    let ends_in_semicolon = |name: &String| code.contains(&format!("mod {name};"));
    names.filter(ends_in_semicolon).collect()
}

/// What is named behind `name::` in the code.
fn taken_from(code: &str, name: &str) -> Vec<String> {
    let mut items = Vec::new();
    for (at, _) in code.match_indices(name) {
        let before = code[..at].bytes().next_back();
        let starts = before.is_none_or(|byte| !is_word(byte) && byte != b':');
        if let Some(rest) = code[at + name.len()..].strip_prefix("::")
            && starts
        {
            let item = first_word(rest);
            items.extend(Some(item).filter(|item| !item.is_empty()));
        }
    }
    items
}

/// All paths of a file that begin at the crate or at a module near it.
fn uses_of(code: &str, module: &[String]) -> Vec<Use> {
    let children = declared(code);
    let mut uses = Vec::new();
    let mut rest = String::new();
    let mut at = 0;
    while let Some(offset) = next_use(&code[at..]) {
        let start = at + offset;
        rest.push_str(&code[at..start]);
        let end = code[start..]
            .find(';')
            .map_or(code.len(), |end| start + end);
        // `pub use`, or `pub(super) use`.
        let head = rest.trim_end();
        let is_reexport = head.ends_with("pub") || head.ends_with(')');
        for (path, name) in expanded(code[start + 3..end].trim()) {
            if let Some(path) = absolute(&path, module, &children) {
                uses.push(Use {
                    path,
                    name,
                    is_reexport,
                });
            }
        }
        at = end;
    }
    rest.push_str(&code[at..]);
    for root in ["crate", "super", "self"] {
        for (at, _) in rest.match_indices(root) {
            let before = rest[..at].bytes().next_back();
            // `pub(in crate::plan)` uses nothing.
            let is_root = before.is_none_or(|byte| !is_word(byte) && !b":$".contains(&byte))
                && !rest[..at].ends_with("pub(in ")
                && !rest[..at].ends_with("pub(");
            let path: String = rest[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                .collect();
            if is_root
                && path.contains("::")
                && let Some(path) = absolute(path.trim_end_matches(':'), module, &[])
            {
                uses.push(Use {
                    path,
                    name: None,
                    is_reexport: false,
                });
            }
        }
    }
    uses
}

/// Where the next `use` statement begins.
fn next_use(code: &str) -> Option<usize> {
    let mut found = code.match_indices("use ").map(|(at, _)| at);
    found.find(|&at| {
        let before = code[..at].bytes().next_back();
        before.is_none_or(|byte| !is_word(byte))
    })
}

/// The single paths of a tree of imports, each with the name that it gets.
fn expanded(tree: &str) -> Vec<(String, Option<String>)> {
    let Some(open) = tree.find('{') else {
        let (path, name) = match tree.split_once(" as ") {
            Some((path, name)) => (path.trim(), name.trim()),
            None => (tree, tree.rsplit("::").next().unwrap_or(tree).trim()),
        };
        if let Some(path) = path.strip_suffix("::*") {
            return vec![(path.to_owned(), None)];
        }
        return vec![(path.to_owned(), Some(name.to_owned()))];
    };
    let prefix = tree[..open].trim();
    let group = &tree[open + 1..open + block_length(&tree[open..]) - 1];
    let mut depth = 0_usize;
    let parts = group.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(|part| match part {
            "self" => expanded(prefix.trim_end_matches("::")),
            "*" => expanded(&format!("{prefix}*")),
            _ => expanded(&format!("{prefix}{part}")),
        })
        .collect()
}

/// A path from the crate; `None` for one of another crate.
fn absolute(path: &str, module: &[String], children: &[String]) -> Option<ModulePath> {
    let mut segments = path.split("::").map(str::trim);
    let mut at = match segments.next()? {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.split_last()?.1.to_vec(),
        child if children.iter().any(|it| it == child) => [module, &[child.to_owned()]].concat(),
        _ => return None,
    };
    for segment in segments {
        if segment == "super" {
            at.pop();
        } else {
            at.push(segment.to_owned());
        }
    }
    Some(at)
}
