//! Waits: polled from here through the node's own connection, so that a wait needs no tool on the node
//! and says what it sees meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::event::{Event, Failure, Sink};
use super::gather::{Gathered, etcd_health, live};
use super::script;
use crate::live::Live;
use crate::resource::Wait;
use crate::resource::wait::{Condition, PatroniState};
use crate::text::quote::shell;
use crate::topology::Topology;

const POLL: Duration = Duration::from_millis(250);

/// Waits until the condition holds; `false` when `stop` was set meanwhile. The failure carries the journal of the
/// unit that should have made it hold.
pub(super) async fn wait(
    topology: &Topology,
    node: &Gathered,
    mark: &str,
    stage: &str,
    wait: &Wait,
    sink: &Sink,
    stop: &AtomicBool,
) -> Result<bool, Failure> {
    let name = topology.nodes[node.node].name.clone();
    let begun = Instant::now();
    let mut said = Instant::now();
    let mut looked = Instant::now();
    let mut last = String::new();
    // The unit's last word, which tells more than a port that does not answer.
    let mut latest = String::new();
    loop {
        let (holds, state) = look(topology, node, &wait.condition).await;
        let seconds = begun.elapsed().as_secs_f64();
        if holds {
            let (stage, what) = (stage.to_owned(), wait.to_string());
            sink.send(Event::Waited { node: name, stage, what, seconds });
            return Ok(true);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if state != last || said.elapsed() > Duration::from_secs(10) {
            sink.send(Event::Waiting {
                node: name.clone(),
                stage: stage.to_owned(),
                what: wait.to_string(),
                seconds,
                state: format!("{state}{latest}"),
            });
            last.clone_from(&state);
            said = Instant::now();
        }
        let out_of_time = begun.elapsed() >= wait.timeout;
        // A unit that has failed for good is not waited for; asked now and then, it costs an exec.
        let look_closer = out_of_time || looked.elapsed() > Duration::from_secs(5);
        if let (true, Some(unit)) = (look_closer, &wait.unit) {
            let (failed, journal) = unit_state(node, mark, unit).await;
            looked = Instant::now();
            latest = journal.lines().next_back().map(|l| format!("; {unit} says: {l}")).unwrap_or_default();
            if out_of_time || failed {
                let what = if failed {
                    format!("`{unit}` has failed while waiting until {wait} (last state: {state})")
                } else {
                    format!("after {} s still not: {wait} (last state: {state})", wait.timeout.as_secs())
                };
                return Err(Failure {
                    node: name.clone(),
                    stage: stage.to_owned(),
                    resource: format!("wait {wait}"),
                    code: None,
                    output: format!("{what}\n--- the journal of {unit}:\n{journal}"),
                    hint: Some(format!("look at the node: `journalctl -u {unit} -e`")),
                });
            }
        } else if out_of_time {
            return Err(Failure {
                node: name,
                stage: stage.to_owned(),
                resource: format!("wait {wait}"),
                code: None,
                output: format!("after {} s still not: {wait} ({state})", wait.timeout.as_secs()),
                hint: None,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn unit_state(node: &Gathered, mark: &str, unit: &str) -> (bool, String) {
    let unit = shell(unit);
    let body = format!(
        "begin unit\nsystemctl is-failed {unit}; journalctl -q --no-pager -o cat -n 25 -u {unit}\nend unit 0"
    );
    match script::look(&node.session, mark, &body).await {
        Ok(records) => {
            let output = records.into_iter().next().map(|r| r.output).unwrap_or_default();
            let (state, journal) = output.split_once('\n').unwrap_or((&output, ""));
            (state == "failed", journal.to_owned())
        }
        Err(error) => (false, format!("(not to be had: {error})")),
    }
}

/// Whether the condition holds, and words for what is there instead.
async fn look(topology: &Topology, node: &Gathered, condition: &Condition) -> (bool, String) {
    match condition {
        Condition::Etcd => match etcd_health(topology, node.node, &node.session).await {
            Some(true) => (true, "healthy".into()),
            Some(false) => (false, "no quorum yet".into()),
            None => (false, "no answer".into()),
        },
        Condition::Port { port } => {
            let address = &topology.nodes[node.node].address;
            match node.session.probe_port(address, *port, Duration::from_secs(5)).await {
                Ok(()) => (true, "listens".into()),
                Err(error) => (false, error.to_string()),
            }
        }
        Condition::Patroni { want } => {
            let live = live(topology, node.node, &node.session).await;
            patroni(&topology.nodes[node.node].name, *want, &live)
        }
    }
}

fn patroni(name: &str, want: PatroniState, live: &Live) -> (bool, String) {
    let Some(p) = &live.patroni else { return (false, "Patroni does not answer".into()) };
    let state = format!("{} {}", p.role, p.state);
    let me = live.members.iter().find(|m| m.name == name);
    let holds = match want {
        PatroniState::Running => p.is_running(),
        PatroniState::Leader => p.is_running() && p.is_leader() && live.leader() == Some(name),
        // Patroni reports a lag only for a member whose position it knows.
        PatroniState::Streaming => {
            p.is_running()
                && (p.is_leader()
                    || (live.leader().is_some()
                        && me.is_some_and(|m| m.is_running() && m.lag_bytes.is_some())))
        }
    };
    let state = me.map_or(state.clone(), |m| format!("{state}, seen as {} {}", m.role, m.state));
    (holds, state)
}
