//! `pgctl list`.

use comfy_table::{Table, presets};

use super::common::{self, Selection, Source};
use crate::report::{Exit, Failure, Style, out};

/// List the nodes of the inventory: names, addresses, clusters, roles
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let loaded = args.source.load(style)?;
    let topology = &loaded.topology;
    let mut rows = Vec::new();
    for n in common::nodes(topology, &args.selection)? {
        let node = &topology.nodes[n];
        let instance = node.instance.map(|i| {
            let cluster = &topology.clusters[i.cluster];
            (cluster.name.clone(), cluster.instances[i.instance].role.to_string())
        });
        let etcd = node.etcd_member.and_then(|m| Some(topology.etcd.as_ref()?.members[m].name.clone()));
        rows.push((node.name.clone(), node.address.clone(), instance, etcd, node.groups.clone()));
    }
    if style.json {
        let nodes: Vec<_> = rows
            .iter()
            .map(|(name, address, instance, etcd, groups)| {
                serde_json::json!({"name": name, "address": address, "cluster": instance.as_ref().map(|i| &i.0),
                    "role": instance.as_ref().map(|i| &i.1), "etcd": etcd, "groups": groups})
            })
            .collect();
        out(&format!("{}\n", serde_json::json!({"format": 1, "nodes": nodes})));
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["node", "address", "cluster", "role", "etcd", "groups"]);
    for (name, address, instance, etcd, groups) in rows {
        let (cluster, role) = instance.unwrap_or_else(|| ("-".into(), "-".into()));
        table.add_row([name, address, cluster, role, etcd.unwrap_or_else(|| "-".into()), groups.join(", ")]);
    }
    for line in table.to_string().lines() {
        out(&format!("{}\n", line.trim()));
    }
    Ok(Exit::Done)
}
