//! Templates: minijinja with Ansible's white space, strict undefined values, no escaping, and one
//! quoting filter per target language. Templates lay out; they do not compute.

mod assets;

pub use assets::{Assets, playbook_names, template_names};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;

use crate::text::quote;

/// A template or expression that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(name.as_deref(), *line))]
pub struct TemplateError {
    /// The template's name; `None` for a string of a playbook.
    pub name: Option<String>,
    pub line: Option<usize>,
    pub message: String,
}

fn place(name: Option<&str>, line: Option<usize>) -> String {
    match (name, line) {
        (Some(name), Some(line)) => format!("templates/{name}:{line}: "),
        (Some(name), None) => format!("templates/{name}: "),
        _ => String::new(),
    }
}

/// The environment in which everything is rendered.
#[derive(Debug)]
pub struct Templates {
    env: Environment<'static>,
}

impl Templates {
    /// All templates, parsed. A template that does not parse is an error here, not at 3 a.m.
    pub fn load(assets: &Assets) -> Result<Self, TemplateError> {
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(false)
            .keep_trailing_newline(true)
            .build()
            .map_err(|e| error(None, "", &e))?;
        env.set_syntax(syntax);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.set_fuel(Some(10_000_000));
        // Debug information holds the values of variables, passwords among them.
        env.set_debug(false);
        env.add_filter("to_json", |v: Serde<Value>| v.0.to_string());
        env.add_filter("yaml", |v: Serde<Value>| quote::yaml(&v.0));
        env.add_filter("conf", |v: Jinja| quote::conf(&v.to_string()));
        env.add_filter("pgb", |v: Jinja| quote::pgbouncer(&v.to_string()));
        env.add_filter("shell", |v: Jinja| quote::shell(&v.to_string()));
        env.add_filter("line", line);
        env.add_filter("pgb_key", pgb_key);
        env.add_filter("bool", truth);
        env.add_function("fail", |message: String, _: Kwargs| -> Result<Jinja, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        for name in template_names() {
            let source = assets.template(&name).unwrap_or_default();
            env.add_template_owned(name.clone(), source.clone())
                .map_err(|e| error(Some(&name), &source, &e))?;
        }
        Ok(Self { env })
    }

    /// Renders the template `name`.
    pub fn render(&self, name: &str, context: &Value) -> Result<String, TemplateError> {
        let template = self.env.get_template(name).map_err(|e| error(Some(name), "", &e))?;
        template.render(Serde(context)).map_err(|e| error(Some(name), template.source(), &e))
    }

    /// Renders a string of a playbook. A string that is exactly one `{{ expression }}` keeps the
    /// expression's type.
    pub fn value(&self, text: &str, context: &Value) -> Result<Value, TemplateError> {
        if let Some(inner) = text.trim().strip_prefix("{{").and_then(|t| t.strip_suffix("}}"))
            && !inner.contains("{{")
            && !inner.contains("}}")
        {
            return self.expression(inner.trim(), context);
        }
        if !text.contains("{{") && !text.contains("{%") {
            return Ok(Value::String(text.to_owned()));
        }
        let rendered = self.env.render_str(text, Serde(context)).map_err(|e| error(None, text, &e))?;
        Ok(Value::String(rendered))
    }

    /// Evaluates an expression; an undefined result is an error.
    pub fn expression(&self, text: &str, context: &Value) -> Result<Value, TemplateError> {
        let compiled = self.env.compile_expression(text).map_err(|e| error(None, text, &e))?;
        let value = compiled.eval(Serde(context)).map_err(|e| error(None, text, &e))?;
        if value.is_undefined() {
            return Err(TemplateError {
                name: None,
                line: None,
                message: format!("`{text}` is not defined"),
            });
        }
        serde_json::to_value(&value).map_err(|e| TemplateError {
            name: None,
            line: None,
            message: format!("`{text}` gives no plain value: {e}"),
        })
    }

    /// Evaluates a condition by Python's rules of truth.
    pub fn condition(&self, text: &str, context: &Value) -> Result<bool, TemplateError> {
        Ok(match self.expression(text, context)? {
            Value::Null => false,
            Value::Bool(b) => b,
            Value::Number(n) => n.as_f64() != Some(0.0),
            Value::String(s) => !s.is_empty(),
            Value::Array(a) => !a.is_empty(),
            Value::Object(o) => !o.is_empty(),
        })
    }
}

/// A value in an ini-like file (`PgBouncer`, pgBackRest): one line, refused otherwise, because these
/// formats have no quoting for line ends.
fn line(value: &Jinja) -> Result<String, minijinja::Error> {
    let text = value.to_string();
    if text.chars().any(char::is_control) {
        let message = "a value for an ini file holds a line end or control character";
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(text)
}

/// A key of `PgBouncer`'s ini sections, which take no quotes around some names (its manual, "Section
/// [users]"): plain words only, refused otherwise.
fn pgb_key(value: &Jinja) -> Result<String, minijinja::Error> {
    let text = value.to_string();
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        let message = format!("PgBouncer takes only letters, digits, `_`, `.` and `-` here, not `{text}`");
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(text)
}

/// Ansible's `bool`: words too, not Python's truth.
fn truth(value: &Jinja) -> bool {
    match value.as_str() {
        Some(word) => matches!(word.to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1" | "y" | "t"),
        None => value.is_true(),
    }
}

/// The error in words, with the line's text but never the values of variables.
fn error(name: Option<&str>, source: &str, e: &minijinja::Error) -> TemplateError {
    let what = match e.kind() {
        ErrorKind::UndefinedError => "undefined value".to_owned(),
        kind => kind.to_string(),
    };
    let mut message = match e.detail() {
        Some(detail) => format!("{what}: {detail}"),
        None => what,
    };
    let line = e.line();
    if let Some(text) = line.and_then(|l| source.lines().nth(l.saturating_sub(1))) {
        message.push_str(&format!(" in `{}`", text.trim()));
    }
    TemplateError { name: e.name().filter(|_| name.is_some()).or(name).map(str::to_owned), line, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn templates() -> Templates {
        Templates::load(&Assets::embedded()).unwrap()
    }

    #[test]
    fn a_lone_expression_keeps_its_type() {
        let t = templates();
        let c = json!({"n": 5, "list": ["a"], "s": "x", "no": "false"});
        assert_eq!(t.value("{{ n }}", &c).unwrap(), json!(5));
        assert_eq!(t.value("{{ list }}", &c).unwrap(), json!(["a"]));
        assert_eq!(t.value("{{ n }}-{{ s }}", &c).unwrap(), json!("5-x"));
        assert_eq!(t.value("plain", &c).unwrap(), json!("plain"));
        assert!(!t.condition("no|bool", &c).unwrap());
    }

    #[test]
    fn undefined_is_an_error_without_values() {
        let t = templates();
        let e = t.value("{{ pg_pasword }} {{ secret }}", &json!({"secret": "hunter2"})).unwrap_err();
        assert!(e.message.contains("undefined value") && !e.message.contains("hunter2"), "{e}");
        assert!(
            t.expression("nothing", &json!({})).unwrap_err().message.contains("`nothing` is not defined")
        );
    }

    #[test]
    fn each_language_has_its_quotes() {
        let t = templates();
        let c = json!({"v": "a'b\"c\n"});
        assert_eq!(t.value("{{ v | yaml }};", &c).unwrap(), json!("\"a'b\\\"c\\n\";"));
        assert_eq!(t.value("{{ v | conf }};", &c).unwrap(), json!("'a''b\"c\n';"));
        assert!(t.value("{{ v | line }};", &c).is_err());
    }
}
