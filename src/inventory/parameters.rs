//! The parameters that pgctl knows: read once from the embedded `parameters.yml`.

use std::sync::LazyLock;

use indexmap::IndexMap;
use regex::Regex;
use serde_json::Value;

use crate::text::diagnostic::Sources;
use crate::text::suggest;
use crate::text::yaml::{self, Map, Yaml};

const FILE: &str = include_str!("parameters.yml");

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Int,
    Float,
    Bool,
    Enum,
    Path,
    Port,
    Ip,
    Cidr,
    /// An amount of memory: `64MiB`.
    Size,
    /// A duration: `24h`.
    Interval,
    List,
    Map,
    /// A list, or names in one string.
    Words,
    IntOrAuto,
    Username,
    /// Text that is never shown.
    Password,
    /// A name or number that the topology checks, with the whole cluster in view.
    Identity,
}

impl Type {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "string" => Self::String,
            "int" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "enum" => Self::Enum,
            "path" => Self::Path,
            "port" => Self::Port,
            "ip" => Self::Ip,
            "cidr" => Self::Cidr,
            "size" => Self::Size,
            "interval" => Self::Interval,
            "list" => Self::List,
            "map" => Self::Map,
            "words" => Self::Words,
            "int_or_auto" => Self::IntOrAuto,
            "username" => Self::Username,
            "password" => Self::Password,
            "identity" => Self::Identity,
            _ => return None,
        })
    }

    /// With its article, for messages and tables.
    pub fn words(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Int => "an integer",
            Self::Float => "a number",
            Self::Bool => "true or false",
            Self::Enum => "one of a few words",
            Self::Path => "an absolute path",
            Self::Port => "a port, 1 to 65535",
            Self::Ip => "an IP address",
            Self::Cidr => "an address with its mask, such as 10.10.10.2/24",
            Self::Size => "a size, such as 64MiB",
            Self::Interval => "a duration, such as 10s or 24h",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Words => "a list, or names in one string",
            Self::IntOrAuto => "an integer or `auto`",
            Self::Username => "a user name",
            Self::Password => "a password as text",
            Self::Identity => "a name or a number",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Supported,
    /// Known, and nothing reads it yet.
    Planned,
    /// Known, and it has no meaning here.
    Accepted,
}

/// One row of the reference.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: String,
    /// Chapter of the reference, such as `PG_BOOTSTRAP`.
    pub group: String,
    pub kind: Type,
    /// The words of an [`Type::Enum`].
    pub values: Vec<String>,
    /// Where it is usually set: `G`, `C`, `I`, `A` joined by `/`.
    pub level: String,
    pub default: Option<Value>,
    pub doc: String,
    pub support: Support,
    /// Why a parameter is only accepted.
    pub why: Option<String>,
}

impl Parameter {
    /// What to tell someone who sets a parameter that nothing reads.
    pub fn why_unused(&self) -> Option<&str> {
        match self.support {
            Support::Supported => None,
            Support::Planned => Some("pgctl does not do this yet"),
            Support::Accepted => Some(self.why.as_deref().unwrap_or("it has no meaning here")),
        }
    }
}

static TABLE: LazyLock<IndexMap<String, Parameter>> =
    LazyLock::new(|| read().expect("the embedded parameters.yml is valid, a test reads it"));

/// The parameter of this name.
pub fn lookup(name: &str) -> Option<&'static Parameter> {
    TABLE.get(name)
}

/// All parameters in the order of the reference.
pub fn iter() -> impl Iterator<Item = &'static Parameter> {
    TABLE.values()
}

/// The known name that `name` is probably a slip of.
pub fn nearest(name: &str) -> Option<&'static str> {
    suggest::nearest(name, TABLE.keys().map(String::as_str))
}

fn read() -> Result<IndexMap<String, Parameter>, String> {
    let mut sources = Sources::default();
    let file = sources.add("parameters.yml", FILE);
    let (document, warnings) = yaml::load(&sources, file).map_err(|e| format!("{e:?}"))?;
    if let Some(warning) = warnings.first() {
        return Err(warning.message.clone());
    }
    let mut table = IndexMap::new();
    for item in document.as_seq().ok_or("not a list")? {
        let parameter = item.as_map().and_then(parameter).ok_or_else(|| sources.place(item.span))?;
        if let Some(twice) = table.insert(parameter.name.clone(), parameter) {
            return Err(format!("{} is declared twice", twice.name));
        }
    }
    Ok(table)
}

