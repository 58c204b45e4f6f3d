//! `pgctl check`.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::common::{self, Connection, Selection, Source};
use crate::engine::survey::{check, targets};
use crate::engine::{GatherError, Sink, gather_all, script};
use crate::facts::Facts;
use crate::plan::Situation;
use crate::remote::Connector;
use crate::report::{Exit, Failure, Style, count, err, out};

/// Check the inventory, then whether the nodes fit it; change nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    connection: Connection,
    /// Check the inventory alone; connect to nothing
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let loaded = args.source.load(style)?;
    let topology = &loaded.topology;
    common::playbook("deploy.yml", style)?;
    let nodes = common::nodes(topology, &args.selection)?;
    let mut wrong: Vec<(String, String)> = Vec::new();
    for &node in &nodes {
        // Values that only show when they are used: HBA rules, services, tuning.
        let facts = Facts::assumed(&topology.nodes[node].name, "12");
        if let Err(problems) =
            crate::plan::context(Situation { topology, node, facts: &facts, present: &nodes, etcd_born: &[] })
        {
            let name = &topology.nodes[node].name;
            wrong.extend(problems.into_iter().map(|p| (name.clone(), p)));
        }
    }
    wrong.dedup_by(|a, b| a.1 == b.1);
    let parts = [
        count(topology.nodes.len(), "node"),
        count(topology.clusters.len(), "cluster"),
        count(topology.etcd.as_ref().map_or(0, |e| e.members.len()), "etcd member"),
    ];
    if !wrong.is_empty() {
        return Err(said(&wrong, Exit::Wrong, style));
    }
    if args.offline {
        out(&format!("{}: {}, no errors\n", loaded.path.display(), parts.join(", ")));
        return Ok(Exit::Done);
    }
    let options = args.connection.options(topology);
    let connector = Arc::new(Connector::new(&options));
    let (sender, _events) = mpsc::unbounded_channel();
    let (gathered, lost) = common::runtime()?.block_on(gather_all(
        topology,
        &connector,
        targets(topology, &nodes, &options),
        &script::mark(),
        None,
        &Sink::new(sender),
    ));
    for node in &gathered {
        let name = &topology.nodes[node.node].name;
        let f = &node.facts;
        if !style.quiet && !style.json {
            let memory = f.memory_mb.div_ceil(1024);
            out(&format!(
                "{name}: {}, {} CPU, {memory} GiB memory, {} GiB free\n",
                f.os_name,
                f.cpu,
                f.disk_free_bytes >> 30
            ));
        }
        wrong.extend(check(topology, node.node, f).into_iter().map(|w| (name.clone(), w)));
    }
    if !lost.is_empty() {
        let mut failure = Failure::new(Exit::Unreachable, "");
        for l in &lost {
            let name = &topology.nodes[l.node].name;
            err(&format!("{} {name}: {}\n", style.red("unreachable:"), l.error));
            if let GatherError::Remote(e) = &l.error {
                failure.hints.extend(e.hint().map(|h| format!("{name}: {h}")));
            }
        }
        for (node, what) in &wrong {
            err(&format!("{} {node}: {what}\n", style.red("error:")));
        }
        failure.message = format!("{} cannot be reached", count(lost.len(), "node"));
        return Err(failure);
    }
    if !wrong.is_empty() {
        return Err(said(&wrong, Exit::Failed, style));
    }
    out(&format!("{}: {}, no errors\n", loaded.path.display(), parts.join(", ")));
    Ok(Exit::Done)
}

fn said(wrong: &[(String, String)], exit: Exit, style: Style) -> Failure {
    for (node, what) in wrong {
        err(&format!("{} {node}: {what}\n", style.red("error:")));
    }
    Failure::new(exit, format!("{} found; nothing was touched", count(wrong.len(), "problem")))
}
