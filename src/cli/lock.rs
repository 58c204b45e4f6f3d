//! `pgctl lock`.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::common::{self, Connection, Selection, Source};
use crate::engine::lock::{Holder, status_body};
use crate::engine::survey::targets;
use crate::engine::{Sink, gather_all, script};
use crate::remote::Connector;
use crate::report::{Exit, Failure, Style, out};

/// Show who holds the nodes' locks
///
/// A lock lives as long as the connection of the run that took it: a run that dies gives it back. When a control machine
/// vanished without a word, the node's sshd notices by its keepalive; ending the `cat` that holds `/run/pgctl/lock` open
/// on the node gives the lock back at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Status(StatusArgs),
}

/// Who holds the lock of each node, since when, for what
#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let Command::Status(args) = &args.command;
    let loaded = args.source.load(style)?;
    let topology = &loaded.topology;
    let nodes = common::nodes(topology, &args.selection)?;
    let options = args.connection.options(topology);
    let connector = Arc::new(Connector::new(&options));
    let (sender, _events) = mpsc::unbounded_channel();
    let mark = script::mark();
    common::runtime()?.block_on(async {
        let targets = targets(topology, &nodes, &options);
        let (gathered, lost) =
            gather_all(topology, &connector, targets, &mark, None, &Sink::new(sender)).await;
        for node in &gathered {
            let name = &topology.nodes[node.node].name;
            let records = script::look(&node.session, &mark, &status_body()).await;
            let said = match records.as_ref().map(|r| r.iter().find(|r| r.id == "lock")) {
                Ok(Some(r)) if r.code == 0 => "free".to_owned(),
                Ok(Some(r)) => serde_json::from_str::<Holder>(&r.output)
                    .map_or_else(|_| format!("held: {}", r.output.trim()), |h| format!("held by {h}")),
                Ok(None) => "unknown".to_owned(),
                Err(e) => format!("unknown: {e}"),
            };
            out(&format!("{name}: {said}\n"));
        }
        for l in &lost {
            out(&format!("{}: {}\n", topology.nodes[l.node].name, l.error));
        }
        Ok(if lost.is_empty() { Exit::Done } else { Exit::Unreachable })
    })
}
