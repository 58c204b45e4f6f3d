//! Pigsty's placeholders: plain substitution of `${name}` in the few parameters that know them.
//! `${dbsu}` and its like in HBA rules and `$v` in package names belong to the code that expands those.

use serde_json::Value;

use super::{Inventory, Level, Vars};
use crate::text::diagnostic::{Diagnostic, Span};

/// Parameters whose text may hold `${admin_ip}`.
const ADMIN_IP: [&str; 8] = [
    "node_etc_hosts",
    "node_default_etc_hosts",
    "node_dns_servers",
    "node_ntp_servers",
    "dns_records",
    "repo_endpoint",
    "repo_upstream",
    "infra_portal",
];

pub(super) fn substitute(inventory: &mut Inventory, diagnostics: &mut Vec<Diagnostic>) {
    let mut missing: Vec<(&str, Option<Span>)> = Vec::new();
    for host in inventory.hosts.values_mut() {
        let text = |name: &str| match host.vars.get(name).map(|v| &v.value) {
            Some(Value::String(s)) => Some(s.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            _ => None,
        };
        let admin_ip = text("admin_ip");
        let cluster = text("pg_cluster");
        let minio: Vec<(&str, Option<String>)> =
            vec![("${minio_cluster}", text("minio_cluster")), ("${minio_seq}", text("minio_seq"))];
        let listen = text("pg_listen").map(|value| {
            let vip = text("pg_vip_address").and_then(|v| vip(&v));
            listen(&value, &host.name, vip.as_deref())
        });
        for name in ADMIN_IP {
            let Some(var) = host.vars.get_mut(name).filter(|var| holds(&var.value, "${admin_ip}")) else {
                continue;
            };
            match &admin_ip {
                Some(ip) => replace(&mut var.value, "${admin_ip}", ip),
                None if var.level == Level::Default => {
                    if let Value::Array(items) = &mut var.value {
                        items.retain(|item| !holds(item, "${admin_ip}"));
                    }
                }
                None => {
                    if !missing.contains(&(name, var.span)) {
                        missing.push((name, var.span));
                    }
                }
            }
        }
        fill(&mut host.vars, "pgbackrest_repo", "${pg_cluster}", cluster.as_deref());
        for (placeholder, value) in minio {
            fill(&mut host.vars, "minio_node", placeholder, value.as_deref());
        }
        if let (Some(value), Some(var)) = (listen, host.vars.get_mut("pg_listen")) {
            var.value = Value::String(value);
        }
    }
    for (name, span) in missing {
        diagnostics.push(
            Diagnostic::error(span, format!("`{name}` uses `${{admin_ip}}`, and `admin_ip` is not set"))
                .help("set `admin_ip` under `all.vars` to the address of the node you administer from"),
        );
    }
}

fn fill(vars: &mut Vars, name: &str, placeholder: &str, value: Option<&str>) {
    if let (Some(var), Some(value)) = (vars.get_mut(name), value) {
        replace(&mut var.value, placeholder, value);
    }
}

fn holds(value: &Value, placeholder: &str) -> bool {
    match value {
        Value::String(s) => s.contains(placeholder),
        Value::Array(items) => items.iter().any(|item| holds(item, placeholder)),
        Value::Object(map) => map.values().any(|item| holds(item, placeholder)),
        _ => false,
    }
}

fn replace(value: &mut Value, placeholder: &str, by: &str) {
    match value {
        Value::String(s) => *s = s.replace(placeholder, by),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, placeholder, by)),
        Value::Object(map) => map.values_mut().for_each(|item| replace(item, placeholder, by)),
        _ => {}
    }
}

/// The address of `pg_vip_address`; a loopback address or one without a mask counts as not set.
fn vip(value: &str) -> Option<String> {
    let (address, _) = value.split_once('/')?;
    (!address.starts_with("127.0.0")).then(|| address.to_owned())
}

/// The listen addresses of one host. `${vip}` goes away where there is none.
fn listen(value: &str, host: &str, vip: Option<&str>) -> String {
    let addresses: Vec<String> = value
        .split(',')
        .map(str::trim)
        .filter_map(|item| match (item.contains("${vip}"), vip) {
            (true, None) => None,
            (_, vip) => Some(
                item.replace("${ip}", host)
                    .replace("${lo}", "127.0.0.1")
                    .replace("${vip}", vip.unwrap_or_default()),
            ),
        })
        .filter(|item| !item.is_empty())
        .collect();
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_filled_in() {
        assert_eq!(listen("${ip},${vip},${lo}", "10.1.1.1", None), "10.1.1.1,127.0.0.1");
        assert_eq!(listen("${ip}, ${vip}", "10.1.1.1", Some("10.1.1.9")), "10.1.1.1,10.1.1.9");
        assert_eq!(listen("0.0.0.0", "10.1.1.1", None), "0.0.0.0");
        assert_eq!(vip("127.0.0.1/24"), None);
        assert_eq!(vip("10.1.1.9"), None);
        assert_eq!(vip("10.1.1.9/24"), Some("10.1.1.9".to_owned()));
    }
}
