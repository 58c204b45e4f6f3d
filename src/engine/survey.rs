//! Survey: from an inventory and a playbook to a plan, by two trips to each node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::event::{Event, Sink};
use super::gather::{GatherError, Gathered};
use super::lock::{Holder, LockError};
use super::{Lost, gather_all, probe};
use crate::facts::Facts;
use crate::plan::{self, BuildError, Desired, NodePlan, Plan, Situation, StageInfo};
use crate::playbook::Playbook;
use crate::remote::{Connector, Options, RemoteError, Target};
use crate::template::Templates;
use crate::topology::Topology;

/// What a survey looks at.
#[derive(Debug)]
pub struct Question<'a> {
    pub topology: &'a Arc<Topology>,
    pub playbook: &'a Playbook,
    pub templates: &'a Templates,
    /// Selected nodes and stages, by index.
    pub nodes: &'a [usize],
    pub stages: &'a [usize],
    pub options: &'a Options,
    /// Takes the nodes' locks in the name of this holder.
    pub holder: Option<Holder>,
}

/// What was found.
#[derive(Debug)]
pub struct Survey {
    pub plan: Plan,
    /// The selected nodes that answered, connected (and locked, when a holder was given).
    pub nodes: Vec<Gathered>,
    pub lost: Vec<Lost>,
}

#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// Node and holder, for each that is locked.
    #[error("{}", locked(.0))]
    Locked(Vec<(String, String)>),
    /// Facts that do not fit the inventory, all of them: (node, what).
    #[error("{}", problems(.0))]
    Facts(Vec<(String, String)>),
    #[error("the playbook cannot be rendered")]
    Build(Vec<BuildError>),
}

fn locked(nodes: &[(String, String)]) -> String {
    nodes.iter().map(|(node, who)| format!("{node} is {who}")).collect::<Vec<_>>().join("\n")
}

fn problems(list: &[(String, String)]) -> String {
    list.iter().map(|(node, what)| format!("{node}: {what}")).collect::<Vec<_>>().join("\n")
}

/// Where each node is, and who logs in.
pub fn targets(
    topology: &Topology,
    nodes: &[usize],
    options: &Options,
) -> HashMap<usize, Result<Target, RemoteError>> {
    let vars: Vec<BTreeMap<String, String>> = nodes
        .iter()
        .map(|&n| {
            let vars = topology.nodes[n].vars.iter().filter(|(k, _)| k.starts_with("ansible_"));
            let text = |v: &serde_json::Value| match v {
                serde_json::Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            vars.filter(|(_, v)| !v.value.is_null()).map(|(k, v)| (k.clone(), text(&v.value))).collect()
        })
        .collect();
    let requests: Vec<_> = nodes
        .iter()
        .zip(&vars)
        .map(|(&n, vars)| (topology.nodes[n].name.as_str(), topology.nodes[n].address.as_str(), vars))
        .collect();
    nodes.iter().copied().zip(Target::resolve_all(&requests, options)).collect()
}

/// The other members of the selected nodes' clusters: looked at, never changed. Who leads is asked of all.
fn peers(topology: &Topology, nodes: &[usize]) -> Vec<usize> {
    let clusters: Vec<usize> =
        nodes.iter().filter_map(|&n| topology.nodes[n].instance.map(|i| i.cluster)).collect();
    let of_clusters = |n: &usize| topology.nodes[*n].instance.is_some_and(|i| clusters.contains(&i.cluster));
    (0..topology.nodes.len()).filter(|n| !nodes.contains(n)).filter(of_clusters).collect()
}

/// Looks at the selected nodes and works out what differs.
pub async fn survey(question: Question<'_>, mark: &str, sink: &Sink) -> Result<Survey, SurveyError> {
    let Question { topology, options, .. } = question;
    let connector = Arc::new(Connector::new(options));
    let peers = peers(topology, question.nodes);
    let (found, others) = tokio::join!(
        gather_all(
            topology,
            &connector,
            targets(topology, question.nodes, options),
            mark,
            question.holder.as_ref(),
            sink
        ),
        gather_all(topology, &connector, targets(topology, &peers, options), mark, None, sink),
    );
    let (nodes, lost) = found;
    let name = |n: usize| topology.nodes[n].name.clone();
    let locked: Vec<(String, String)> = lost
        .iter()
        .filter_map(|l| match &l.error {
            GatherError::Lock(e @ LockError::Held(_)) => Some((name(l.node), e.to_string())),
            _ => None,
        })
        .collect();
    if !locked.is_empty() {
        return Err(SurveyError::Locked(locked));
    }
    for l in &lost {
        let hint = if let GatherError::Remote(e) = &l.error { e.hint() } else { None };
        sink.send(Event::Unreachable { node: name(l.node), error: l.error.to_string(), hint });
    }
    let mut wrong = Vec::new();
    for node in &nodes {
        wrong.extend(check(topology, node.node, &node.facts).into_iter().map(|w| (name(node.node), w)));
    }
    wrong.extend(clocks(topology, &nodes));
    if !wrong.is_empty() {
        return Err(SurveyError::Facts(wrong));
    }
    let leaders = leaders(topology, nodes.iter().chain(&others.0));
    let desired = desire(&question, &nodes, &leaders)?;
    let plan = look(&question, &nodes, &lost, desired, &leaders, mark, sink).await;
    Ok(Survey { plan, nodes, lost })
}

/// The live leader's name per cluster index.
fn leaders<'a>(topology: &Topology, nodes: impl Iterator<Item = &'a Gathered>) -> HashMap<usize, String> {
    let mut leaders: HashMap<usize, String> = HashMap::new();
    for node in nodes {
        if let (Some(at), Some(leader)) = (topology.nodes[node.node].instance, node.live.leader()) {
            // The leader's own word goes before that of others, which may be cut off from the DCS.
            if leader == topology.nodes[node.node].name {
                leaders.insert(at.cluster, leader.to_owned());
            } else {
                leaders.entry(at.cluster).or_insert_with(|| leader.to_owned());
            }
        }
    }
    leaders
}

