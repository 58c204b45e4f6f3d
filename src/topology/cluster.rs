//! `PostgreSQL` clusters and their instances, the etcd cluster and its members.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::node::{InstanceRef, Node};
use crate::inventory::{Inventory, Level};
use crate::text::diagnostic::{Diagnostic, Span};
use crate::text::suggest;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// `pg_cluster`: the Patroni scope and the pgBackRest stanza.
    pub name: String,
    /// Major version of `PostgreSQL`.
    pub version: u32,
    /// `pg_port`
    pub port: u16,
    /// Sorted by number; exactly one is the primary.
    pub instances: Vec<Instance>,
    /// Where `pg_cluster` is set.
    #[serde(skip)]
    pub span: Span,
}

impl Cluster {
    /// The instance that the inventory calls primary. It need not lead now: ask Patroni.
    pub fn primary(&self) -> &Instance {
        self.instances.iter().find(|i| i.role == Role::Primary).unwrap_or(&self.instances[0])
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// `<cluster>-<seq>`
    pub name: String,
    pub seq: u32,
    /// The role in the inventory.
    pub role: Role,
    pub address: String,
    /// `pg_offline_query`: also serves the offline service.
    pub offline_query: bool,
    /// Index into the topology's nodes.
    pub node: usize,
}

/// `pg_role`: the role at the start, and what HBA rules and services go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Replica,
    Standby,
    Offline,
    Delayed,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Primary, Self::Replica, Self::Standby, Self::Offline, Self::Delayed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Standby => "standby",
            Self::Offline => "offline",
            Self::Delayed => "delayed",
        }
    }

    /// The role of this name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EtcdCluster {
    /// `etcd_cluster`
    pub name: String,
    /// `etcd_port`
    pub port: u16,
    /// `etcd_peer_port`
    pub peer_port: u16,
    /// Sorted by number.
    pub members: Vec<EtcdMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdMember {
    /// `<cluster>-<seq>`
    pub name: String,
    pub seq: u32,
    pub address: String,
    /// Index into the topology's nodes.
    pub node: usize,
}

