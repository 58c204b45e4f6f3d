//! The entries of the structured parameters: users, databases, services, HBA rules.
//!
//! A misspelt key of an entry would do nothing, silently; a missing name would fail halfway through a run.

use std::sync::LazyLock;

use indexmap::IndexMap;
use regex::Regex;

use crate::text::diagnostic::{Diagnostic, Span};
use crate::text::suggest;
use crate::text::yaml::{Data, Map, Yaml};

/// What a key of an entry holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Bool,
    Number,
    List,
    Map,
}

impl Holds {
    fn fits(self, value: &Yaml) -> bool {
        let fits = match self {
            Self::Text => matches!(value.data, Data::Str(_) | Data::Time(_)),
            Self::Bool => matches!(value.data, Data::Bool(_)),
            Self::Number => matches!(value.data, Data::Int(_)),
            Self::List => matches!(value.data, Data::Seq(_)),
            Self::Map => matches!(value.data, Data::Map(_)),
        };
        fits || value.is_null() || value.as_str().is_some_and(|text| text.contains("{{"))
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bool => "true or false",
            Self::Number => "a whole number",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }
}

/// The keys whose values are used as they are. Others are looked at by those who use them.
fn holds(what: &str, key: &str) -> Option<Holds> {
    Some(match (what, key) {
        ("user", "password" | "expire_at" | "comment" | "pool_mode")
        | (
            "database",
            "owner" | "template" | "encoding" | "locale" | "lc_collate" | "lc_ctype" | "tablespace"
            | "comment" | "pool_auth_user" | "pool_mode",
        ) => Holds::Text,
        (
            "user",
            "login" | "superuser" | "createdb" | "createrole" | "inherit" | "replication" | "bypassrls"
            | "pgbouncer",
        )
        | ("database", "pgbouncer") => Holds::Bool,
        ("user", "connlimit" | "pool_connlimit")
        | ("database", "connlimit" | "pool_size" | "pool_size_min" | "pool_reserve" | "pool_connlimit") => {
            Holds::Number
        }
        ("user", "roles") => Holds::List,
        ("user" | "database", "parameters") => Holds::Map,
        _ => return None,
    })
}

/// What an entry of a list may hold.
struct Shape {
    /// For messages: `user`.
    what: &'static str,
    required: &'static [&'static str],
    keys: &'static [&'static str],
    /// Words of `state`.
    states: &'static [&'static str],
    /// Whether two entries may not have one name.
    unique: bool,
}

#[rustfmt::skip]
const USER: Shape = Shape {
    what: "user",
    required: &["name"],
    keys: &[
        "name", "state", "password", "login", "superuser", "createdb", "createrole", "replication", "bypassrls",
        "inherit", "pgbouncer", "connlimit", "expire_in", "expire_at", "comment", "roles", "parameters",
        "search_path", "pool_mode", "pool_connlimit",
    ],
    states: &["create", "absent"],
    unique: true,
};

#[rustfmt::skip]
const DATABASE: Shape = Shape {
    what: "database",
    required: &["name"],
    keys: &[
        "name", "state", "owner", "template", "encoding", "locale", "lc_collate", "lc_ctype", "tablespace",
        "strategy", "locale_provider", "icu_locale", "icu_rules", "builtin_locale", "is_template", "allowconn",
        "connlimit", "revokeconn", "schemas", "extensions", "parameters", "comment", "baseline", "pgbouncer",
        "pool_auth_user", "pool_mode", "pool_size", "pool_size_min", "pool_reserve", "pool_connlimit",
        "register_datasource",
    ],
    states: &["create", "absent", "recreate"],
    unique: true,
};

const SERVICE: Shape = Shape {
    what: "service",
    required: &["name", "port"],
    keys: &["name", "port", "ip", "dest", "check", "selector", "backup", "maxconn", "balance", "options"],
    states: &[],
    unique: true,
};

const HBA: Shape = Shape {
    what: "rule",
    required: &[],
    keys: &["title", "role", "order", "rules", "user", "db", "addr", "auth"],
    states: &[],
    unique: false,
};

fn shape(parameter: &str) -> Option<&'static Shape> {
    Some(match parameter {
        "pg_users" | "pg_default_roles" => &USER,
        "pg_databases" => &DATABASE,
        "pg_services" | "pg_default_services" => &SERVICE,
        "pg_hba_rules" | "pg_default_hba_rules" | "pgb_hba_rules" | "pgb_default_hba_rules" => &HBA,
        _ => return None,
    })
}

/// As Pigsty allows them; also what `PostgreSQL` keeps without truncation.
static USER_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[a-z_][a-z0-9_@.-]{0,62}$").expect("a constant pattern compiles"));

