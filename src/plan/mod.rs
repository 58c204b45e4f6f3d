//! Plans: what every selected node should look like, and what differs.
//!
//! `build` makes the desired state from topology, facts and playbook; `diff` compares it with what was
//! observed. Both are pure. `deploy` performs exactly what a plan lists.

mod build;
mod context;
mod diff;
mod select;

pub use build::{BuildError, Desired, build};
pub use context::{Situation, context};
pub use diff::diff;
pub use select::{SelectError, nodes, stages};

use std::sync::Arc;

use serde::Serialize;

use crate::playbook::{On, Order};
use crate::resource::{Change, Kind, Verdict, Wait};

/// Everything that differs on the nodes that could be looked at.
#[derive(Debug, Clone)]
pub struct Plan {
    pub stages: Vec<StageInfo>,
    pub nodes: Vec<NodePlan>,
    /// Selected nodes that could not be looked at: name and why.
    pub unreachable: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct StageInfo {
    pub name: String,
    pub on: On,
    pub order: Order,
}

#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Index in the topology.
    pub node: usize,
    pub name: String,
    /// The cohort that shares its barriers: the cluster's name, or the node's own.
    pub cohort: String,
    /// The member that leads the node's cluster now, when anybody reachable knows one.
    pub leader: Option<String>,
    pub items: Vec<Item>,
}

/// One resource of one node, and what is to be done about it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Index in [`Plan::stages`].
    pub stage: usize,
    pub resource: Arc<dyn Kind>,
    pub step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Same,
    Change(Change),
    /// Seen again right before its stage; `change` is what is expected then.
    KnownAfter {
        stage: String,
        change: Change,
    },
    Wait(Wait),
    Note(String),
    Failed(String),
}

impl Step {
    /// The change that this step makes or is expected to make.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Change(change) | Self::KnownAfter { change, .. } => Some(change),
            _ => None,
        }
    }
}

/// One line of a plan, as people and machines read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub node: String,
    pub stage: String,
    pub resource: String,
    pub verdict: Verdict,
    pub reason: String,
    pub diff: Option<String>,
}

/// How much a plan holds. `nodes` counts those that were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub nodes: usize,
    pub unchanged: usize,
    pub create: usize,
    pub update: usize,
    pub restart: usize,
    pub run: usize,
    pub unreachable: usize,
    pub failed: usize,
}

impl Summary {
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Create => self.create += 1,
            Verdict::Update => self.update += 1,
            Verdict::Restart => self.restart += 1,
            Verdict::Run => self.run += 1,
        }
    }

    pub fn changes(&self) -> usize {
        self.create + self.update + self.restart + self.run
    }
}

impl Plan {
    /// All changes, stage by stage, node by node.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            for node in &self.nodes {
                for item in node.items.iter().filter(|i| i.stage == index) {
                    let Some(change) = item.step.change() else { continue };
                    let reason = match &item.step {
                        Step::KnownAfter { stage, .. } => {
                            format!("{} (known after `{stage}`)", change.reason)
                        }
                        _ => change.reason.clone(),
                    };
                    lines.push(Line {
                        node: node.name.clone(),
                        stage: stage.name.clone(),
                        resource: item.resource.id(),
                        verdict: change.verdict,
                        reason,
                        diff: change.diff.clone(),
                    });
                }
            }
        }
        lines
    }

    /// Restarts that the plan forecasts: (node, unit, whether PostgreSQL is interrupted).
    pub fn restarts(&self) -> Vec<(String, String, bool)> {
        let mut restarts = Vec::new();
        for node in &self.nodes {
            for change in node.items.iter().filter_map(|i| i.step.change()) {
                if let Some(unit) = &change.restarts {
                    restarts.push((node.name.clone(), unit.clone(), change.interrupts_postgres()));
                }
            }
        }
        restarts
    }

    /// What cannot be converged here and is said instead: (nodes, resource, why), the same words once.
    pub fn notes(&self) -> Vec<(String, String, String)> {
        let mut notes: Vec<(String, String, String)> = Vec::new();
        for (node, resource, why) in
            self.steps(|s| if let Step::Note(why) = s { Some(why.clone()) } else { None })
        {
            match notes.iter_mut().find(|(_, r, w)| *r == resource && *w == why) {
                Some((nodes, _, _)) => *nodes = format!("{nodes}, {node}"),
                None => notes.push((node, resource, why)),
            }
        }
        notes
    }

    /// Resources whose observation failed: (node, resource, why).
    pub fn failures(&self) -> Vec<(String, String, String)> {
        self.steps(|s| if let Step::Failed(why) = s { Some(why.clone()) } else { None })
    }

    /// What a deploy would first wait for: (node, what must hold and does not yet).
    pub fn waits(&self) -> Vec<(String, String)> {
        let waits = self.steps(|s| if let Step::Wait(wait) = s { Some(wait.to_string()) } else { None });
        waits.into_iter().map(|(node, _, what)| (node, what)).collect()
    }

    fn steps(&self, pick: impl Fn(&Step) -> Option<String>) -> Vec<(String, String, String)> {
        let items = self.nodes.iter().flat_map(|n| n.items.iter().map(move |i| (n, i)));
        items.filter_map(|(n, i)| Some((n.name.clone(), i.resource.id(), pick(&i.step)?))).collect()
    }

    pub fn summary(&self) -> Summary {
        let mut s =
            Summary { nodes: self.nodes.len(), unreachable: self.unreachable.len(), ..Summary::default() };
        for step in self.nodes.iter().flat_map(|n| n.items.iter().map(|i| &i.step)) {
            match (step.change(), step) {
                (Some(change), _) => s.add(change.verdict),
                (None, Step::Failed(_)) => s.failed += 1,
                (None, Step::Same | Step::Note(_)) => s.unchanged += 1,
                (None, _) => {}
            }
        }
        s
    }

    /// Whether there is nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        let quiet = |i: &Item| matches!(i.step, Step::Same | Step::Note(_));
        self.nodes.iter().all(|n| n.items.iter().all(quiet))
    }
}
