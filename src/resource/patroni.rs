//! `patroni_bootstrap`: the first start of a cluster, on the node that is to lead it.
//!
//! It never runs where a leader is: who leads is Patroni's word, not the inventory's. A data
//! directory that is there already is Patroni's to judge: it adopts or refuses it, and never wipes it.

use std::time::Duration;

use serde::Deserialize;

use super::wait::{Condition, PatroniState, Wait, duration};
use super::{Action, Diff, Kind, Query, Seen};
use crate::resource::service::Service;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    pub cluster: String,
    /// Files that Patroni reads again at a reload.
    #[serde(default)]
    pub reload_on: Vec<String>,
    #[serde(default = "usual_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
}

fn usual_timeout() -> Duration {
    Duration::from_secs(300)
}

impl Bootstrap {
    fn service(&self) -> Service {
        Service {
            name: "patroni".into(),
            enabled: true,
            state: super::service::State::Running,
            reload_on: self.reload_on.clone(),
            restart_on: Vec::new(),
            restart_on_packages: Vec::new(),
        }
    }
}

impl Kind for Bootstrap {
    fn id(&self) -> String {
        format!("patroni_bootstrap {}", self.cluster)
    }

    fn queries(&self) -> Vec<Query> {
        self.service().queries()
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let wait = |want| Wait {
            condition: Condition::Patroni { want },
            timeout: self.timeout,
            unit: Some("patroni".into()),
        };
        let mut diff = self.service().diff(seen);
        match &mut diff {
            Diff::Change(change) if seen.leader.is_none() && !change.starts.is_empty() => {
                change.reason = "no leader: starts the cluster from this node".into();
                change.actions.push(Action::Wait(wait(PatroniState::Leader)));
            }
            Diff::Change(change) if !change.starts.is_empty() => {
                change.actions.push(Action::Wait(wait(PatroniState::Running)));
            }
            // Started by a run that was cut off: nothing to change, but it must lead before others join.
            Diff::Same if seen.leader.is_none() => return Diff::Wait(wait(PatroniState::Leader)),
            _ => {}
        }
        diff
    }
}