/// Checks the entries of a structured parameter; others are left alone.
pub(super) fn check(parameter: &str, value: &Yaml, diagnostics: &mut Vec<Diagnostic>) {
    let (Some(shape), Some(entries)) = (shape(parameter), value.as_seq()) else { return };
    let mut names: IndexMap<&str, Span> = IndexMap::new();
    for entry in entries {
        // Jinja decides what it is; a warning said so.
        if entry.as_str().is_some_and(|text| text.contains("{{")) {
            continue;
        }
        let Data::Map(map) = &entry.data else {
            let message = format!("an entry of `{parameter}` is {}, not a map", entry.kind());
            diagnostics.push(
                Diagnostic::error(entry.span, message)
                    .help(format!("a {} is written as `{{ {}: … }}`", shape.what, shape.keys[0])),
            );
            continue;
        };
        keys(shape, map, diagnostics);
        planned(shape, map, diagnostics);
        for required in shape.required.iter().filter(|key| map.get(key).is_none_or(Yaml::is_null)) {
            let message = format!("a {} of `{parameter}` has no `{required}`", shape.what);
            diagnostics.push(Diagnostic::error(entry.span, message));
        }
        if shape.what == "rule" && map.get("rules").is_none() && map.get("addr").is_none() {
            let message = format!("a {} of `{parameter}` has neither `addr` nor `rules`", shape.what);
            diagnostics.push(Diagnostic::error(entry.span, message));
        }
        state(shape, map, diagnostics);
        let Some((name, at)) = map.get("name").and_then(|n| n.as_str().map(|name| (name, n.span))) else {
            if let Some(name) = map.get("name").filter(|name| !name.is_null()) {
                let message = format!("the name of a {} is {}, not text", shape.what, name.kind());
                diagnostics.push(Diagnostic::error(name.span, message).help("quote it"));
            }
            continue;
        };
        if shape.what == "user" && !name.contains("{{") && !USER_NAME.is_match(name) {
            diagnostics.push(
                Diagnostic::error(at, format!("`{name}` cannot be the name of a user"))
                    .help("lower-case letters, digits and `_@.-`, at most 63, the first a letter or `_`"),
            );
        }
        if let Some(first) = names.get(name).filter(|_| shape.unique) {
            diagnostics.push(
                Diagnostic::error(at, format!("the {} `{name}` is listed twice", shape.what))
                    .label("the second one")
                    .also(*first, "the first one"),
            );
        } else {
            names.insert(name, at);
        }
    }
}

fn keys(shape: &Shape, map: &Map, diagnostics: &mut Vec<Diagnostic>) {
    for (name, key, _) in map.named().filter(|(name, ..)| !shape.keys.contains(name)) {
        let help = match suggest::nearest(name, shape.keys.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known: {}", shape.keys.join(", ")),
        };
        let message = format!("a {} has no `{name}`; it is ignored", shape.what);
        diagnostics.push(Diagnostic::warning(key.span, message).help(help));
    }
    for (name, _, value) in map.named() {
        let Some(holds) = holds(shape.what, name).filter(|h| !h.fits(value)) else { continue };
        // Never the value: it may be a password.
        let message = format!("the `{name}` of a {} is {}, not {}", shape.what, value.kind(), holds.words());
        let d = Diagnostic::error(value.span, message);
        diagnostics.push(if holds == Holds::Text { d.help("quote it") } else { d });
    }
}

/// Keys of Pigsty's dialect whose effect is yet to come: each that is used is said, once an inventory.
const PLANNED: &[(&str, &[&str])] = &[
    ("user", &["expire_in", "search_path"]),
    (
        "database",
        &[
            "strategy",
            "locale_provider",
            "icu_locale",
            "icu_rules",
            "builtin_locale",
            "is_template",
            "allowconn",
            "revokeconn",
            "schemas",
            "extensions",
            "baseline",
            "register_datasource",
        ],
    ),
];

fn planned(shape: &Shape, map: &Map, diagnostics: &mut Vec<Diagnostic>) {
    let Some((what, keys)) = PLANNED.iter().find(|(what, _)| *what == shape.what) else { return };
    for (name, key, _) in map.named().filter(|(name, ..)| keys.contains(name)) {
        let message = format!("`{name}` of a {what} has no effect yet");
        if !diagnostics.iter().any(|d| d.message == message) {
            diagnostics
                .push(Diagnostic::warning(key.span, message).help("it is planned; until then do it by hand"));
        }
    }
}

fn state(shape: &Shape, map: &Map, diagnostics: &mut Vec<Diagnostic>) {
    let Some(value) = map.get("state").filter(|value| !value.is_null() && !shape.states.is_empty()) else {
        return;
    };
    if value.as_str().is_some_and(|word| shape.states.contains(&word) || word.contains("{{")) {
        return;
    }
    let message = format!("the `state` of a {} is one of {}", shape.what, shape.states.join(", "));
    diagnostics.push(Diagnostic::error(value.span, message));
}
