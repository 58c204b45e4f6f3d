//! Playbooks: ordered stages of resources, as data. Order and content can be read and changed by a
//! DBA who knows no Rust; meaning lives in the kinds.

use crate::template::Assets;
use crate::text::diagnostic::{Diagnostic, Sources, Span};
use crate::text::suggest::nearest;
use crate::text::yaml::{self, Data, Map, Yaml};

/// The nodes that a stage runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    All,
    PgCluster,
    Etcd,
    Infra,
    /// The member that leads the cluster: Patroni's word, or the inventory's before there is a cluster.
    Leader,
    /// The other members.
    Replicas,
}

/// In what order the nodes of one cluster take their turn within a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Parallel,
    Serial,
    PrimaryFirst,
    LeaderLast,
}

const ON: &[(&str, On)] = &[
    ("all", On::All),
    ("pg_cluster", On::PgCluster),
    ("etcd", On::Etcd),
    ("infra", On::Infra),
    ("leader", On::Leader),
    ("replicas", On::Replicas),
];

const ORDER: &[(&str, Order)] = &[
    ("parallel", Order::Parallel),
    ("serial", Order::Serial),
    ("primary_first", Order::PrimaryFirst),
    ("leader_last", Order::LeaderLast),
];

#[derive(Debug, Clone)]
pub struct Playbook {
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone)]
pub struct Stage {
    pub name: String,
    pub on: On,
    pub order: Order,
    /// Its resources can only be observed after this stage has run.
    pub after: Option<String>,
    pub entries: Vec<Entry>,
}

/// One resource as written, before its strings are rendered.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: String,
    pub args: Yaml,
    pub when: Option<String>,
    pub for_each: Option<String>,
    pub span: Span,
}

impl Playbook {
    /// Reads the playbook `name` and what it includes; everything wrong at once. `kinds` are the words
    /// that name a kind of resource.
    pub fn load(
        sources: &mut Sources,
        assets: &Assets,
        name: &str,
        kinds: &[&str],
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut reader = Reader { sources, assets, kinds, stages: Vec::new(), errors: Vec::new() };
        reader.file(name, None, 0);
        let Reader { stages, mut errors, .. } = reader;
        let names: Vec<&str> = stages.iter().map(|(s, _): &(Stage, Span)| s.name.as_str()).collect();
        for (i, (stage, span)) in stages.iter().enumerate() {
            if let Some((_, first)) = stages[..i].iter().find(|(s, _)| s.name == stage.name) {
                errors.push(
                    Diagnostic::error(*span, format!("stage `{}` is there twice", stage.name))
                        .also(*first, "first here"),
                );
            }
            if let Some(after) = stage.after.as_deref().filter(|a| !names[..i].contains(a)) {
                errors.push(Diagnostic::error(*span, format!("`after: {after}` names no earlier stage")));
            }
        }
        if errors.is_empty() {
            Ok(Self { stages: stages.into_iter().map(|(s, _)| s).collect() })
        } else {
            Err(errors)
        }
    }
}

