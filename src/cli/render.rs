//! `pgctl render`.

use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::common::{self, Connection, Loaded, Selection, Source};
use crate::engine::survey::targets;
use crate::engine::{Sink, gather_all, script};
use crate::facts::Facts;
use crate::plan::{Situation, build, context};
use crate::remote::Connector;
use crate::report::{Exit, Failure, Style, count, out};

/// Write the files that nodes should have below a local directory: DIR/NODE/etc/…
///
/// Sizes follow from what a node is (memory, CPUs, disk), so nodes are asked; `--offline` assumes a small
/// Debian 12 machine instead. Secrets are in these files: the directory is made for you alone.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    connection: Connection,
    /// Where to write
    #[arg(short, long, value_name = "DIR", default_value = "rendered")]
    output: PathBuf,
    /// Assume what nodes are; connect to nothing
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let loaded = args.source.load(style)?;
    let topology = &loaded.topology;
    let (playbook, templates, sources) = common::playbook("deploy.yml", style)?;
    let nodes = common::nodes(topology, &args.selection)?;
    let stages: Vec<usize> = (0..playbook.stages.len()).collect();
    let facts = if args.offline {
        let assumed = |n: &usize| (*n, Facts::assumed(&topology.nodes[*n].name, "12"));
        nodes.iter().map(assumed).collect()
    } else {
        common::runtime()?.block_on(ask(args, &loaded, &nodes))?
    };
    let mut files = 0;
    for &node in &nodes {
        let name = &topology.nodes[node].name;
        let Some(facts) = facts.get(&node) else { continue };
        let context = context(Situation { topology, node, facts, present: &nodes, etcd_born: &[] })
            .map_err(|p| Failure::new(Exit::Wrong, format!("{name}: {}", p.join("; "))))?;
        let primary =
            topology.nodes[node].instance.map(|i| topology.clusters[i.cluster].primary().name.clone());
        let desired = build(topology, node, &playbook, &stages, &templates, &context, primary.as_deref())
            .map_err(|e| {
                common::survey_failure(crate::engine::survey::SurveyError::Build(e), &sources, style)
            })?;
        for (_, resource) in &desired.resources {
            if let Some(file) = resource.file() {
                let target = args.output.join(name).join(file.path.trim_start_matches('/'));
                write(&target, &file.content)
                    .map_err(|e| Failure::new(Exit::Failed, format!("{}: {e}", target.display())))?;
                files += 1;
            }
        }
    }
    out(&format!(
        "{} for {} below {}\n",
        count(files, "file"),
        count(nodes.len(), "node"),
        args.output.display()
    ));
    Ok(Exit::Done)
}

async fn ask(args: &Args, loaded: &Loaded, nodes: &[usize]) -> Result<HashMap<usize, Facts>, Failure> {
    let topology = &loaded.topology;
    let options = args.connection.options(topology);
    let connector = Arc::new(Connector::new(&options));
    let (sender, _events) = mpsc::unbounded_channel();
    let targets = targets(topology, nodes, &options);
    let sink = Sink::new(sender);
    let (gathered, lost) = gather_all(topology, &connector, targets, &script::mark(), None, &sink).await;
    if let Some(l) = lost.first() {
        let message = format!("{}: {}", topology.nodes[l.node].name, l.error);
        return Err(
            Failure::new(Exit::Unreachable, message).hint("`--offline` renders for an assumed machine")
        );
    }
    Ok(gathered.into_iter().map(|g| (g.node, g.facts)).collect())
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // Made anew: what is there may be a link, or readable by others.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(content.as_bytes())
}
