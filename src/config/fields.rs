//! The values of a table, with the errors that go with reading them.

use super::document::{Document, Findings, Node, Table, Value};
use super::error::{Issue, IssueCode};
use super::mask::named;
use super::values::holds_login;

/// The keys of one table, with the errors that go with reading them.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) document: &'a Document,
    pub(super) table: &'a Table,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.table.get(key).map(|entry| &entry.value)
    }

    pub(super) fn refuse_unknown(&self, known: &[&str], findings: &mut Findings) {
        for entry in &self.table.entries {
            if !known.contains(&entry.key.as_str()) {
                findings.issue(
                    self.document
                        .issue(
                            IssueCode::UnknownKey,
                            format!("unknown key{}", named(&entry.key)),
                        )
                        .label(entry.key_span, "nothing reads this")
                        .suggest(&entry.key, known),
                );
            }
        }
    }

    pub(super) fn wrong_type(&self, key: &str, node: &Node, expected: &str) -> Issue {
        self.document
            .issue(
                IssueCode::WrongType,
                format!("`{key}` should be {expected}"),
            )
            .label(node.span, format!("found {}", node.value.kind()))
    }

    pub(super) fn invalid(&self, node: &Node, message: impl Into<String>, label: &str) -> Issue {
        self.document
            .issue(IssueCode::InvalidValue, message)
            .label(node.span, label)
    }

    /// The text of a key, if it is there.
    pub(super) fn text(&self, key: &str, findings: &mut Findings) -> Option<(&'a str, &'a Node)> {
        let node = self.get(key)?;
        let Value::Text(text) = &node.value else {
            findings.issue(self.wrong_type(key, node, "a text in quotes"));
            return None;
        };
        // A command may have a URL in it; nobody shows it.
        let may_hold_login = key.starts_with("passkey");
        (may_hold_login || !self.refuse_login(key, text, node, findings)).then_some((text, node))
    }

    /// Reports a password within the text of a key, which would be shown from then on.
    pub(super) fn refuse_login(
        &self,
        key: &str,
        text: &str,
        node: &Node,
        findings: &mut Findings,
    ) -> bool {
        let holds_login = holds_login(text);
        if holds_login {
            findings.issue(
                self.invalid(
                    node,
                    format!("`{key}` holds a login"),
                    "something like `user:password@` is in here",
                )
                .help("write the login name as `user` and the password as `passkey` of the host"),
            );
        }
        holds_login
    }

    /// The text of a key, if it is there; it must not be empty.
    pub(super) fn filled_text(
        &self,
        key: &str,
        findings: &mut Findings,
    ) -> Option<(&'a str, &'a Node)> {
        let (text, node) = self.text(key, findings)?;
        if text.is_empty() {
            findings.issue(self.invalid(
                node,
                format!("`{key}` is empty"),
                "nothing between the quotes",
            ));
            return None;
        }
        Some((text, node))
    }

    /// The text of a key that has to be there.
    pub(super) fn needed_text(
        &self,
        key: &str,
        findings: &mut Findings,
    ) -> Option<(&'a str, &'a Node)> {
        if self.get(key).is_none() {
            findings.issue(
                self.document
                    .issue(IssueCode::MissingKey, format!("`{key}` is missing"))
                    .label(
                        self.table.span.first_byte(),
                        "in the object that begins here",
                    ),
            );
            return None;
        }
        self.filled_text(key, findings)
    }

    /// The elements of a list of texts, if it is there.
    pub(super) fn texts(&self, key: &str, findings: &mut Findings) -> Vec<(&'a str, &'a Node)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let Value::List(elements) = &node.value else {
            findings.issue(
                self.wrong_type(key, node, "a list of texts")
                    .help("write `[\"...\"]`, also around a single one"),
            );
            return Vec::new();
        };
        let mut texts = Vec::new();
        for element in elements {
            match &element.value {
                Value::Text(text) if !text.is_empty() => texts.push((text.as_str(), element)),
                Value::Text(_) => findings.issue(self.invalid(
                    element,
                    format!("an empty text in `{key}`"),
                    "nothing between the quotes",
                )),
                _ => findings.issue(self.wrong_type(key, element, "a list of texts")),
            }
        }
        texts
    }
}

/// The issue for an element of a list that should be an object.
pub(super) fn wrong_element(document: &Document, node: &Node, expected: &str) -> Issue {
    document
        .issue(IssueCode::WrongType, format!("expected {expected}"))
        .label(
            node.span.first_byte(),
            format!("found {}", node.value.kind()),
        )
}
