//! `pgctl status`.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::common::{self, Connection, Loaded, Selection, Source};
use crate::engine::survey::targets;
use crate::engine::{GatherError, Sink, gather_all, script};
use crate::live::Live;
use crate::operation::status::{ClusterStatus, Look, cluster, look};
use crate::remote::Connector;
use crate::report::{Exit, Failure, Style, count, out, status as page};

/// Show what every selected cluster is like right now; exit 0 only when all are healthy
///
/// Works with nodes down. Exit 4 when a node cannot be reached, 3 when a cluster is not healthy.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let loaded = args.source.load(style)?;
    let nodes = common::nodes(&loaded.topology, &args.selection)?;
    let wanted: Vec<usize> = (0..loaded.topology.clusters.len())
        .filter(|&c| loaded.topology.clusters[c].instances.iter().any(|i| nodes.contains(&i.node)))
        .collect();
    if wanted.is_empty() {
        return Err(Failure::new(Exit::Usage, "the selection holds no PostgreSQL cluster"));
    }
    let (clusters, hints) = common::runtime()?.block_on(see(args, &loaded, &wanted));
    let unhealthy = clusters.iter().filter(|c| !c.healthy).count();
    let unreachable = clusters.iter().flat_map(|c| &c.instances).filter(|i| i.unreachable.is_some()).count();
    if style.json {
        out(&format!("{}\n", serde_json::json!({"format": 1, "clusters": clusters})));
    } else {
        for c in &clusters {
            out(&page::page(c, style));
        }
    }
    if unhealthy == 0 {
        return Ok(Exit::Done);
    }
    let exit = if unreachable > 0 { Exit::Unreachable } else { Exit::Differs };
    let mut failure = Failure::new(exit, format!("{} not healthy", count(unhealthy, "cluster")));
    failure.hints = hints;
    Err(failure.hint(format!("`pgctl plan {}` shows whether a deploy would mend it", loaded.path.display())))
}

async fn see(args: &Args, loaded: &Loaded, wanted: &[usize]) -> (Vec<ClusterStatus>, Vec<String>) {
    let topology = &loaded.topology;
    let nodes: Vec<usize> =
        wanted.iter().flat_map(|&c| topology.clusters[c].instances.iter().map(|i| i.node)).collect();
    let options = args.connection.options(topology);
    let connector = Arc::new(Connector::new(&options));
    let (sender, _events) = mpsc::unbounded_channel();
    let mark = script::mark();
    let targets = targets(topology, &nodes, &options);
    let (gathered, lost) = gather_all(topology, &connector, targets, &mark, None, &Sink::new(sender)).await;
    let mut seen: HashMap<usize, Result<(Live, Look), String>> = HashMap::new();
    let mut hints = Vec::new();
    for l in lost {
        if let GatherError::Remote(e) = &l.error
            && let Some(hint) = e.hint()
        {
            hints.push(format!("{}: {hint}", topology.nodes[l.node].name));
        }
        seen.insert(l.node, Err(l.error.to_string()));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for node in gathered {
        let (topology, mark) = (topology.clone(), mark.clone());
        tasks.spawn(async move {
            let looked = look(&topology, &node, &mark).await;
            (node.node, looked.map(|l| (node.live.clone(), l)).map_err(|e| e.to_string()))
        });
    }
    while let Some(result) = tasks.join_next().await {
        seen.extend(result.ok());
    }
    let get = |n: usize| {
        seen.get(&n).map(|r| match r {
            Ok((live, look)) => Ok((live, look)),
            Err(why) => Err(why.as_str()),
        })
    };
    (wanted.iter().map(|&c| cluster(topology, &topology.clusters[c], get)).collect(), hints)
}
