//! Two programs of one node on one port: the second would fail to start, hours after the plan looked fine.

use serde_json::Value;

use super::Node;
use crate::text::diagnostic::{Diagnostic, Span};

struct Listener {
    port: u64,
    /// The parameter, or the service.
    by: String,
    place: Span,
}

/// Every pair of listeners of a node that wants one port. A clash that all members of a group have,
/// written in one place, is said once.
pub(super) fn check(nodes: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let mut said: Vec<(Span, String)> = Vec::new();
    for node in nodes {
        let listeners = listeners(node);
        for (index, second) in listeners.iter().enumerate() {
            let Some(first) = listeners[..index].iter().find(|other| other.port == second.port) else {
                continue;
            };
            // The value that was written is the one to show; a default has no place of its own.
            let (first, second) = if second.place == node.span { (second, first) } else { (first, second) };
            let both = (second.place, format!("{} and {}", first.by, second.by));
            if said.contains(&both) {
                continue;
            }
            let message = format!("{} both listen on port {} of `{}`", both.1, first.port, node.address);
            said.push(both);
            let mut diagnostic =
                Diagnostic::error(second.place, message).help("give one of them another port");
            if first.place != second.place && first.place != node.span {
                diagnostic = diagnostic.also(first.place, "the other one");
            }
            diagnostics.push(diagnostic);
        }
    }
}

fn listeners(node: &Node) -> Vec<Listener> {
    let on = |switch: &str| node.bool_var(switch).unwrap_or(true);
    let mut found = Vec::new();
    let mut add = |name: &str, enabled: bool| {
        if let Some(port) = node.u64_var(name).filter(|_| enabled) {
            found.push(Listener { port, by: format!("`{name}`"), place: node.place(name) });
        }
    };
    let instance = node.instance.is_some();
    let haproxy = instance && on("haproxy_enabled");
    add("pg_port", instance);
    add("patroni_port", instance && on("patroni_enabled"));
    add("pgbouncer_port", instance && on("pgbouncer_enabled"));
    add("haproxy_exporter_port", haproxy);
    add("etcd_port", node.etcd_member.is_some());
    add("etcd_peer_port", node.etcd_member.is_some());
    // With a provider, other nodes balance for this cluster.
    let balancer = haproxy && node.str_var("pg_service_provider").unwrap_or_default().is_empty();
    for list in ["pg_default_services", "pg_services"] {
        for service in node.var(list).as_array().into_iter().flatten().filter(|_| balancer) {
            let any_address =
                matches!(service.get("ip").and_then(Value::as_str), None | Some("*" | "0.0.0.0"));
            let port = match service.get("port") {
                Some(Value::Number(n)) => n.as_u64(),
                Some(Value::String(s)) => s.parse().ok(),
                _ => None,
            };
            if let (Some(port), true) = (port, any_address) {
                let name = service.get("name").and_then(Value::as_str).unwrap_or("?");
                found.push(Listener { port, by: format!("the service `{name}`"), place: node.place(list) });
            }
        }
    }
    found
}
