//! Resources: one file a kind. A kind is a pure function of what was observed: it says what to look
//! at ([`Kind::queries`]) and, given the answers, what differs and how to change it ([`Kind::diff`]).
//!
//! `plan` and `deploy` run the same `diff`; no mutation has a hand-written dry run.

pub mod backrest;
pub mod block;
pub mod command;
pub mod database;
pub mod directory;
pub mod etcd;
pub mod file;
pub mod link;
pub mod observe;
pub mod package;
pub mod patroni;
pub mod role;
pub mod service;
mod sql;
pub mod sysctl;
pub mod user;
pub mod wait;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

pub use observe::{Observed, PathKind, PathState, Query, UnitState};
pub use wait::Wait;

use serde::Serialize;
use serde_json::Value;

use crate::live::Live;
use crate::text::suggest::nearest;

/// One resource of one node, after its templates are rendered.
pub trait Kind: Debug + Send + Sync {
    /// Kind and name, as plans and errors show it: `file /etc/hosts`.
    fn id(&self) -> String;
    /// What must be looked at to decide.
    fn queries(&self) -> Vec<Query>;
    /// What differs. Pure.
    fn diff(&self, seen: &Seen<'_>) -> Diff;
    /// The file that it puts, for `render`.
    fn file(&self) -> Option<&file::File> {
        None
    }
}

/// Everything that a diff may look at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub observed: &'a Observed,
    /// What earlier resources of this plan will have changed on this node by then.
    pub pending: &'a Pending,
    pub live: &'a Live,
    /// The member that leads the node's cluster, as any reachable member sees it.
    pub leader: Option<&'a str>,
}

/// What earlier resources of a plan will have changed on a node.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    /// Path → sha256 of its content afterwards.
    pub paths: HashMap<String, String>,
    /// Packages that will have been installed or upgraded.
    pub packages: HashSet<String>,
    /// Units that will have been started or restarted.
    pub started: HashSet<String>,
}

impl Pending {
    /// Remembers what `change` will have done.
    pub fn add(&mut self, change: &Change) {
        self.paths.extend(change.puts.iter().cloned());
        self.packages.extend(change.installs.iter().cloned());
        self.started.extend(change.starts.iter().chain(&change.restarts).cloned());
    }
}

/// What a diff says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diff {
    Same,
    Change(Change),
    /// It can only be seen after an earlier stage has run; `predicted` is what a blank node needs.
    Unknown {
        cause: String,
        predicted: Change,
    },
    /// Not a change: something to wait for before going on.
    Wait(Wait),
    /// Cannot be converged here, and is no failure: it is said, not done.
    Note(String),
    /// The observation itself failed, or what is there must not be changed.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Create,
    Update,
    Restart,
    Run,
}

impl Verdict {
    /// The mark in front of a plan's line.
    pub fn mark(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Restart => '!',
            Self::Run => '>',
        }
    }
}

/// One change: what, why, and exactly how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub verdict: Verdict,
    /// Short words: `missing`, `content differs (+1 -1)`.
    pub reason: String,
    /// Unified diff of the content, where there is one to show. Never of a secret.
    pub diff: Option<String>,
    pub actions: Vec<Action>,
    /// The unit whose processes this restarts.
    pub restarts: Option<String>,
    /// Files that will have this sha256 afterwards.
    pub puts: Vec<(String, String)>,
    pub installs: Vec<String>,
    pub starts: Vec<String>,
}