struct Reader<'a> {
    sources: &'a mut Sources,
    assets: &'a Assets,
    kinds: &'a [&'a str],
    stages: Vec<(Stage, Span)>,
    errors: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn file(&mut self, name: &str, from: Option<Span>, depth: usize) {
        let Some(text) = self.assets.playbook(name) else {
            self.errors.push(Diagnostic::error(from, format!("there is no playbook `{name}`")));
            return;
        };
        if depth > 8 {
            self.errors.push(Diagnostic::error(from, "playbooks include each other too deeply"));
            return;
        }
        let file = self.sources.add(format!("playbooks/{name}"), text);
        let (root, _) = match yaml::load_words(self.sources, file) {
            Ok(loaded) => loaded,
            Err(errors) => return self.errors.extend(errors),
        };
        let Some(map) = self.map(&root, "a playbook", &["format", "name", "stages"]) else { return };
        match map.get("format").map(|f| &f.data) {
            Some(Data::Int(1)) => {}
            _ => self.errors.push(Diagnostic::error(root.span, "a playbook starts with `format: 1`")),
        }
        let Some(Data::Seq(stages)) = map.get("stages").map(|s| s.data.clone()) else {
            self.errors.push(Diagnostic::error(root.span, "a playbook needs a list of `stages`"));
            return;
        };
        for stage in &stages {
            self.stage(stage, depth);
        }
    }

    fn stage(&mut self, yaml: &Yaml, depth: usize) {
        if let Data::Map(map) = &yaml.data
            && let Some(include) = map.get("include")
        {
            match &include.data {
                Data::Str(name) if map.iter().count() == 1 => self.file(name, Some(include.span), depth + 1),
                _ => {
                    self.errors
                        .push(Diagnostic::error(yaml.span, "`include` takes a playbook's name, alone"));
                }
            }
            return;
        }
        let known = ["stage", "on", "order", "after", "resources"];
        let Some(map) = self.map(yaml, "a stage", &known) else { return };
        let Some(name) = self.string(&map, "stage", yaml.span) else { return };
        let on = self.word(&map, "on", ON);
        let order = self.word(&map, "order", ORDER).unwrap_or(Order::Parallel);
        let after =
            map.get("after").and_then(|a| if let Data::Str(s) = &a.data { Some(s.clone()) } else { None });
        let Some(on) = on else {
            if map.get("on").is_none() {
                self.errors.push(Diagnostic::error(yaml.span, format!("stage `{name}` needs `on`")));
            }
            return;
        };
        let mut entries = Vec::new();
        match map.get("resources").map(|r| r.data.clone()) {
            Some(Data::Seq(items)) => entries.extend(items.iter().filter_map(|i| self.entry(i))),
            _ => self.errors.push(Diagnostic::error(yaml.span, format!("stage `{name}` needs `resources`"))),
        }
        self.stages.push((Stage { name, on, order, after, entries }, yaml.span));
    }

    fn entry(&mut self, yaml: &Yaml) -> Option<Entry> {
        let Data::Map(map) = &yaml.data else {
            self.errors.push(Diagnostic::error(yaml.span, "a resource is a mapping such as `file: {…}`"));
            return None;
        };
        let mut found: Option<(String, Yaml)> = None;
        for (key, value) in map.iter() {
            let Data::Str(word) = &key.data else { continue };
            if word == "when" || word == "for_each" {
                continue;
            }
            if !self.kinds.contains(&word.as_str()) {
                let mut d = Diagnostic::error(key.span, format!("`{word}` is no kind of resource"));
                if let Some(near) = nearest(word, self.kinds.iter().copied().chain(["when", "for_each"])) {
                    d = d.help(format!("did you mean `{near}`?"));
                }
                self.errors.push(d);
                return None;
            }
            if let Some((first, _)) = &found {
                let message = format!("one resource, one kind: `{first}` and `{word}`");
                self.errors.push(Diagnostic::error(key.span, message));
                return None;
            }
            found = Some((word.clone(), value.clone()));
        }
        let Some((kind, args)) = found else {
            self.errors.push(Diagnostic::error(yaml.span, "a resource needs a kind"));
            return None;
        };
        if let (true, Data::Map(map)) = (kind == "command", &args.data)
            && map.get("unless").is_none()
            && map.get("creates").is_none()
        {
            let d = Diagnostic::error(yaml.span, "a `command` needs `unless` or `creates`")
                .help("say when there is nothing to do, so that a second run changes nothing");
            self.errors.push(d);
        }
        let text = |key: &str| match map.get(key).map(|v| &v.data) {
            Some(Data::Str(s)) => Some(s.clone()),
            Some(Data::Bool(b)) => Some(b.to_string()),
            _ => None,
        };
        Some(Entry { kind, args, when: text("when"), for_each: text("for_each"), span: yaml.span })
    }

    fn map(&mut self, yaml: &Yaml, what: &str, known: &[&str]) -> Option<Map> {
        let Data::Map(map) = &yaml.data else {
            self.errors.push(Diagnostic::error(yaml.span, format!("{what} is a mapping")));
            return None;
        };
        for (key, _) in map.iter() {
            let word = if let Data::Str(s) = &key.data { s.as_str() } else { "?" };
            if !known.contains(&word) {
                let mut d = Diagnostic::error(key.span, format!("{what} has no `{word}`"));
                if let Some(near) = nearest(word, known.iter().copied()) {
                    d = d.help(format!("did you mean `{near}`?"));
                }
                self.errors.push(d);
            }
        }
        Some(map.clone())
    }

    fn string(&mut self, map: &Map, key: &str, span: Span) -> Option<String> {
        match map.get(key).map(|v| &v.data) {
            Some(Data::Str(s)) => Some(s.clone()),
            _ => {
                self.errors.push(Diagnostic::error(span, format!("`{key}` must be a name")));
                None
            }
        }
    }

    /// One of a list of words; a wrong one is an error, an absent one is `None`.
    fn word<T: Copy>(&mut self, map: &Map, key: &str, words: &[(&str, T)]) -> Option<T> {
        let value = map.get(key)?;
        let typed = if let Data::Str(s) = &value.data { s.as_str() } else { "?" };
        let found = words.iter().find(|(w, _)| *w == typed).map(|(_, t)| *t);
        if found.is_none() {
            let list = words.iter().map(|(w, _)| *w).collect::<Vec<_>>();
            let mut d =
                Diagnostic::error(value.span, format!("`{key}: {typed}` is none of {}", list.join(", ")));
            if let Some(near) = nearest(typed, list.iter().copied()) {
                d = d.help(format!("did you mean `{near}`?"));
            }
            self.errors.push(d);
        }
        found
    }
}
