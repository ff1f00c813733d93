//! Reads Rust as text: what is code, what is a string, what is compiled for tests only.

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `needle` stands in `code` as a whole word.
pub(crate) fn words<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
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
pub(crate) fn code_only(text: &str) -> String {
    read(text).0
}

/// What is in the strings of a text, but not in those of its comments.
pub(crate) fn strings(text: &str) -> Vec<String> {
    read(text).1
}

/// The code of a text, and its strings.
fn read(text: &str) -> (String, Vec<String>) {
    let mut code = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal_length(rest, &code) {
            strings.push(rest[..length].to_owned());
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
    (code, strings)
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
pub(crate) fn without_tests(code: &str) -> String {
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

pub(crate) fn block_length(block: &str) -> usize {
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

/// The word that a text begins with.
pub(crate) fn first_word(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
