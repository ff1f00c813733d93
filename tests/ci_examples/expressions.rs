//! The conditions and placeholders of both systems, as far as the examples use them.

use serde_json::Value;

/// What an expression may refer to.
pub(crate) struct Scope<'a> {
    /// `github`, `env`, `steps` and so on; for GitLab, the variables by name.
    pub(crate) values: &'a Value,
    /// Whether a step has failed.
    pub(crate) has_failed: bool,
    /// Whether somebody has cancelled the job.
    pub(crate) was_cancelled: bool,
}

impl Scope<'_> {
    /// The value of an expression such as `a.b == 'c' && !cancelled()`, or `$A == "b"`.
    pub(crate) fn eval(&self, expression: &str) -> Value {
        let mut parser = Parser {
            tokens: tokens(expression),
            next: 0,
            scope: self,
        };
        let value = parser.any();
        assert_eq!(parser.next, parser.tokens.len(), "in `{expression}`");
        value
    }

    /// Whether a step or job with this condition runs.
    pub(crate) fn holds(&self, condition: Option<&Value>) -> bool {
        let Some(condition) = condition else {
            return !self.has_failed;
        };
        let text = condition.as_str().expect("a condition is a text").trim();
        let text = text
            .strip_prefix("${{")
            .and_then(|text| text.strip_suffix("}}"))
            .unwrap_or(text);
        let status = ["always()", "failure()", "success()", "cancelled()"];
        let asks_for_status = status.iter().any(|function| text.contains(function));
        (asks_for_status || !self.has_failed) && is_true(&self.eval(text))
    }

    /// A text with each `${{ … }}` replaced by its value.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, inside)) = rest.split_once("${{") {
            let (expression, after) = inside.split_once("}}").expect("an end of `${{`");
            filled.push_str(before);
            filled.push_str(&to_text(&self.eval(expression)));
            rest = after;
        }
        filled + rest
    }
}

/// A value as both systems write it into a text.
pub(crate) fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && !to_text(value).is_empty()
}

fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || "._-$".contains(c);
        let length = match first {
            '\'' | '"' => 2 + rest[1..].find(first).expect("the end of a text"),
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            '!' if !rest.starts_with("!=") => 1,
            '(' | ')' => 1,
            _ => 2,
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<String>,
    next: usize,
    scope: &'a Scope<'a>,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.next).is_some_and(|next| next == token);
        self.next += usize::from(is_next);
        is_next
    }

    fn any(&mut self) -> Value {
        let mut value = self.all();
        while self.take("||") {
            let other = self.all();
            value = if is_true(&value) { value } else { other };
        }
        value
    }

    fn all(&mut self) -> Value {
        let mut value = self.comparison();
        while self.take("&&") {
            let other = self.comparison();
            value = if is_true(&value) { other } else { value };
        }
        value
    }

    fn comparison(&mut self) -> Value {
        let left = self.operand();
        if self.take("==") {
            Value::Bool(to_text(&left) == to_text(&self.operand()))
        } else if self.take("!=") {
            Value::Bool(to_text(&left) != to_text(&self.operand()))
        } else {
            left
        }
    }

    fn operand(&mut self) -> Value {
        if self.take("!") {
            return Value::Bool(!is_true(&self.operand()));
        }
        if self.take("(") {
            let value = self.any();
            assert!(self.take(")"), "a `)` is missing");
            return value;
        }
        let token = self.tokens[self.next].clone();
        self.next += 1;
        if token.starts_with(['\'', '"']) {
            return Value::String(token[1..token.len() - 1].to_owned());
        }
        if self.take("(") {
            assert!(self.take(")"), "{token} takes nothing");
            return Value::Bool(match token.as_str() {
                "always" => true,
                "cancelled" => self.scope.was_cancelled,
                "failure" => self.scope.has_failed && !self.scope.was_cancelled,
                "success" => !self.scope.has_failed,
                _ => panic!("{token}() is not known here"),
            });
        }
        let mut value = self.scope.values;
        let mut names = token.trim_start_matches('$').split('.');
        let context = names.next().expect("a name");
        value = value
            .get(context)
            .unwrap_or_else(|| panic!("{context} is not known here"));
        for name in names {
            // As in both systems, what is not there is nothing.
            value = value.get(name).unwrap_or(&Value::Null);
        }
        value.clone()
    }
}

#[test]
fn expressions_mean_what_they_mean_to_the_systems() {
    let values = serde_json::json!({
        "github": { "name": "push" }, "steps": { "a": { "outcome": "failure" } }, "EMPTY": "",
    });
    let scope = |has_failed| Scope {
        values: &values,
        has_failed,
        was_cancelled: false,
    };
    let holds = |text: &str, has_failed| scope(has_failed).holds(Some(&Value::from(text)));
    assert!(holds("github.name == 'push'", false));
    assert!(!holds("github.name == 'push'", true));
    assert!(holds("always() && steps.a.outcome == 'failure'", true));
    assert!(!holds("!cancelled() && steps.a.outcome != 'failure'", true));
    assert!(holds(
        "${{ !cancelled() && (steps.b.x == '' || EMPTY) }}",
        true
    ));
    assert!(!holds("$EMPTY == \"x\" || github.none", false));
    assert!(!scope(true).holds(None));
    let filled = scope(false).fill("a ${{ github.name }} b ${{ github.name != 'x' }}");
    assert_eq!(filled, "a push b true");
}
