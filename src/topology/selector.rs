//! Selectors of services: the part of `JMESPath` that inventories use.
//!
//! A selector runs over the members of a cluster: `[]` and `[*]` take all, `[? expression ]` those for whom the
//! expression is true. Expressions know `||`, `&&`, `!`, `==`, `!=`, parentheses, names (`a`, `"a b"`, `a.b`),
//! `'raw strings'` and `` `JSON literals` ``; as in `JMESPath`'s own reference, a literal that is no JSON is a string.

use serde_json::Value;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// `None` takes every member.
    filter: Option<Expression>,
}

/// What is wrong with a selector, and where: `at` counts characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` at character {at}: {why}")]
pub struct SelectorError {
    pub text: String,
    pub at: usize,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Or(Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Equal(Box<Self>, Box<Self>),
    Unequal(Box<Self>, Box<Self>),
    Field(Vec<String>),
    Literal(Value),
}

impl Selector {
    /// # Errors
    /// When `text` is not of the supported part of `JMESPath`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > LONGEST {
            return Err(SelectorError { text: "[…]".to_owned(), at: LONGEST, why: "too long".to_owned() });
        }
        let mut parser = Parser { text, characters: text.chars().collect(), at: 0, depth: 0 };
        parser.expect("[")?;
        let filter = if parser.take("?") {
            Some(parser.or()?)
        } else {
            parser.take("*");
            None
        };
        parser.expect("]")?;
        parser.blanks();
        if parser.at < parser.characters.len() {
            return Err(parser.error("only one `[…]` is supported"));
        }
        Ok(Self { filter })
    }

    /// Whether a member with these variables is selected.
    pub fn matches(&self, vars: &Value) -> bool {
        self.filter.as_ref().is_none_or(|filter| is_true(&filter.value(vars)))
    }
}

impl Expression {
    fn value(&self, vars: &Value) -> Value {
        match self {
            Self::Or(a, b) => {
                let a = a.value(vars);
                if is_true(&a) { a } else { b.value(vars) }
            }
            Self::And(a, b) => {
                let a = a.value(vars);
                if is_true(&a) { b.value(vars) } else { a }
            }
            Self::Not(a) => Value::Bool(!is_true(&a.value(vars))),
            Self::Equal(a, b) => Value::Bool(equal(&a.value(vars), &b.value(vars))),
            Self::Unequal(a, b) => Value::Bool(!equal(&a.value(vars), &b.value(vars))),
            Self::Field(path) => {
                path.iter().try_fold(vars, |value, key| value.get(key)).cloned().unwrap_or(Value::Null)
            }
            Self::Literal(value) => value.clone(),
        }
    }
}

/// `JMESPath`'s truth: null, false and whatever is empty are false; 0 is true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(_) => true,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Bytes of a selector at most, and with it the length of a chain of `||`.
const LONGEST: usize = 4096;

/// Expressions nest this deep at most: a hostile inventory must not overflow the stack.
const DEEPEST: usize = 64;

