//! Who is who: nodes, clusters, instances, the etcd cluster. Resolved from the inventory with every
//! identity rule checked at once.

pub mod cluster;
pub mod hba;
pub mod node;
pub mod rto;
pub mod scram;
pub mod selector;
pub mod service;
pub mod tuning;

use std::path::Path;

use serde_json::Value;

pub use self::cluster::{Cluster, EtcdCluster, EtcdMember, Instance, Role};
pub use self::node::{InstanceRef, Node};
use crate::inventory::{self, Inventory};
use crate::text::diagnostic::{Diagnostic, Severity, Sources};

/// The nodes in the order of the inventory, the clusters in the order of their first members.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    pub nodes: Vec<Node>,
    pub clusters: Vec<Cluster>,
    pub etcd: Option<EtcdCluster>,
}

impl Topology {
    /// # Errors
    /// Every broken rule, sorted by position.
    pub fn resolve(inventory: &Inventory) -> Result<Self, Vec<Diagnostic>> {
        let (topology, diagnostics) = Self::examine(inventory);
        topology.ok_or(diagnostics)
    }

    /// As [`Topology::resolve`], with the warnings; the topology is `None` when there are errors.
    pub fn examine(inventory: &Inventory) -> (Option<Self>, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut nodes = node::nodes(inventory, &mut diagnostics);
        let clusters = cluster::clusters(inventory, &mut nodes, &mut diagnostics);
        let etcd = cluster::etcd(inventory, &mut nodes, &clusters, &mut diagnostics);
        node::name(&mut nodes, &clusters, etcd.as_ref(), &mut diagnostics);
        inventory::sort(&mut diagnostics);
        let wrong = diagnostics.iter().any(|d| d.severity == Severity::Error);
        ((!wrong).then_some(Self { nodes, clusters, etcd }), diagnostics)
    }

    /// The node an instance runs on.
    pub fn node_of(&self, instance: &Instance) -> &Node {
        &self.nodes[instance.node]
    }

    /// The cluster of this name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }
}

/// Loads an inventory and resolves its topology; with them, the warnings.
///
/// # Errors
/// Everything wrong in both, sorted by position.
pub fn load(
    sources: &mut Sources,
    path: &Path,
    extra: &[(String, Value)],
) -> Result<(Inventory, Topology, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (inventory, mut diagnostics) = inventory::load_all(sources, path, extra);
    let Some(inventory) = inventory else { return Err(diagnostics) };
    let (topology, more) = Topology::examine(&inventory);
    diagnostics.extend(more);
    inventory::sort(&mut diagnostics);
    match topology {
        Some(topology) if diagnostics.iter().all(|d| d.severity == Severity::Warning) => {
            Ok((inventory, topology, diagnostics))
        }
        _ => Err(diagnostics),
    }
}