/// Finds the clusters, checks them, and tells the nodes which instance they hold.
pub(super) fn clusters(
    inventory: &Inventory,
    nodes: &mut [Node],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Cluster> {
    let mut drafts: IndexMap<String, Vec<Member>> = IndexMap::new();
    let mut bad_names = HashSet::new();
    for (index, node) in nodes.iter().enumerate() {
        two_groups(inventory, node, diagnostics);
        let Some(name) = cluster_name(node, &mut bad_names, diagnostics) else { continue };
        let seq =
            seq(node, "pg_seq", &format!("the instance of `{name}` on `{}`", node.address), diagnostics);
        let role = role(node, &name, diagnostics);
        drafts.entry(name).or_default().push(Member { node: index, seq, role });
    }
    let mut clusters = Vec::with_capacity(drafts.len());
    for (name, members) in drafts {
        clusters.push(cluster(inventory, name, &members, nodes, diagnostics));
    }
    for (c, cluster) in clusters.iter().enumerate() {
        for (i, instance) in cluster.instances.iter().enumerate() {
            nodes[instance.node].instance = Some(InstanceRef { cluster: c, instance: i });
        }
    }
    clusters
}

struct Member {
    node: usize,
    seq: Option<u32>,
    role: Option<Role>,
}

/// A host in two groups that each make it a member of a `PostgreSQL` cluster.
fn two_groups(inventory: &Inventory, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let direct = inventory.groups.values().filter(|g| g.hosts.contains(&node.address));
    let mut found: Vec<(&str, &Value, Span)> = Vec::new();
    for group in direct {
        if let Some(var) = group.vars.get("pg_cluster") {
            if let Some(span) = var.span {
                found.push((&group.name, &var.value, span));
            }
        }
    }
    if let [(one, _, first), (two, _, second), ..] = found[..] {
        let message =
            format!("the host `{}` is in two PostgreSQL clusters: groups `{one}` and `{two}`", node.address);
        diagnostics.push(
            Diagnostic::error(node.span, message)
                .label("this host")
                .also(first, "one cluster")
                .also(second, "the other cluster")
                .help("one node runs one instance; remove the host from one of the groups"),
        );
    }
}

/// The cluster a node belongs to. A node of the inventory's global `pg_cluster` that has no other
/// sign of an instance belongs to none.
fn cluster_name(
    node: &Node,
    bad: &mut HashSet<Option<Span>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<String> {
    let sign = ["pg_seq", "pg_role"].into_iter().find(|name| !node.var(name).is_null());
    let Some(var) = node.vars.get("pg_cluster").filter(|var| !var.value.is_null()) else {
        if let Some(sign) = sign {
            diagnostics.push(
                Diagnostic::error(
                    node.place(sign),
                    format!("`{}` has `{sign}` but no `pg_cluster`", node.address),
                )
                .help("set `pg_cluster` under the `vars:` of its group"),
            );
        }
        return None;
    };
    if sign.is_none() && matches!(var.level, Level::Global | Level::Extra) {
        return None;
    }
    let problem = match &var.value {
        Value::String(name) if name == "root" => {
            Some(("`pg_cluster` cannot be `root`".to_owned(), "etcd has a user of that name"))
        }
        Value::String(name) if is_cluster_name(name) => None,
        Value::String(name) => Some((
            format!("`{name}` cannot be the name of a cluster"),
            "use letters, digits and `-`, as in `pg-test`; it becomes part of host names and paths",
        )),
        _ => Some((
            "`pg_cluster` is not text".to_owned(),
            "quote the name, and use letters, digits and `-`, as in `pg-test`",
        )),
    };
    if let Some((message, help)) = problem {
        if bad.insert(var.span) {
            diagnostics.push(Diagnostic::error(node.place("pg_cluster"), message).help(help));
        }
        return None;
    }
    var.value.as_str().map(str::to_owned)
}

/// Letters, digits and `-`, neither first nor last a `-`: the name becomes a host name and a file name.
fn is_cluster_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A number of a member, from an integer or its digits.
fn seq(node: &Node, name: &str, whose: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<u32> {
    let number = match node.var(name) {
        Value::Null => {
            diagnostics.push(
                Diagnostic::error(node.span, format!("{whose} has no `{name}`"))
                    .label("this host")
                    .help(format!("give it a number that no other member has, as in `{{ {name}: 1 }}`")),
            );
            return None;
        }
        Value::Number(n) => n.as_u64().and_then(|n| u32::try_from(n).ok()),
        Value::String(s) if s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
        _ => None,
    };
    if number.is_none() {
        let message = format!("`{name}` of `{}` is not a whole number from 0", node.address);
        diagnostics.push(Diagnostic::error(node.place(name), message));
    }
    number
}

fn role(node: &Node, cluster: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Role> {
    let words = Role::ALL.map(Role::as_str);
    let allowed = words.join(", ");
    match node.var("pg_role") {
        Value::Null => {
            let message = format!("the instance of `{cluster}` on `{}` has no `pg_role`", node.address);
            diagnostics.push(
                Diagnostic::error(node.span, message).label("this host").help(format!("one of {allowed}")),
            );
            None
        }
        Value::String(word) => {
            let role = Role::parse(word);
            if role.is_none() {
                let help = match suggest::nearest(&word.to_ascii_lowercase(), words) {
                    Some(near) => format!("did you mean `{near}`? (allowed: {allowed})"),
                    None if matches!(word.as_str(), "master" | "leader") => {
                        format!("did you mean `primary`? (allowed: {allowed})")
                    }
                    None if word == "slave" => format!("did you mean `replica`? (allowed: {allowed})"),
                    None => format!("allowed: {allowed}"),
                };
                diagnostics.push(
                    Diagnostic::error(node.place("pg_role"), format!("`{word}` is not a role"))
                        .label("not a role")
                        .help(help),
                );
            }
            role
        }
        _ => {
            let message = format!("`pg_role` of `{}` is not a word", node.address);
            diagnostics
                .push(Diagnostic::error(node.place("pg_role"), message).help(format!("one of {allowed}")));
            None
        }
    }
}

fn cluster(
    inventory: &Inventory,
    name: String,
    members: &[Member],
    nodes: &[Node],
    diagnostics: &mut Vec<Diagnostic>,
) -> Cluster {
    let first = &nodes[members[0].node];
    let span = first.place("pg_cluster");
    let mut numbers: IndexMap<u32, &Node> = IndexMap::new();
    for member in members {
        let Some(seq) = member.seq else { continue };
        let node = &nodes[member.node];
        if let Some(other) = numbers.get(&seq) {
            diagnostics.push(
                Diagnostic::error(
                    node.place("pg_seq"),
                    format!("two instances of `{name}` have the number {seq}"),
                )
                .label(format!("on `{}`", node.address))
                .also(other.place("pg_seq"), format!("on `{}`", other.address))
                .help(format!("the next free number is {}", next_free(members))),
            );
        } else {
            numbers.insert(seq, node);
        }
    }
    one_primary(&name, span, members, nodes, diagnostics);
    same(&name, "pg_version", members, nodes, diagnostics);
    same(&name, "pg_port", members, nodes, diagnostics);
    upstreams(&name, members, nodes, diagnostics);
    group_name(inventory, &name, first, diagnostics);
    let version = first.u64_var("pg_version").and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
    if version.is_none() && first.vars.get("pg_version").is_some_and(|v| v.value.is_i64()) {
        let message = format!("`pg_version` of `{name}` is not a major version of PostgreSQL");
        diagnostics.push(Diagnostic::error(first.place("pg_version"), message).help("such as 17"));
    }
    let mut instances: Vec<Instance> = members
        .iter()
        .filter_map(|member| {
            let node = &nodes[member.node];
            let seq = member.seq?;
            Some(Instance {
                name: format!("{name}-{seq}"),
                seq,
                role: member.role?,
                address: node.address.clone(),
                offline_query: node.bool_var("pg_offline_query").unwrap_or(false),
                node: member.node,
            })
        })
        .collect();
    instances.sort_by_key(|instance| instance.seq);
    let port = first.u64_var("pg_port").and_then(|p| u16::try_from(p).ok()).unwrap_or(5432);
    Cluster { name, version: version.unwrap_or(0), port, instances, span }
}

fn next_free(members: &[Member]) -> u32 {
    members.iter().filter_map(|m| m.seq).max().map_or(1, |max| max.saturating_add(1))
}

fn one_primary(
    name: &str,
    span: Span,
    members: &[Member],
    nodes: &[Node],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let primaries: Vec<&Node> =
        members.iter().filter(|m| m.role == Some(Role::Primary)).map(|m| &nodes[m.node]).collect();
    match primaries[..] {
        [_] => {}
        // A role that is wrong may have been meant as the primary: its own error is enough.
        [] if members.iter().any(|m| m.role.is_none()) => {}
        [] => diagnostics.push(
            Diagnostic::error(span, format!("the cluster `{name}` has no primary"))
                .label("this cluster")
                .help("give `pg_role: primary` to exactly one of its hosts"),
        ),
        [first, second, ..] => {
            let mut diagnostic = Diagnostic::error(
                second.place("pg_role"),
                format!("the cluster `{name}` has {} primaries", primaries.len()),
            )
            .label(format!("`{}` is a primary", second.address))
            .also(first.place("pg_role"), format!("`{}` is a primary", first.address))
            .help("exactly one host of a cluster is the primary; the others are replicas");
            for other in &primaries[2..] {
                diagnostic =
                    diagnostic.also(other.place("pg_role"), format!("`{}` is a primary", other.address));
            }
            diagnostics.push(diagnostic);
        }
    }
}

/// All members have the same value.
fn same(name: &str, variable: &str, members: &[Member], nodes: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let first = &nodes[members[0].node];
    let other = members.iter().map(|m| &nodes[m.node]).find(|node| node.var(variable) != first.var(variable));
    if let Some(other) = other {
        let message = format!("members of the cluster `{name}` have different values of `{variable}`");
        diagnostics.push(
            Diagnostic::error(other.place(variable), message)
                .label(format!("`{}` has {}", other.address, other.var(variable)))
                .also(first.place(variable), format!("`{}` has {}", first.address, first.var(variable)))
                .help(format!("set `{variable}` once, under the `vars:` of the group")),
        );
    }
}

/// A replica follows a member of its cluster; a primary with an upstream follows another cluster.
fn upstreams(name: &str, members: &[Member], nodes: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    for member in members {
        let node = &nodes[member.node];
        let Some(upstream) = node.str_var("pg_upstream").filter(|u| !u.is_empty()) else { continue };
        let inside = members.iter().any(|m| nodes[m.node].address == upstream);
        let place = node.place("pg_upstream");
        if upstream == node.address {
            diagnostics.push(Diagnostic::error(place, format!("`{upstream}` is its own upstream")));
        } else if member.role == Some(Role::Primary) && inside {
            diagnostics.push(
                Diagnostic::error(
                    place,
                    format!("the primary of `{name}` follows a member of its own cluster"),
                )
                .help(
                    "on a primary `pg_upstream` makes a standby cluster: give an address of another cluster",
                ),
            );
        } else if member.role.is_some_and(|role| role != Role::Primary) && !inside {
            diagnostics.push(
                Diagnostic::error(place, format!("`{upstream}` is not a member of the cluster `{name}`"))
                    .help("on a replica `pg_upstream` is the address of another member"),
            );
        }
    }
}

/// A group should be named as its cluster. Citus-like groups that hold several clusters set it per host.
fn group_name(inventory: &Inventory, name: &str, first: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(var) = first.vars.get("pg_cluster") else { return };
    let Level::Group(group) = &var.level else { return };
    if group != name {
        if let Some(found) = inventory.groups.get(group) {
            diagnostics.push(
                Diagnostic::warning(var.span, format!("the group `{group}` holds the cluster `{name}`"))
                    .also(found.span, "this group")
                    .help("name the group as its cluster, so that one word means one thing"),
            );
        }
    }
}

/// Finds the etcd cluster, checks it, and tells the nodes which member they hold.
pub(super) fn etcd(
    inventory: &Inventory,
    nodes: &mut [Node],
    clusters: &[Cluster],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<EtcdCluster> {
    let mut members: Vec<EtcdMember> = Vec::new();
    let mut first: Option<(String, usize)> = None;
    let mut complete = true;
    for (index, node) in nodes.iter().enumerate() {
        let in_group = node.groups.iter().any(|g| g == "etcd");
        if node.var("etcd_seq").is_null() && !in_group {
            continue;
        }
        let name = node.str_var("etcd_cluster").unwrap_or("etcd").to_owned();
        if !is_cluster_name(&name) {
            diagnostics.push(
                Diagnostic::error(
                    node.place("etcd_cluster"),
                    format!("`{name}` cannot be the name of a cluster"),
                )
                .help("use letters, digits and `-`; `etcd` is the usual name"),
            );
        }
        match &first {
            None => first = Some((name.clone(), index)),
            Some((other, at)) if *other != name => {
                let message = format!("two etcd clusters, `{other}` and `{name}`, in one inventory");
                diagnostics.push(
                    Diagnostic::error(node.place("etcd_cluster"), message)
                        .also(nodes[*at].place("etcd_cluster"), "the other one")
                        .help("all PostgreSQL clusters of an inventory share one etcd cluster"),
                );
            }
            Some(_) => {}
        }
        let Some(seq) = seq(node, "etcd_seq", &format!("the etcd member on `{}`", node.address), diagnostics)
        else {
            complete = false;
            continue;
        };
        if let Some(other) = members.iter().find(|m| m.seq == seq) {
            diagnostics.push(
                Diagnostic::error(node.place("etcd_seq"), format!("two etcd members have the number {seq}"))
                    .label(format!("on `{}`", node.address))
                    .also(nodes[other.node].place("etcd_seq"), format!("on `{}`", other.address)),
            );
        }
        members.push(EtcdMember {
            name: format!("{name}-{seq}"),
            seq,
            address: node.address.clone(),
            node: index,
        });
    }
    needs_etcd(inventory, nodes, clusters, first.is_some(), diagnostics);
    let (name, at) = first?;
    if complete && members.len() % 2 == 0 && !members.is_empty() {
        let message = format!(
            "etcd has {} members: an even number survives no more failures than one fewer",
            members.len()
        );
        diagnostics.push(Diagnostic::warning(nodes[at].place("etcd_cluster"), message).help("use 1, 3 or 5"));
    }
    for variable in ["etcd_port", "etcd_peer_port"] {
        let Some(other) =
            members.iter().map(|m| &nodes[m.node]).find(|n| n.var(variable) != nodes[at].var(variable))
        else {
            continue;
        };
        let message = format!("etcd members have different values of `{variable}`");
        diagnostics.push(
            Diagnostic::error(other.place(variable), message)
                .also(nodes[at].place(variable), "another value"),
        );
    }
    members.sort_by_key(|member| member.seq);
    let port = |variable: &str, default: u16| {
        nodes[at].u64_var(variable).and_then(|p| u16::try_from(p).ok()).unwrap_or(default)
    };
    let (port, peer_port) = (port("etcd_port", 2379), port("etcd_peer_port", 2380));
    for (index, member) in members.iter().enumerate() {
        nodes[member.node].etcd_member = Some(index);
    }
    Some(EtcdCluster { name, port, peer_port, members })
}

/// Patroni keeps who leads in etcd: a cluster that Patroni runs needs one.
fn needs_etcd(
    inventory: &Inventory,
    nodes: &[Node],
    clusters: &[Cluster],
    present: bool,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if present {
        return;
    }
    let needy = clusters.iter().find(|cluster| {
        cluster.instances.iter().any(|i| nodes[i.node].bool_var("patroni_enabled").unwrap_or(true))
    });
    if let Some(cluster) = needy {
        let help = if inventory.groups.contains_key("etcd") {
            "the group `etcd` has no hosts: add them, as in `10.10.10.10: { etcd_seq: 1 }`"
        } else {
            "add a group `etcd` with one, three or five hosts, as in `etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 } } }`"
        };
        diagnostics.push(
            Diagnostic::error(
                cluster.span,
                format!("the cluster `{}` has no etcd to agree on a leader", cluster.name),
            )
            .help(help),
        );
    }
}