fn desire(
    q: &Question<'_>,
    nodes: &[Gathered],
    leaders: &HashMap<usize, String>,
) -> Result<Vec<Desired>, SurveyError> {
    let mut desired = Vec::new();
    let mut errors = Vec::new();
    let mut unusable = Vec::new();
    let present: Vec<usize> = nodes.iter().map(|n| n.node).collect();
    let etcd_born: Vec<usize> = nodes.iter().filter(|n| n.facts.etcd_data).map(|n| n.node).collect();
    for node in nodes {
        let situation = Situation {
            topology: q.topology,
            node: node.node,
            facts: &node.facts,
            present: &present,
            etcd_born: &etcd_born,
        };
        let context = match plan::context(situation) {
            Ok(context) => context,
            Err(problems) => {
                let name = &q.topology.nodes[node.node].name;
                unusable.extend(problems.into_iter().map(|p| (name.clone(), p)));
                continue;
            }
        };
        let instance = q.topology.nodes[node.node].instance;
        let leader = instance.map(|i| {
            let primary = || q.topology.clusters[i.cluster].primary().name.clone();
            leaders.get(&i.cluster).cloned().unwrap_or_else(primary)
        });
        let built = plan::build(
            q.topology,
            node.node,
            q.playbook,
            q.stages,
            q.templates,
            &context,
            leader.as_deref(),
        );
        match built {
            Ok(d) => desired.push(d),
            Err(e) => errors.extend(e),
        }
    }
    if !unusable.is_empty() {
        unusable.dedup_by(|a, b| a.1 == b.1);
        return Err(SurveyError::Facts(unusable));
    }
    if errors.is_empty() { Ok(desired) } else { Err(SurveyError::Build(errors)) }
}

