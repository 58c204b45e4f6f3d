//! From YAML to groups, hosts and their own variables, before precedence.

use std::collections::HashSet;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;

use super::parameters::{self, Support, Type};
use super::{Group, Level, Var, Vars, objects};
use crate::text::diagnostic::{Diagnostic, Severity, Sources, Span};
use crate::text::suggest;
use crate::text::yaml::{self, Data, Map, Yaml};

/// What the file says, not merged yet.
pub(super) struct Draft {
    pub(super) path: String,
    pub(super) groups: IndexMap<String, Group>,
    /// Each host with the place of its name and its own variables.
    pub(super) hosts: IndexMap<String, (Span, Vars)>,
    pub(super) extra: Vars,
}

struct Reader<'a> {
    draft: Draft,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// Names that a warning was given for.
    warned: HashSet<String>,
}

pub(super) fn read(
    sources: &mut Sources,
    path: &Path,
    extra: &[(String, Value)],
) -> (Option<Draft>, Vec<Diagnostic>) {
    let document = match document(sources, path) {
        Ok(found) => found,
        Err(errors) => return (None, errors),
    };
    let (document, mut diagnostics) = document;
    let root = match root(&document) {
        Ok(root) => root,
        Err(error) => {
            diagnostics.push(*error);
            return (None, diagnostics);
        }
    };
    let draft = Draft {
        path: path.display().to_string(),
        groups: IndexMap::new(),
        hosts: IndexMap::new(),
        extra: Vars::new(),
    };
    let mut reader = Reader { draft, diagnostics: &mut diagnostics, warned: HashSet::new() };
    for (name, key, _) in root.named().filter(|(name, ..)| *name != "all") {
        let message = format!("`{name}` stands beside `all`");
        reader.diagnostics.push(
            Diagnostic::error(key.span, message)
                .label("not a part of an inventory")
                .help("groups belong under `all.children`, variables of all hosts under `all.vars`"),
        );
    }
    if let Some((key, value)) = root.entry("all") {
        reader.group("all", key.span, value, None);
    }
    for (name, value) in extra {
        reader.variable(name, None, value.clone(), Level::Extra);
    }
    let draft = reader.draft;
    if let Some(cycle) = cycle(&draft.groups) {
        diagnostics.push(
            Diagnostic::error(cycle.span, format!("the group `{}` contains itself", cycle.name))
                .label("by its children"),
        );
        return (None, diagnostics);
    }
    (Some(draft), diagnostics)
}

type Document = (Yaml, Vec<Diagnostic>);

fn document(sources: &mut Sources, path: &Path) -> Result<Document, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let failed = |message: String, help: Option<String>| {
        let mut diagnostic = Diagnostic::error(None, message);
        diagnostic.help = help;
        vec![diagnostic]
    };
    let metadata = std::fs::metadata(path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            failed(format!("no such file: `{name}`"), Some(near(path)))
        } else {
            failed(format!("cannot read `{name}`: {e}"), None)
        }
    })?;
    if metadata.is_dir() {
        return Err(failed(
            format!("`{name}` is a directory, not an inventory"),
            Some(near(&path.join("pgctl.yml"))),
        ));
    }
    if metadata.len() > yaml::MAX_BYTES as u64 {
        return Err(failed(format!("`{name}` is larger than {} MiB", yaml::MAX_BYTES >> 20), None));
    }
    let file = sources.read(path).map_err(|e| failed(format!("cannot read `{name}`: {e}"), None))?;
    yaml::load(sources, file)
}

/// What the user may have meant by a path that does not exist.
fn near(path: &Path) -> String {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return format!("there is no directory `{}` either", directory.display());
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("yml") || e.eq_ignore_ascii_case("yaml"))
        })
        .collect();
    names.sort();
    let typed = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let shown = |name: &str| path.with_file_name(name).display().to_string();
    if let Some(name) = suggest::nearest(typed, names.iter().map(String::as_str)) {
        return format!("did you mean `{}`?", shown(name));
    }
    let list: Vec<String> = names.iter().take(5).map(|name| format!("`{}`", shown(name))).collect();
    if list.is_empty() {
        return "there is no .yml file in that directory; `inventories/` in the repository has some to copy"
            .to_owned();
    }
    format!("in that directory: {}", list.join(", "))
}