struct Parser<'a> {
    text: &'a str,
    characters: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self, why: impl Into<String>) -> SelectorError {
        SelectorError { text: self.text.to_owned(), at: self.at + 1, why: why.into() }
    }

    fn blanks(&mut self) {
        while self.characters.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.blanks();
        self.characters.get(self.at).copied()
    }

    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let found = token.chars().enumerate().all(|(i, c)| self.characters.get(self.at + i) == Some(&c));
        if found {
            self.at += token.chars().count();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), SelectorError> {
        if self.take(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    fn or(&mut self) -> Result<Expression, SelectorError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("nested too deeply"));
        }
        let mut left = self.and()?;
        while self.take("||") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, SelectorError> {
        let mut left = self.comparison()?;
        while self.take("&&") {
            left = Expression::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, SelectorError> {
        let left = self.unary()?;
        if self.take("==") {
            return Ok(Expression::Equal(Box::new(left), Box::new(self.unary()?)));
        }
        if self.take("!=") {
            return Ok(Expression::Unequal(Box::new(left), Box::new(self.unary()?)));
        }
        match self.peek() {
            Some('=') => Err(self.error("expected `==`")),
            Some('<' | '>') => Err(self.error("only `==` and `!=` are supported")),
            _ => Ok(left),
        }
    }

    /// `!` binds tighter than a comparison: `!a == b` is `(!a) == b`.
    fn unary(&mut self) -> Result<Expression, SelectorError> {
        let mut negations = 0;
        while self.peek() == Some('!') && self.characters.get(self.at + 1) != Some(&'=') {
            self.at += 1;
            negations += 1;
        }
        let mut operand = self.operand()?;
        // Two negations still matter: they turn a value into its truth. More do not.
        let wraps = if negations < 3 { negations } else { 2 - negations % 2 };
        for _ in 0..wraps {
            operand = Expression::Not(Box::new(operand));
        }
        Ok(operand)
    }

    fn operand(&mut self) -> Result<Expression, SelectorError> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.or()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some('`') => self.literal(),
            Some('\'') => Ok(Expression::Literal(Value::String(self.delimited('\'')?))),
            Some(c) if c == '"' || c == '_' || c.is_ascii_alphabetic() => self.field(),
            Some(c) if c.is_ascii_digit() || c == '-' => {
                Err(self.error("a number needs backquotes, as in `` `1` ``"))
            }
            Some(c) => Err(self.error(format!("unexpected `{c}`"))),
            None => Err(self.error("the expression ends too early")),
        }
    }

    fn field(&mut self) -> Result<Expression, SelectorError> {
        let mut path = vec![self.key()?];
        while self.take(".") {
            path.push(self.key()?);
        }
        match self.peek() {
            Some('(') => Err(self.error("functions are not supported")),
            Some('[') => Err(self.error("an index inside an expression is not supported")),
            _ => Ok(Expression::Field(path)),
        }
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        if self.peek() == Some('"') {
            return self.delimited('"');
        }
        let start = self.at;
        while self.characters.get(self.at).is_some_and(|c| *c == '_' || c.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        if start == self.at {
            Err(self.error("expected a name"))
        } else {
            Ok(self.characters[start..self.at].iter().collect())
        }
    }

    fn literal(&mut self) -> Result<Expression, SelectorError> {
        let inner = self.delimited('`')?;
        let value = serde_json::from_str(&inner).unwrap_or_else(|_| Value::String(inner.trim().to_owned()));
        Ok(Expression::Literal(value))
    }

    /// What stands between two `delimiter`s; a backslash before one makes it a character like others.
    fn delimited(&mut self, delimiter: char) -> Result<String, SelectorError> {
        let open = self.at;
        let mut inner = String::new();
        self.at += 1;
        while let Some(c) = self.characters.get(self.at).copied() {
            self.at += 1;
            match c {
                '\\' if self.characters.get(self.at) == Some(&delimiter) => {
                    inner.push(delimiter);
                    self.at += 1;
                }
                c if c == delimiter => return Ok(inner),
                c => inner.push(c),
            }
        }
        self.at = open;
        Err(self.error(format!("`{delimiter}` is never closed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn selects(text: &str, vars: &Value) -> bool {
        Selector::parse(text).unwrap().matches(vars)
    }

    #[test]
    fn selectors_of_real_inventories() {
        let replica = json!({ "pg_role": "replica" });
        let offline = json!({ "pg_role": "replica", "pg_offline_query": true });
        for (text, first, second) in [
            ("[]", true, true),
            ("[*]", true, true),
            (" [ ] ", true, true),
            ("[? pg_role == `primary` || pg_role == `offline` ]", false, false),
            ("[? pg_role == `offline` || pg_offline_query ]", false, true),
            ("[? pg_role == `replica` && !pg_offline_query]", true, false),
            ("[?pg_role=='replica']", true, true),
            ("[? pg_role == `\"replica\"`]", true, true),
            ("[? pg_role != 'replica' ]", false, false),
            ("[? !(pg_role == 'replica' && pg_offline_query) ]", true, false),
            ("[? pg_offline_query == `true`]", false, true),
            ("[? !!pg_offline_query]", false, true),
        ] {
            assert_eq!((selects(text, &replica), selects(text, &offline)), (first, second), "{text}");
        }
    }

    #[test]
    fn meaning_is_that_of_jmespath() {
        let vars = json!({ "n": 1, "zero": 0, "empty": "", "list": [], "a b": "x", "t": { "u": "v" } });
        for (text, expected) in [
            ("[? zero]", true),
            ("[? empty]", false),
            ("[? list]", false),
            ("[? missing]", false),
            ("[? missing == `null`]", true),
            ("[? n == `1.0`]", true),
            ("[? \"a b\" == 'x']", true),
            ("[? t.u == 'v']", true),
            ("[? t.w.x == 'v']", false),
            ("[? empty || n == `2` || t.u == 'v']", true),
            ("[? n && empty || zero]", true),
            ("[? !n == `false`]", true),
            ("[? 'it\\'s' == `it's`]", true),
        ] {
            assert_eq!(selects(text, &vars), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (text, at, why) in [
            ("", 1, "expected `[`"),
            ("pg_role", 1, "expected `[`"),
            ("[? a = b]", 6, "expected `==`"),
            ("[? a < `1`]", 6, "only `==` and `!=` are supported"),
            ("[? a == `b]", 9, "``` is never closed"),
            ("[? (a]", 6, "expected `)`"),
            ("[? a]]", 6, "only one `[…]` is supported"),
            ("[? contains(a, 'b')]", 12, "functions are not supported"),
            ("[? a ==]", 8, "unexpected `]`"),
            ("[? a == 1]", 9, "a number needs backquotes, as in `` `1` ``"),
            ("[?", 3, "the expression ends too early"),
            ("[? a.", 6, "expected a name"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert_eq!((error.at, error.why.as_str()), (at, why), "{text}");
        }
        let deep = format!("[? {}a{}]", "(".repeat(1000), ")".repeat(1000));
        assert_eq!(Selector::parse(&deep).unwrap_err().why, "nested too deeply");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]?!=&|()`'\"a-c .\\\\]{0,40}") {
            if let Ok(selector) = Selector::parse(&text) {
                selector.matches(&json!({ "a": 1 }));
            }
        }
    }
}
