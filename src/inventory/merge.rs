//! Precedence: from each level's own variables to one set for every host.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};
use serde_json::Value;

use super::read::Draft;
use super::{Group, Host, Inventory, Level, Var, parameters, placeholder};
use crate::text::diagnostic::Diagnostic;

pub(super) fn merge(draft: Draft, diagnostics: &mut Vec<Diagnostic>) -> Inventory {
    let Draft { path, groups, hosts: own, extra } = draft;
    let depths = depths(&groups);
    let mut hosts: IndexMap<String, Host> = own
        .iter()
        .map(|(name, (span, _))| {
            (
                name.clone(),
                Host { name: name.clone(), span: *span, groups: Vec::new(), vars: IndexMap::new() },
            )
        })
        .collect();
    for group in groups.values() {
        let above = ancestors(&groups, group);
        for host in &group.hosts {
            let Some(host) = hosts.get_mut(host) else { continue };
            let inside = std::iter::once(group.name.as_str()).chain(above.iter().copied());
            for name in inside.filter(|name| *name != "all") {
                if !host.groups.iter().any(|g| g == name) {
                    host.groups.push(name.to_owned());
                }
            }
        }
    }
    for host in hosts.values_mut() {
        host.groups.sort_by_cached_key(|name| rank(&groups, &depths, name));
        let from_groups = std::iter::once("all").chain(host.groups.iter().map(String::as_str));
        for group in from_groups.filter_map(|name| groups.get(name)) {
            overlay(&mut host.vars, &group.vars);
        }
        if let Some((_, vars)) = own.get(&host.name) {
            overlay(&mut host.vars, vars);
        }
        overlay(&mut host.vars, &extra);
        for parameter in parameters::iter() {
            let unset = host.vars.get(&parameter.name).is_none_or(|var| var.value.is_null());
            if let Some(default) = parameter.default.as_ref().filter(|_| unset) {
                let var = Var { value: default.clone(), span: None, level: Level::Default };
                host.vars.insert(parameter.name.clone(), var);
            }
        }
    }
    let mut inventory = Inventory { path, hosts, groups };
    placeholder::substitute(&mut inventory, diagnostics);
    inventory
}

fn overlay(below: &mut super::Vars, above: &super::Vars) {
    for (name, var) in above {
        below.insert(name.clone(), var.clone());
    }
}

/// Every group above a group.
fn ancestors<'g>(groups: &'g IndexMap<String, Group>, group: &'g Group) -> IndexSet<&'g str> {
    let mut found: IndexSet<&str> = group.parents.iter().map(String::as_str).collect();
    let mut next = 0;
    while let Some(name) = found.get_index(next).copied() {
        next += 1;
        found.extend(groups.get(name).into_iter().flat_map(|g| g.parents.iter().map(String::as_str)));
    }
    found
}

/// Longest way from `all` to each group. There are no cycles: the reader refuses them.
fn depths(groups: &IndexMap<String, Group>) -> HashMap<String, usize> {
    let mut depths: HashMap<String, usize> = groups.keys().map(|name| (name.clone(), 0)).collect();
    let mut changed = true;
    while changed {
        changed = false;
        for group in groups.values() {
            let depth = group.parents.iter().filter_map(|p| depths.get(p)).max().map_or(0, |d| d + 1);
            if depths.insert(group.name.clone(), depth) != Some(depth) {
                changed = true;
            }
        }
    }
    depths
}

/// Ansible's order of groups: depth, then `ansible_group_priority`, then name; the last one wins.
fn rank(
    groups: &IndexMap<String, Group>,
    depths: &HashMap<String, usize>,
    name: &str,
) -> (usize, i64, String) {
    let priority = groups
        .get(name)
        .and_then(|g| g.vars.get("ansible_group_priority"))
        .and_then(|var| match &var.value {
            Value::Number(n) => n.as_i64(),
            _ => None,
        })
        .unwrap_or(1);
    (depths.get(name).copied().unwrap_or(0), priority, name.to_owned())
}