impl Change {
    pub fn new(verdict: Verdict, reason: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: reason.into(),
            diff: None,
            actions: vec![Action::Shell(action.into())],
            restarts: None,
            puts: Vec::new(),
            installs: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Whether it stops `PostgreSQL` on the node for a while.
    pub fn interrupts_postgres(&self) -> bool {
        self.restarts.as_deref().is_some_and(|u| matches!(u, "patroni" | "postgresql"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A script for the node's `sh`; fails by its exit code.
    Shell(String),
    Wait(Wait),
}

/// Kinds by the word that a playbook uses, with the reader of their arguments.
type Reader = fn(Value) -> Result<Arc<dyn Kind>, serde_json::Error>;

fn read<K: Kind + for<'de> serde::Deserialize<'de> + 'static>(
    args: Value,
) -> Result<Arc<dyn Kind>, serde_json::Error> {
    Ok(Arc::new(serde_json::from_value::<K>(args)?))
}

/// The closed set of kinds. `template` is read by the planner, which renders it into a file.
pub const KINDS: &[(&str, Reader)] = &[
    ("package", read::<package::Package>),
    ("user", read::<user::User>),
    ("group", read::<user::Group>),
    ("directory", read::<directory::Directory>),
    ("file", read::<file::File>),
    ("template", read::<file::File>),
    ("link", read::<link::Link>),
    ("block", read::<block::Block>),
    ("service", read::<service::Service>),
    ("sysctl", read::<sysctl::Sysctl>),
    ("command", read::<command::Command>),
    ("wait", read::<wait::WaitFor>),
    ("etcd_member", read::<etcd::Member>),
    ("patroni_bootstrap", read::<patroni::Bootstrap>),
    ("pg_role", read::<role::Role>),
    ("pg_database", read::<database::Database>),
    ("pgbackrest_stanza", read::<backrest::Stanza>),
    ("pgbackrest_backup", read::<backrest::Backup>),
];

/// Makes a resource of `kind` from rendered arguments.
pub fn make(kind: &str, args: Value) -> Result<Arc<dyn Kind>, String> {
    let Some((_, reader)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        let hint = did_you_mean(kind, KINDS.iter().map(|(name, _)| *name));
        return Err(format!("unknown kind `{kind}`{hint}"));
    };
    reader(args).map_err(|e| {
        let message = e.to_string();
        // serde names the unknown argument first and the known ones behind it.
        match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
            Some((typed, known)) => {
                let hint = did_you_mean(typed, known.split('`').skip(1).step_by(2));
                format!("{kind} has no `{typed}`{known}{hint}")
            }
            None => without_value(&message),
        }
    })
}

/// serde repeats the value that does not fit, and it may be a password: only what it is remains.
fn without_value(message: &str) -> String {
    let misfit = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match misfit.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => {
            let found = found.split(['`', '"']).next().unwrap_or_default().trim_end();
            let expected = match expected {
                "u16" => "a whole number up to 65535",
                "u32" | "u64" | "i64" => "a whole number",
                _ if expected.starts_with("struct ") => "a mapping",
                other => other,
            };
            format!("needs {expected}, not {found}")
        }
        None => message.to_owned(),
    }
}

fn did_you_mean<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, words).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// `default = "yes"` of serde.
fn yes() -> bool {
    true
}

fn root() -> String {
    "root".to_owned()
}

/// A path argument: absolute, and without characters that would break the probe's lines.
fn path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde::Deserialize as _;
    let path = String::deserialize(deserializer)?;
    check_path(&path).map_err(serde::de::Error::custom)?;
    Ok(path)
}

fn optional_path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    path(deserializer).map(Some)
}

fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("path `{path}` is not absolute"));
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err(format!("path `{}` holds a control character or a backslash", path.escape_debug()));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("path `{path}` holds `..`"));
    }
    Ok(())
}

/// `"0640"` as bits.
fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    use serde::Deserialize as _;
    match Value::deserialize(deserializer)? {
        Value::String(s) if (3..=4).contains(&s.len()) => u32::from_str_radix(&s, 8)
            .map_err(|_| serde::de::Error::custom(format!("mode `{s}` is not octal digits"))),
        other => Err(serde::de::Error::custom(format!(
            "mode {other} must be a quoted string of 3 or 4 octal digits, such as \"0640\""
        ))),
    }
}

/// A name that goes into lists of users, groups, packages or units: no white space, no option.
fn name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde::Deserialize as _;
    let name = String::deserialize(deserializer)?;
    check_name(&name).map_err(serde::de::Error::custom)?;
    Ok(name)
}

fn names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    use serde::Deserialize as _;
    let names = Vec::<String>::deserialize(deserializer)?;
    for name in &names {
        check_name(name).map_err(serde::de::Error::custom)?;
    }
    Ok(names)
}

fn check_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_-.+:@=~/".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(fine) {
        return Err(format!("`{}` is not a name", name.escape_debug()));
    }
    Ok(())
}

/// Names joined for a plan's line, at most four spelled out.
fn short_list(names: &[String]) -> String {
    let shown = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(4) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
