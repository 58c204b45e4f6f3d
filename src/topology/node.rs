//! One machine of the inventory: its address, its name, its variables.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

use super::cluster::{Cluster, EtcdCluster};
use crate::inventory::{Inventory, Vars};
use crate::text::diagnostic::{Diagnostic, Span};

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The key of the host in the inventory, an IP address.
    pub address: String,
    /// `pg-test-1`, else `nodename`, else `etcd-1`, else `infra-1`, else the address.
    pub name: String,
    /// Weakest first, without `all`.
    pub groups: Vec<String>,
    pub vars: Vars,
    pub instance: Option<InstanceRef>,
    /// Index into the etcd cluster's members.
    pub etcd_member: Option<usize>,
    /// Where the inventory names it first.
    pub span: Span,
}

/// Indices of an instance: cluster in the topology, instance in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceRef {
    pub cluster: usize,
    pub instance: usize,
}

const NULL: &Value = &Value::Null;

impl Node {
    /// The variable's value; `Null` when it is not set and has no default.
    pub fn var(&self, name: &str) -> &Value {
        self.vars.get(name).map_or(NULL, |var| &var.value)
    }

    pub fn str_var(&self, name: &str) -> Option<&str> {
        self.var(name).as_str()
    }

    pub fn bool_var(&self, name: &str) -> Option<bool> {
        self.var(name).as_bool()
    }

    pub fn u64_var(&self, name: &str) -> Option<u64> {
        self.var(name).as_u64()
    }

    /// Where the variable was written; else where the node was.
    pub(super) fn place(&self, name: &str) -> Span {
        self.vars.get(name).and_then(|var| var.span).unwrap_or(self.span)
    }
}

/// The nodes without names and roles. Addresses are checked.
pub(super) fn nodes(inventory: &Inventory, diagnostics: &mut Vec<Diagnostic>) -> Vec<Node> {
    let mut seen: HashMap<IpAddr, Span> = HashMap::new();
    let mut nodes = Vec::with_capacity(inventory.hosts.len());
    for host in inventory.hosts.values() {
        match host.name.parse::<IpAddr>() {
            Ok(ip) => {
                if let Some(problem) = unusable(ip) {
                    let message = format!("`{}` cannot be the address of a node: {problem}", host.name);
                    diagnostics.push(Diagnostic::error(host.span, message));
                }
                if let Some(first) = seen.insert(ip, host.span) {
                    diagnostics.push(
                        Diagnostic::error(
                            host.span,
                            format!("`{}` is the same address as another host", host.name),
                        )
                        .also(first, "the other host"),
                    );
                }
            }
            Err(_) => diagnostics.push(
                Diagnostic::error(host.span, format!("`{}` is not an IP address", host.name))
                    .label("hosts are named by IPv4 or IPv6 addresses")
                    .help(address_help(&host.name)),
            ),
        }
        nodes.push(Node {
            address: host.name.clone(),
            name: String::new(),
            groups: host.groups.clone(),
            vars: host.vars.clone(),
            instance: None,
            etcd_member: None,
            span: host.span,
        });
    }
    nodes
}

fn unusable(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("it means any address"),
        _ if ip.is_multicast() => Some("it is a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("it is the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("0.0.0.0/8 is reserved"),
        _ => None,
    }
}

fn address_help(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    if name.contains('[') {
        return "ranges are not expanded: write one line for each host".to_owned();
    }
    if parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()) && !p.is_empty()) {
        if let Some(part) = parts.iter().find(|p| p.parse::<u32>().is_ok_and(|n| n > 255)) {
            return format!("`{part}` is more than 255");
        }
        if parts.len() == 4 {
            return "write the four numbers without leading zeros".to_owned();
        }
        return format!("an IPv4 address has four numbers, this has {}", parts.len());
    }
    "use the address as the key, and `ansible_host` for the name that SSH connects to".to_owned()
}

/// Gives every node its name. Two nodes of one name are an error.
pub(super) fn name(
    nodes: &mut [Node],
    clusters: &[Cluster],
    etcd: Option<&EtcdCluster>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut seen: HashMap<String, (Span, String)> = HashMap::new();
    for node in nodes {
        let instance = node
            .instance
            .and_then(|at| clusters.get(at.cluster).and_then(|c| c.instances.get(at.instance)))
            .map(|instance| (instance.name.clone(), node.place("pg_seq")));
        let nodename = node
            .str_var("nodename")
            .filter(|name| !name.is_empty())
            .map(|name| (name.to_owned(), node.place("nodename")));
        let member = node
            .etcd_member
            .and_then(|at| etcd.and_then(|e| e.members.get(at)))
            .map(|member| (member.name.clone(), node.place("etcd_seq")));
        let infra = node.u64_var("infra_seq").map(|seq| (format!("infra-{seq}"), node.place("infra_seq")));
        let given = instance.or(nodename).or(member).or(infra);
        let (name, place) = given.unwrap_or_else(|| (node.address.clone(), node.span));
        if !is_hostname(&name) && name.parse::<IpAddr>().is_err() {
            diagnostics.push(
                Diagnostic::error(place, format!("`{name}` cannot be the name of a node"))
                    .help("letters, digits, `-` and `.`; at most 63 characters between dots"),
            );
        }
        if let Some((first, address)) = seen.get(&name) {
            diagnostics.push(
                Diagnostic::error(
                    place,
                    format!("two nodes are named `{name}`: {address} and {}", node.address),
                )
                .also(*first, "the other one"),
            );
        } else {
            seen.insert(name.clone(), (place, node.address.clone()));
        }
        node.name = name;
    }
}

/// A host name after RFC 1123, 2.1.
fn is_hostname(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}
