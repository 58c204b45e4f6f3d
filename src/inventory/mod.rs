//! The inventory: hosts, groups and variables, with the place that set each of them.
//!
//! Reads Ansible's YAML inventories as Pigsty writes them. A variable is looked up, strongest first:
//! `-e`, host, groups (children before parents; among equals the alphabetically last), `all.vars`,
//! the parameter's default. Values are replaced whole, never merged.

mod merge;
pub mod parameters;
mod placeholder;
mod read;

use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;

use crate::text::diagnostic::{Diagnostic, Severity, Sources, Span};

/// Everything the inventory says.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// As the user typed it.
    pub path: String,
    /// In the order of the file.
    pub hosts: IndexMap<String, Host>,
    /// In the order of the file, `all` first.
    pub groups: IndexMap<String, Group>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub name: String,
    /// The first place that names it.
    pub span: Span,
    /// Every group the host is in, weakest first, without `all`.
    pub groups: Vec<String>,
    /// The merged result, defaults included.
    pub vars: Vars,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub name: String,
    /// The first place that names it.
    pub span: Span,
    pub parents: Vec<String>,
    pub children: Vec<String>,
    /// Hosts named by the group itself.
    pub hosts: Vec<String>,
    /// Variables set by the group itself.
    pub vars: Vars,
}

pub type Vars = IndexMap<String, Var>;

#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    pub value: Value,
    /// Where the value was written; `None` for defaults and the command line.
    pub span: Option<Span>,
    pub level: Level,
}

/// What set a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    Default,
    /// `all.vars`
    Global,
    Group(String),
    Host,
    /// `-e` on the command line.
    Extra,
}

impl Inventory {
    /// Names of the hosts of a group and of its children, in the order of the inventory.
    pub fn members(&self, group: &str) -> Vec<&str> {
        let inside = |host: &&Host| group == "all" || host.groups.iter().any(|g| g == group);
        self.hosts.values().filter(inside).map(|host| host.name.as_str()).collect()
    }
}

/// Loads an inventory; with it, the warnings.
///
/// # Errors
/// Every problem found, sorted by position: the file, its YAML, its shape, values that do not fit.
pub fn load(
    sources: &mut Sources,
    path: &Path,
    extra: &[(String, Value)],
) -> Result<(Inventory, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (inventory, diagnostics) = load_all(sources, path, extra);
    match inventory {
        Some(inventory) if diagnostics.iter().all(|d| d.severity == Severity::Warning) => {
            Ok((inventory, diagnostics))
        }
        _ => Err(diagnostics),
    }
}

/// As [`load`], but gives the inventory even when values in it are wrong, so that more can be checked
/// before the user is told; `None` when the file could not be read or has not the shape of an inventory.
pub fn load_all(
    sources: &mut Sources,
    path: &Path,
    extra: &[(String, Value)],
) -> (Option<Inventory>, Vec<Diagnostic>) {
    let (draft, mut diagnostics) = read::read(sources, path, extra);
    let inventory = draft.map(|draft| merge::merge(draft, &mut diagnostics));
    sort(&mut diagnostics);
    (inventory, diagnostics)
}

/// By position; messages about the whole come first.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| a.span.cmp(&b.span).then(a.severity.cmp(&b.severity)));
}

#[cfg(test)]
mod tests;
