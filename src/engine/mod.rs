//! The engine: gather, probe, apply; order, lock, events. It never prints.

pub mod apply;
pub mod event;
pub mod gather;
pub mod lock;
pub mod script;
pub mod survey;
mod wait;

pub use event::{Event, Failure, Sink};
pub use gather::{GatherError, Gathered};

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::engine::lock::Holder;
use crate::engine::script::ScriptError;
use crate::plan::Desired;
use crate::remote::{Connector, RemoteError, Target};
use crate::resource::Observed;
use crate::resource::observe::{self, ObserveError};
use crate::topology::Topology;

/// A node that could not be gathered, and why.
#[derive(Debug)]
pub struct Lost {
    pub node: usize,
    pub error: GatherError,
}

/// Connects to the nodes and gathers them, all at once. `targets` holds a target or the reason why there is
/// none, per node index.
pub async fn gather_all(
    topology: &Arc<Topology>,
    connector: &Arc<Connector>,
    targets: HashMap<usize, Result<Target, RemoteError>>,
    mark: &str,
    holder: Option<&Holder>,
    sink: &Sink,
) -> (Vec<Gathered>, Vec<Lost>) {
    let mut tasks = JoinSet::new();
    for (node, target) in targets {
        let (topology, connector, mark) = (topology.clone(), connector.clone(), mark.to_owned());
        let (holder, sink) = (holder.cloned(), sink.clone());
        tasks.spawn(async move {
            let work = async {
                let session = connector.connect(&target?).await?;
                let name = topology.nodes[node].name.clone();
                let waiting = move || sink.send(Event::Orphan { node: name.clone() });
                Box::pin(gather::gather(&topology, node, session, &mark, holder.as_ref(), waiting)).await
            };
            work.await.map_err(|error| Lost { node, error })
        });
    }
    let (mut gathered, mut lost) = (Vec::new(), Vec::new());
    while let Some(result) = tasks.join_next().await {
        match result {
            Ok(Ok(node)) => gathered.push(node),
            Ok(Err(node)) => lost.push(node),
            // One node's panic is one failed node; the panic itself was printed by the runtime.
            Err(error) => tracing::error!(%error, "a node's task died"),
        }
    }
    gathered.sort_by_key(|g| g.node);
    lost.sort_by_key(|l| l.node);
    (gathered, lost)
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

/// Trip 2: one script that looks at every resource of every stage of one node.
pub async fn probe(gathered: &Gathered, desired: &Desired, mark: &str) -> Result<Observed, ProbeError> {
    let queries: Vec<_> = desired.resources.iter().flat_map(|(_, r)| r.queries()).collect();
    let records = script::look(&gathered.session, mark, &observe::script(&queries)).await?;
    Ok(Observed::read(&queries, &records)?)
}
