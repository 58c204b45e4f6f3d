//! Desired and observed → steps, with the changes of earlier resources in mind.

use crate::live::{Live, Patroni};
use crate::plan::{Item, Step};
use crate::playbook::Playbook;
use crate::resource::{Diff, Observed, Pending, Seen};

use super::Desired;

/// The steps of one node.
///
/// `leader` is the member that leads the node's cluster, when any reachable member knows one. An
/// observation that failed although nothing is pending on a cluster that serves is a failure, never
/// "known later".
pub fn diff(
    playbook: &Playbook,
    desired: &Desired,
    observed: &Observed,
    live: &Live,
    leader: Option<&str>,
) -> Vec<Item> {
    let mut pending = Pending::default();
    let mut items = Vec::new();
    for (stage, resource) in &desired.resources {
        let seen = Seen { observed, pending: &pending, live, leader };
        let step = match resource.diff(&seen) {
            Diff::Same => Step::Same,
            Diff::Change(change) => Step::Change(change),
            Diff::Wait(wait) => Step::Wait(wait),
            Diff::Note(why) => Step::Note(why),
            Diff::Failed(why) => Step::Failed(why),
            Diff::Unknown { cause, predicted } => {
                let serving = leader.is_some() && live.patroni.as_ref().is_some_and(Patroni::is_running);
                let quiet =
                    pending.paths.is_empty() && pending.packages.is_empty() && pending.started.is_empty();
                match &playbook.stages[*stage].after {
                    Some(after) if !serving || !quiet => {
                        Step::KnownAfter { stage: after.clone(), change: predicted }
                    }
                    _ => Step::Failed(cause),
                }
            }
        };
        if let Some(change) = step.change() {
            pending.add(change);
        }
        items.push(Item { stage: *stage, resource: resource.clone(), step });
    }
    items
}