fn parameter(map: &Map) -> Option<Parameter> {
    let text = |key: &str| map.get(key).and_then(Yaml::as_str).map(str::to_owned);
    let values = map.get("values").and_then(Yaml::as_seq).unwrap_or_default();
    Some(Parameter {
        name: text("name")?,
        group: text("group")?,
        kind: Type::parse(&text("type")?)?,
        values: values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        level: text("level")?,
        default: map.get("default").map(Yaml::to_json),
        doc: text("doc")?,
        support: match text("support")?.as_str() {
            "supported" => Support::Supported,
            "planned" => Support::Planned,
            "accepted" => Support::Accepted,
            _ => return None,
        },
        why: text("why"),
    })
}

/// Why a value does not fit its parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Lower case, without the value when it is a secret.
    pub message: String,
    pub help: Option<String>,
}

static SIZE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]+(\.[0-9]+)?\s*([kKMGTP]i?)?[bB]?$"));
static INTERVAL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[0-9]+(\.[0-9]+)?\s*(us|ms|s|sec|m|min|h|d|w|y)?$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}

/// Checks `value` and brings it into the parameter's own form: a number written as text becomes a
/// number, text written as a number becomes text, `"yes"` becomes true.
///
/// # Errors
/// The value does not fit. The message names what is expected and what was found.
pub fn check(parameter: &Parameter, value: Value) -> Result<Value, Misfit> {
    let name = &parameter.name;
    let found = |value: &Value| match value {
        _ if parameter.kind == Type::Password => kind_of(value).to_owned(),
        Value::String(s) => format!("`{s}`"),
        Value::Number(n) => format!("`{n}`"),
        Value::Bool(b) => format!("the boolean {b}"),
        other => kind_of(other).to_owned(),
    };
    let misfit = |value: &Value| Misfit {
        message: match parameter.kind {
            Type::Enum => {
                format!("`{name}` expects one of {}, not {}", parameter.values.join(", "), found(value))
            }
            kind => format!("`{name}` expects {}, not {}", kind.words(), found(value)),
        },
        help: match value {
            Value::Bool(_) if !matches!(parameter.kind, Type::Int | Type::List | Type::Map) => {
                Some("YAML reads an unquoted yes, no, on or off as a boolean: quote the word".to_owned())
            }
            _ => None,
        },
    };
    match parameter.kind {
        Type::Identity => Ok(value),
        Type::Bool => match &value {
            Value::Bool(_) => Ok(value),
            Value::String(s) => match s.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Ok(Value::Bool(true)),
                "false" | "no" | "off" => Ok(Value::Bool(false)),
                _ => Err(misfit(&value)),
            },
            _ => Err(misfit(&value)),
        },
        Type::Int | Type::Port | Type::IntOrAuto => {
            if parameter.kind == Type::IntOrAuto && value.as_str() == Some("auto") {
                return Ok(value);
            }
            let number = match &value {
                Value::Number(n) => n.as_i64(),
                Value::String(s) => s.trim().parse::<i64>().ok(),
                _ => None,
            };
            match number {
                Some(n) if parameter.kind != Type::Port || (1..=65535).contains(&n) => Ok(Value::from(n)),
                _ => Err(misfit(&value)),
            }
        }
        Type::Float => match &value {
            Value::Number(_) => Ok(value),
            Value::String(s) => {
                let number = s.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
                number.map(Value::Number).ok_or_else(|| misfit(&value))
            }
            _ => Err(misfit(&value)),
        },
        Type::List => match value {
            Value::Array(_) => Ok(value),
            _ => Err(misfit(&value)),
        },
        Type::Words => match value {
            Value::Array(_) | Value::String(_) => Ok(value),
            _ => Err(misfit(&value)),
        },
        Type::Map => match value {
            Value::Object(_) => Ok(value),
            _ => Err(misfit(&value)),
        },
        _ => {
            let text = match &value {
                Value::String(s) => s.clone(),
                Value::Number(n) => n.to_string(),
                _ => return Err(misfit(&value)),
            };
            let fits = match parameter.kind {
                Type::Path => text.is_empty() || text.starts_with('/'),
                Type::Ip => text.parse::<std::net::IpAddr>().is_ok(),
                Type::Cidr => is_cidr(&text),
                Type::Size => SIZE.is_match(&text),
                Type::Interval => INTERVAL.is_match(&text),
                Type::Username => !text.is_empty(),
                Type::Enum => parameter.values.contains(&text),
                _ => true,
            };
            if fits {
                return Ok(Value::String(text));
            }
            if parameter.kind == Type::Enum {
                let words = parameter.values.iter().map(String::as_str);
                let allowed = format!("allowed: {}", parameter.values.join(", "));
                return Err(Misfit {
                    message: format!("`{name}` does not know {}", found(&value)),
                    help: Some(match suggest::nearest(&text, words) {
                        Some(word) => format!("did you mean `{word}`? ({allowed})"),
                        None => allowed,
                    }),
                });
            }
            Err(misfit(&value))
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// An address with an optional mask.
fn is_cidr(text: &str) -> bool {
    let (address, mask) = text.split_once('/').map_or((text, None), |(a, m)| (a, Some(m)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    mask.is_none_or(|m| m.parse::<u8>().is_ok_and(|m| m <= longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_default_fits_its_own_type() {
        assert!(iter().count() > 350);
        for parameter in iter() {
            if let Some(default) = &parameter.default {
                let checked = check(parameter, default.clone());
                assert_eq!(checked.as_ref(), Ok(default), "{}", parameter.name);
            }
            assert_eq!(parameter.kind == Type::Enum, !parameter.values.is_empty(), "{}", parameter.name);
            assert!(!parameter.doc.is_empty(), "{}", parameter.name);
            assert!(
                parameter.level.split('/').all(|l| matches!(l, "G" | "C" | "I" | "A")),
                "{}: {}",
                parameter.name,
                parameter.level
            );
            assert_eq!(parameter.support == Support::Accepted, parameter.why.is_some(), "{}", parameter.name);
        }
    }

    fn try_it(name: &str, value: Value) -> Result<Value, String> {
        check(lookup(name).unwrap(), value).map_err(|m| m.message)
    }

    #[test]
    fn values_come_into_their_form() {
        assert_eq!(try_it("pg_port", json!("5433")), Ok(json!(5433)));
        assert_eq!(try_it("pg_admin_password", json!(123_456)), Ok(json!("123456")));
        assert_eq!(try_it("patroni_enabled", json!("no")), Ok(json!(false)));
        assert_eq!(try_it("pg_max_conn", json!("auto")), Ok(json!("auto")));
        assert_eq!(try_it("haproxy_client_timeout", json!(30)), Ok(json!("30")));
        assert_eq!(try_it("repo_packages", json!("a b")), Ok(json!("a b")));
    }

    #[test]
    fn misfits_say_what_is_expected_and_never_show_a_password() {
        assert_eq!(
            try_it("pg_port", json!(70000)),
            Err("`pg_port` expects a port, 1 to 65535, not `70000`".into())
        );
        assert_eq!(
            try_it("pg_users", json!({"name": "x"})),
            Err("`pg_users` expects a list, not a map".into())
        );
        assert_eq!(
            try_it("pg_admin_password", json!(["s3cret"])),
            Err("`pg_admin_password` expects a password as text, not a list".into())
        );
        assert_eq!(
            try_it("patroni_watchdog_mode", json!(false)),
            Err("`patroni_watchdog_mode` expects one of off, automatic, required, not the boolean false"
                .into())
        );
        let misfit = check(lookup("pgbouncer_poolmode").unwrap(), json!("sesion")).unwrap_err();
        assert_eq!(
            misfit.help.unwrap(),
            "did you mean `session`? (allowed: transaction, session, statement)"
        );
    }
}