async fn look(
    q: &Question<'_>,
    nodes: &[Gathered],
    lost: &[Lost],
    desired: Vec<Desired>,
    leaders: &HashMap<usize, String>,
    mark: &str,
    sink: &Sink,
) -> Plan {
    let probes = nodes.iter().zip(&desired).map(|(node, desired)| probe(node, desired, mark));
    let observed = join_all(probes).await;
    let name = |n: usize| q.topology.nodes[n].name.clone();
    let mut unreachable: Vec<(String, String)> =
        lost.iter().map(|l| (name(l.node), l.error.to_string())).collect();
    let mut plans = Vec::new();
    for ((node, desired), observed) in nodes.iter().zip(desired).zip(observed) {
        let instance = q.topology.nodes[node.node].instance;
        let leader = instance.and_then(|i| leaders.get(&i.cluster)).map(String::as_str);
        match observed {
            Ok(observed) => plans.push(NodePlan {
                node: node.node,
                name: name(node.node),
                cohort: cohort(q.topology, node.node),
                leader: leader.map(str::to_owned),
                items: plan::diff(q.playbook, &desired, &observed, &node.live, leader),
            }),
            Err(e) => {
                let error = format!("it could not be looked at: {e}");
                let (node, hint) = (name(node.node), None);
                sink.send(Event::Unreachable { node: node.clone(), error: error.clone(), hint });
                unreachable.push((node, error));
            }
        }
    }
    let stages =
        q.playbook.stages.iter().map(|s| StageInfo { name: s.name.clone(), on: s.on, order: s.order });
    Plan { stages: stages.collect(), nodes: plans, unreachable }
}

/// Runs all at once, results in order.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Nodes that share barriers: a Postgres cluster, the members of etcd that are nothing else, or a node alone.
fn cohort(topology: &Topology, node: usize) -> String {
    let n = &topology.nodes[node];
    match (n.instance, n.etcd_member, &topology.etcd) {
        (Some(i), _, _) => topology.clusters[i.cluster].name.clone(),
        (None, Some(_), Some(etcd)) => format!("{} (etcd)", etcd.name),
        _ => n.name.clone(),
    }
}

/// The least free space for a change, bytes: packages, a log, a WAL segment.
const LEAST_FREE: u64 = 512 << 20;

/// What of a node's facts does not fit; all of it.
pub fn check(topology: &Topology, node: usize, facts: &Facts) -> Vec<String> {
    let n = &topology.nodes[node];
    let mut wrong = Vec::new();
    if facts.uid != 0 {
        wrong.push(format!(
            "scripts run as uid {}, not as root: log in as root or set `ansible_become: true`",
            facts.uid
        ));
    }
    if !facts.systemd {
        wrong.push("systemd does not run here".to_owned());
    }
    if !facts.missing_tools.is_empty() {
        wrong.push(format!("these tools are missing: {}", facts.missing_tools.join(", ")));
    }
    let primary = n.instance.map(|i| topology.clusters[i.cluster].primary().node == node);
    if primary == Some(true) && n.str_var("pg_upstream").is_some_and(|u| !u.is_empty()) {
        wrong.push(
            "`pg_upstream` on a primary asks for a standby cluster, which comes later: deployed now, it would be an \
             independent cluster that takes writes"
                .to_owned(),
        );
    }
    let supported = facts.os_id == "debian" && matches!(facts.os_version.as_str(), "12" | "13");
    if !supported {
        wrong.push(format!("{} is not supported yet; Debian 12 and 13 are", facts.os_name));
    }
    for (what, free) in [("/", facts.root_free_bytes), ("the data directory", facts.disk_free_bytes)] {
        if free < LEAST_FREE {
            wrong.push(format!(
                "no space left: {} MiB free for {what}, at least {} MiB are needed",
                free >> 20,
                LEAST_FREE >> 20
            ));
        }
    }
    if let (true, Some(i)) = (supported, n.instance) {
        // The distribution's own packages hold one major version.
        let has = if facts.os_version == "12" { 15 } else { 17 };
        let wants = topology.clusters[i.cluster].version;
        if wants != has {
            wrong.push(format!(
                "`pg_version` is {wants}, and Debian {} has PostgreSQL {has}: other repositories come later",
                facts.os_version
            ));
        }
    }
    wrong
}

/// Clocks that are more than five seconds apart: TTLs, certificates and recovery targets would lie.
fn clocks(topology: &Topology, nodes: &[Gathered]) -> Option<(String, String)> {
    let earliest = nodes.iter().min_by_key(|n| n.skew_seconds)?;
    let latest = nodes.iter().max_by_key(|n| n.skew_seconds)?;
    let apart = latest.skew_seconds - earliest.skew_seconds;
    (apart > 5).then(|| {
        let name = |g: &Gathered| topology.nodes[g.node].name.clone();
        (name(latest), format!("its clock is {apart} s ahead of that of {}", name(earliest)))
    })
}