const START: &str = "an inventory starts with `all:` and has `children:` and `vars:` under it; `inventories/` in the repository has some to copy";

fn root(document: &Yaml) -> Result<&Map, Box<Diagnostic>> {
    match &document.data {
        Data::Null => Err(Box::new(Diagnostic::error(document.span, "the inventory is empty").help(START))),
        Data::Map(map) if map.get("all").is_some() => Ok(map),
        Data::Map(map) => {
            let first = map.iter().next().map_or(document.span, |(key, _)| key.span);
            let slip = map.named().find(|(name, ..)| suggest::nearest(name, ["all"]).is_some());
            let help = match slip {
                Some((name, ..)) => format!("did you mean `all` instead of `{name}`?"),
                None => START.to_owned(),
            };
            let span = slip.map_or(first, |(_, key, _)| key.span);
            Err(Box::new(Diagnostic::error(span, "the inventory has no `all`").help(help)))
        }
        Data::Seq(items) => {
            let play = |item: &Yaml| {
                item.as_map().is_some_and(|m| m.get("tasks").is_some() || m.get("roles").is_some())
            };
            let help = if items.iter().any(play) {
                "this is an Ansible playbook; give the inventory"
            } else {
                START
            };
            let span = items.first().map_or(document.span, |item| item.span);
            Err(Box::new(Diagnostic::error(span, "an inventory is a map, not a list").help(help)))
        }
        _ => {
            let message = format!("an inventory is a map, not {}", document.kind());
            Err(Box::new(Diagnostic::error(document.span, message).help(START)))
        }
    }
}

/// A group that is its own ancestor.
fn cycle(groups: &IndexMap<String, Group>) -> Option<&Group> {
    // Groups are removed once all their parents are; what cannot be removed is, or hangs on, a cycle.
    let mut left: IndexMap<&str, &Group> =
        groups.iter().map(|(name, group)| (name.as_str(), group)).collect();
    loop {
        let before = left.len();
        let free: Vec<&str> = left
            .values()
            .filter(|g| g.parents.iter().all(|p| !left.contains_key(p.as_str())))
            .map(|g| g.name.as_str())
            .collect();
        left.retain(|name, _| !free.contains(name));
        if left.is_empty() {
            return None;
        }
        if left.len() == before {
            return left.values().next().copied();
        }
    }
}

impl Reader<'_> {
    fn group(&mut self, name: &str, span: Span, value: &Yaml, parent: Option<&str>) {
        let group = self.draft.groups.entry(name.to_owned()).or_insert_with(|| Group {
            name: name.to_owned(),
            span,
            parents: Vec::new(),
            children: Vec::new(),
            hosts: Vec::new(),
            vars: Vars::new(),
        });
        if let Some(parent) = parent {
            if !group.parents.iter().any(|p| p == parent) {
                group.parents.push(parent.to_owned());
            }
            if let Some(above) = self.draft.groups.get_mut(parent)
                && !above.children.iter().any(|c| c == name)
            {
                above.children.push(name.to_owned());
            }
        }
        let parts = match &value.data {
            Data::Null => return,
            Data::Map(map) => map,
            _ => {
                let message = format!("the group `{name}` is {}, not a map", value.kind());
                self.diagnostics.push(
                    Diagnostic::error(value.span, message)
                        .help("a group has `hosts:`, `vars:` and `children:`"),
                );
                return;
            }
        };
        for (part, key, value) in parts.named() {
            match part {
                "hosts" => {
                    for (host, key, value) in self.section(name, part, value) {
                        self.host(name, host, key.span, value);
                    }
                }
                "vars" => {
                    let level = if name == "all" { Level::Global } else { Level::Group(name.to_owned()) };
                    for (variable, key, value) in self.section(name, part, value) {
                        let Some(var) = self.define(variable, key, value, level.clone()) else { continue };
                        if let Some(group) = self.draft.groups.get_mut(name) {
                            group.vars.insert(variable.to_owned(), var);
                        }
                    }
                }
                "children" => {
                    for (child, key, value) in self.section(name, part, value) {
                        if child == "all" {
                            let message = "`all` cannot be a child: it contains every group";
                            self.diagnostics.push(Diagnostic::error(key.span, message));
                        } else {
                            self.group(child, key.span, value, Some(name));
                        }
                    }
                }
                _ => {
                    let help = if let Some(word) = suggest::nearest(part, ["hosts", "vars", "children"]) {
                        format!("did you mean `{word}`?")
                    } else if parameters::lookup(part).is_some() {
                        format!("variables of a group belong under `vars:`; move `{part}` there")
                    } else {
                        "a group has `hosts:`, `vars:` and `children:`".to_owned()
                    };
                    let message = format!("`{part}` is not a part of the group `{name}`");
                    self.diagnostics.push(Diagnostic::error(key.span, message).help(help));
                }
            }
        }
    }

    /// The entries of `hosts:`, `vars:` or `children:`.
    fn section<'y>(
        &mut self,
        group: &str,
        part: &str,
        value: &'y Yaml,
    ) -> Vec<(&'y str, &'y Yaml, &'y Yaml)> {
        match &value.data {
            Data::Null => Vec::new(),
            Data::Map(map) => map.named().collect(),
            _ => {
                let message = format!("`{part}` of the group `{group}` is {}, not a map", value.kind());
                let example = match part {
                    "hosts" => "as in `hosts: { 10.10.10.10: { pg_seq: 1 } }`",
                    "vars" => "as in `vars: { pg_cluster: pg-test }`",
                    _ => "as in `children: { etcd: { hosts: … } }`",
                };
                self.diagnostics.push(Diagnostic::error(value.span, message).help(example));
                Vec::new()
            }
        }
    }

    fn host(&mut self, group: &str, name: &str, span: Span, value: &Yaml) {
        if let Some(group) = self.draft.groups.get_mut(group)
            && !group.hosts.iter().any(|h| h == name)
        {
            group.hosts.push(name.to_owned());
        }
        self.draft.hosts.entry(name.to_owned()).or_insert_with(|| (span, Vars::new()));
        let vars = match &value.data {
            Data::Null => return,
            Data::Map(map) => map,
            _ => {
                let message = format!("the host `{name}` is {}, not a map of variables", value.kind());
                self.diagnostics.push(
                    Diagnostic::error(value.span, message)
                        .help("as in `10.10.10.10: { pg_seq: 1, pg_role: primary }`"),
                );
                return;
            }
        };
        for (variable, key, value) in vars.named() {
            let Some(var) = self.define(variable, key, value, Level::Host) else { continue };
            let Some((_, own)) = self.draft.hosts.get_mut(name) else { continue };
            let first = own.get(variable).filter(|first| first.value != var.value);
            if let Some(place) = first.and_then(|first| first.span) {
                let identity = parameters::lookup(variable).is_some_and(|p| p.kind == Type::Identity);
                let message = format!("the host `{name}` gets two values of `{variable}`");
                let found = if identity {
                    Diagnostic::error(value.span, message)
                } else {
                    Diagnostic::warning(value.span, message)
                };
                self.diagnostics.push(
                    found.label("the second one, which wins").also(place, "the first one").help(
                        "a host has one set of variables, whatever groups name it: set it in one place",
                    ),
                );
            }
            own.insert(variable.to_owned(), var);
        }
    }

    /// A variable with its place, checked.
    fn define(&mut self, name: &str, key: &Yaml, value: &Yaml, level: Level) -> Option<Var> {
        if self.tags(name, value) {
            return None;
        }
        let before = self.diagnostics.len();
        let checked = self.check(name, Some(value.span), value.to_json());
        if let Some(named) = self.diagnostics.get_mut(before..) {
            // Warnings about the name point at the name.
            for diagnostic in named.iter_mut().filter(|d| d.severity == Severity::Warning) {
                diagnostic.span = Some(key.span);
            }
        }
        objects::check(name, value, self.diagnostics);
        Some(Var { value: checked, span: Some(value.span), level })
    }

    fn variable(&mut self, name: &str, span: Option<Span>, value: Value, level: Level) {
        let value = self.check(name, span, value);
        self.draft.extra.insert(name.to_owned(), Var { value, span, level });
    }

    /// Whether the value holds a tag that forbids using it.
    fn tags(&mut self, name: &str, value: &Yaml) -> bool {
        let bad = match value.tag.as_deref() {
            Some("!vault") => {
                self.diagnostics.push(
                    Diagnostic::error(value.span, format!("`{name}` is encrypted with Ansible Vault"))
                        .help("pgctl does not decrypt `!vault` values yet"),
                );
                true
            }
            Some(tag) if !tag.starts_with("!!") && !matches!(tag, "!unsafe" | "!") => {
                let message = format!("the tag `{tag}` of `{name}` is not known");
                self.diagnostics.push(Diagnostic::error(value.span, message).help("remove the tag"));
                true
            }
            _ => false,
        };
        let inside: Vec<&Yaml> = match &value.data {
            Data::Seq(items) => items.iter().collect(),
            Data::Map(map) => map.iter().map(|(_, item)| item).collect(),
            _ => Vec::new(),
        };
        // All of them, so that every bad tag is named.
        let inner = inside.into_iter().filter(|item| self.tags(name, item)).count() > 0;
        bad || inner
    }

    /// The value in its parameter's form. What is wrong or useless is noted.
    fn check(&mut self, name: &str, span: Option<Span>, value: Value) -> Value {
        let Some(parameter) = parameters::lookup(name) else {
            if self.warned.insert(name.to_owned()) {
                let help = match parameters::nearest(name) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => "nothing in pgctl reads it; your own templates may".to_owned(),
                };
                self.diagnostics
                    .push(Diagnostic::warning(span, format!("unknown parameter `{name}`")).help(help));
            }
            return value;
        };
        if has_jinja(&value) {
            if self.warned.insert(format!("{name}{{{{")) {
                self.diagnostics.push(
                    Diagnostic::warning(span, format!("`{name}` holds a Jinja expression"))
                        .help("Ansible would evaluate it; pgctl takes it as it is written"),
                );
            }
            return value;
        }
        if value.is_null() {
            return value;
        }
        let value = match parameters::check(parameter, value.clone()) {
            Ok(value) => value,
            Err(misfit) => {
                let severity = match (parameter.kind, parameter.support) {
                    // A word that is new to us, of a parameter that nothing reads, does no harm.
                    (Type::Enum, Support::Planned | Support::Accepted) => Severity::Warning,
                    _ => Severity::Error,
                };
                let message = match span {
                    Some(_) => misfit.message,
                    None => format!("{} (given by `-e`)", misfit.message),
                };
                let mut diagnostic = Diagnostic::error(span, message);
                diagnostic.severity = severity;
                diagnostic.help = misfit.help;
                self.diagnostics.push(diagnostic);
                return value;
            }
        };
        if let Some(why) = parameter.why_unused() {
            let default = parameter.default.as_ref().unwrap_or(&Value::Null);
            if !same(default, &value) && self.warned.insert(name.to_owned()) {
                let message = format!("`{name}` has no effect: {why}");
                self.diagnostics.push(Diagnostic::warning(span, message));
            }
        }
        value
    }
}

/// Equal but for the amount of white space in texts.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.split_whitespace().eq(b.split_whitespace()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

fn has_jinja(value: &Value) -> bool {
    match value {
        Value::String(s) => s.contains("{{") || s.contains("{%"),
        Value::Array(items) => items.iter().any(has_jinja),
        Value::Object(map) => map.values().any(has_jinja),
        _ => false,
    }
}
