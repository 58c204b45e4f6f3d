//! Apply: exactly the plan's changes, one exec per run of changes, stages as barriers per cohort.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinSet;

use super::event::{Event, Failure, Sink};
use super::gather::Gathered;
use super::script::{self, ScriptError};
use super::{lock, wait};
use crate::plan::{Item, NodePlan, Plan, StageInfo, Step, Summary};
use crate::playbook::{On, Order};
use crate::resource::observe::{self, Observed};
use crate::resource::{Action, Change, Diff, Pending, Seen};
use crate::text::frame::Frame;
use crate::text::quote::shell;
use crate::topology::Topology;

/// What a deploy did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Changes that were made.
    pub done: Summary,
    pub failures: Vec<Failure>,
    /// Nodes with work left undone: (node, stage, why).
    pub blocked: Vec<(String, String, String)>,
    pub interrupted: bool,
}

/// Everything that the tasks of one deploy share.
struct Run {
    topology: Arc<Topology>,
    stages: Vec<StageInfo>,
    nodes: HashMap<usize, Gathered>,
    mark: String,
    sink: Sink,
    stop: Arc<AtomicBool>,
    /// Inventory primaries and other nodes that could not be reached.
    absent: HashSet<String>,
    outcome: Mutex<Outcome>,
    /// Serial work on etcd's members, and the member that failed at it.
    etcd_turn: tokio::sync::Mutex<Option<String>>,
}

/// Performs `plan` on the gathered nodes. `stop` set: what runs is finished, nothing new is begun.
pub async fn apply(
    topology: &Arc<Topology>,
    plan: &Plan,
    nodes: Vec<Gathered>,
    mark: &str,
    sink: &Sink,
    stop: &Arc<AtomicBool>,
) -> Outcome {
    let run = Arc::new(Run {
        topology: topology.clone(),
        stages: plan.stages.clone(),
        nodes: nodes.into_iter().map(|n| (n.node, n)).collect(),
        mark: mark.to_owned(),
        sink: sink.clone(),
        stop: stop.clone(),
        absent: plan.unreachable.iter().map(|(name, _)| name.clone()).collect(),
        outcome: Mutex::default(),
        etcd_turn: tokio::sync::Mutex::default(),
    });
    let mut cohorts: BTreeMap<String, Vec<NodePlan>> = BTreeMap::new();
    for node in &plan.nodes {
        cohorts.entry(node.cohort.clone()).or_default().push(node.clone());
    }
    let mut tasks = JoinSet::new();
    for (_, nodes) in cohorts {
        let run = run.clone();
        tasks.spawn(async move { cohort(&run, nodes).await });
    }
    // A second script tells the nodes to stop after the resource that they are at.
    let told = run.clone();
    let teller = tokio::spawn(async move {
        while !told.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        told.sink.send(Event::Stopping);
        let body = format!("mkdir -p {0} && : >{0}/stop.{1}", lock::DIRECTORY, shell(&told.mark));
        let mut telling = JoinSet::new();
        for node in told.nodes.values() {
            let (session, mark, body) = (node.session.clone(), told.mark.clone(), body.clone());
            telling.spawn(async move {
                if let Err(error) = script::look(&session, &mark, &body).await {
                    tracing::warn!(%error, "a node could not be told to stop");
                }
            });
        }
        telling.join_all().await;
    });
    while let Some(result) = tasks.join_next().await {
        if let Err(error) = result {
            tracing::error!(%error, "a cohort's task died");
            run.note(|o| o.blocked.push(("?".into(), "?".into(), error.to_string())));
        }
    }
    teller.abort();
    let mut outcome =
        std::mem::take(&mut *run.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    outcome.interrupted = stop.load(Ordering::Relaxed);
    outcome
}

impl Run {
    fn note(&self, change: impl FnOnce(&mut Outcome)) {
        change(&mut self.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn block(&self, node: &str, stage: &str, why: &str) {
        let (node, stage, why) = (node.to_owned(), stage.to_owned(), why.to_owned());
        self.note(|o| o.blocked.push((node.clone(), stage.clone(), why.clone())));
        self.sink.send(Event::Blocked { node, stage, why });
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One cohort through its stages. A node that fails is out; the others go on.
async fn cohort(run: &Arc<Run>, mut nodes: Vec<NodePlan>) {
    let all: HashSet<String> = nodes.iter().map(|n| n.name.clone()).collect();
    for index in 0..run.stages.len() {
        let works = |n: &NodePlan| n.items.iter().any(|i| i.stage == index && !is_quiet(i));
        let (mut turn, rest): (Vec<_>, Vec<_>) = nodes.into_iter().partition(works);
        nodes = rest;
        if turn.is_empty() {
            continue;
        }
        let stage = &run.stages[index];
        if run.stopped() {
            for node in &turn {
                run.block(&node.name, &stage.name, "interrupted");
            }
            return;
        }
        let lead = leader(run, &turn, &nodes);
        turn.sort_by_key(|n| n.node);
        let at = turn.iter().position(|n| Some(&n.name) == lead.as_ref());
        // A replica follows: without a leader now, and without the node that is to lead still in play, starting
        // it could begin a new cluster from it, while the primary may hold the data.
        let follows = stage.on == On::Replicas || stage.order == Order::PrimaryFirst;
        let led = turn.iter().any(|n| n.leader.is_some());
        let in_play = at.is_some() || nodes.iter().any(|n| Some(&n.name) == lead.as_ref());
        if let (true, false, false, Some(lead)) = (follows, led, in_play, &lead) {
            let state = if run.absent.contains(lead) {
                "cannot be reached"
            } else if all.contains(lead) {
                "has failed"
            } else {
                "is not selected"
            };
            for node in turn {
                let why = format!(
                    "the cluster has no leader and its primary `{lead}` {state}: it is not begun from another node"
                );
                run.block(&node.name, &stage.name, &why);
            }
            continue;
        }
        match (stage.order, at) {
            (Order::PrimaryFirst, Some(at)) => {
                let first = turn.remove(at);
                let name = first.name.clone();
                match one(run, index, first).await {
                    Some(node) => nodes.push(node),
                    None => {
                        for node in turn {
                            run.block(
                                &node.name,
                                &stage.name,
                                &format!("`{name}` comes first and has failed"),
                            );
                        }
                        continue;
                    }
                }
            }
            (Order::LeaderLast, Some(at)) => {
                let last = turn.remove(at);
                turn.push(last);
            }
            _ => {}
        }
        if matches!(stage.order, Order::Serial | Order::LeaderLast) {
            // etcd is one cluster, whoever else lives on its members: its turn is the whole run's.
            let whole_run = if stage.on == On::Etcd { Some(run.etcd_turn.lock().await) } else { None };
            let mut failed: Option<String> = whole_run.as_ref().and_then(|t| (**t).clone());
            for node in turn {
                if let Some(failed) = &failed {
                    run.block(&node.name, &stage.name, &format!("`{failed}` has failed before it"));
                    continue;
                }
                let name = node.name.clone();
                match one(run, index, node).await {
                    Some(node) => nodes.push(node),
                    None => failed = Some(name),
                }
            }
            if let Some(mut turn) = whole_run {
                *turn = failed;
            }
        } else {
            let mut tasks = JoinSet::new();
            for node in turn {
                let run = run.clone();
                tasks.spawn(async move { one(&run, index, node).await });
            }
            while let Some(result) = tasks.join_next().await {
                match result {
                    Ok(node) => nodes.extend(node),
                    Err(error) => run.block("a node", &stage.name, &format!("its task died: {error}")),
                }
            }
        }
    }
}

fn is_quiet(item: &Item) -> bool {
    matches!(item.step, Step::Same | Step::Note(_))
}

/// The cohort's leader: Patroni's word, else the inventory's primary.
fn leader(run: &Run, turn: &[NodePlan], rest: &[NodePlan]) -> Option<String> {
    let nodes = || turn.iter().chain(rest);
    nodes().find_map(|n| n.leader.clone()).or_else(|| {
        let instance = nodes().find_map(|n| run.topology.nodes[n.node].instance)?;
        Some(run.topology.clusters[instance.cluster].primary().name.clone())
    })
}

/// One node through one stage; `None` when it failed and is out.
async fn one(run: &Run, stage: usize, plan: NodePlan) -> Option<NodePlan> {
    let info = &run.stages[stage];
    let Some(node) = run.nodes.get(&plan.node) else {
        run.block(&plan.name, &info.name, "it was not gathered");
        return None;
    };
    match steps(run, node, &plan, stage).await {
        Ok(true) => Some(plan),
        Ok(false) => {
            run.block(&plan.name, &info.name, "interrupted");
            None
        }
        Err(failure) => {
            run.note(|o| o.failures.push(failure.clone()));
            run.sink.send(Event::Failed(failure));
            None
        }
    }
}

/// One resource with what is to be done about it now.
struct Task {
    resource: String,
    change: Option<Change>,
    actions: Vec<Action>,
}

/// The stage's work on one node. `false`: stopped before the end.
async fn steps(run: &Run, node: &Gathered, plan: &NodePlan, stage: usize) -> Result<bool, Failure> {
    let name = &run.stages[stage].name;
    let items: Vec<&Item> = plan.items.iter().filter(|i| i.stage == stage).collect();
    let seen = look_again(run, node, &items, &plan.name, name).await?;
    let mut tasks = Vec::new();
    let mut pending = Pending::default();
    for item in items {
        let resource = item.resource.id();
        let failed = |output: String| Failure {
            node: plan.name.clone(),
            stage: name.clone(),
            resource: resource.clone(),
            code: None,
            output,
            hint: None,
        };
        let change = match (&item.step, &seen) {
            (Step::Same | Step::Note(_), _) => continue,
            (Step::Failed(why), _) => return Err(failed(why.clone())),
            (Step::Wait(wait), _) => {
                tasks.push(Task { resource, change: None, actions: vec![Action::Wait(wait.clone())] });
                continue;
            }
            (Step::Change(change), _) => change.clone(),
            (Step::KnownAfter { .. }, None) => continue,
            (Step::KnownAfter { .. }, Some((observed, live))) => {
                let seen = Seen { observed, pending: &pending, live, leader: live.leader() };
                match item.resource.diff(&seen) {
                    Diff::Change(change) => change,
                    Diff::Same | Diff::Note(_) => {
                        let (node, stage) = (plan.name.clone(), name.clone());
                        run.sink.send(Event::Unchanged { node, stage, resource });
                        continue;
                    }
                    Diff::Wait(wait) => {
                        tasks.push(Task { resource, change: None, actions: vec![Action::Wait(wait)] });
                        continue;
                    }
                    Diff::Unknown { cause, .. } | Diff::Failed(cause) => return Err(failed(cause)),
                }
            }
        };
        pending.add(&change);
        let actions = change.actions.clone();
        tasks.push(Task { resource, change: Some(change), actions });
    }
    perform(run, node, &plan.name, name, tasks).await
}

/// The resources that can only be seen now, seen now.
async fn look_again(
    run: &Run,
    node: &Gathered,
    items: &[&Item],
    name: &str,
    stage: &str,
) -> Result<Option<(Observed, crate::live::Live)>, Failure> {
    let later: Vec<&&Item> = items.iter().filter(|i| matches!(i.step, Step::KnownAfter { .. })).collect();
    let Some(first) = later.first() else { return Ok(None) };
    let queries: Vec<_> = later.iter().flat_map(|i| i.resource.queries()).collect();
    let failed = |output: String| Failure {
        node: name.to_owned(),
        stage: stage.to_owned(),
        resource: first.resource.id(),
        code: None,
        output,
        hint: None,
    };
    let body = observe::script(&queries);
    let records = script::look(&node.session, &run.mark, &body).await;
    let records = records.map_err(|e| failed(e.to_string()))?;
    let observed = Observed::read(&queries, &records).map_err(|e| failed(e.to_string()))?;
    let live = super::gather::live(&run.topology, node.node, &node.session).await;
    Ok(Some((observed, live)))
}

/// Runs of shell actions in one exec each, waits in between.
async fn perform(
    run: &Run,
    node: &Gathered,
    name: &str,
    stage: &str,
    tasks: Vec<Task>,
) -> Result<bool, Failure> {
    let mut batch: Vec<(usize, String)> = Vec::new();
    let mut ops: Vec<(usize, Action)> = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        ops.extend(task.actions.iter().map(|a| (index, a.clone())));
    }
    let last_of: HashMap<usize, usize> =
        ops.iter().enumerate().map(|(at, (index, _))| (*index, at)).collect();
    let begun = Instant::now();
    let mut at = 0;
    while at < ops.len() {
        batch.clear();
        while let Some((_, Action::Shell(script))) = ops.get(at) {
            batch.push((at, script.clone()));
            at += 1;
        }
        if !batch.is_empty() && !shells(run, node, name, stage, &tasks, &ops, &last_of, &batch).await? {
            return Ok(false);
        }
        while let Some((index, Action::Wait(wait))) = ops.get(at) {
            if run.stopped() {
                return Ok(false);
            }
            if !wait::wait(&run.topology, node, &run.mark, stage, wait, &run.sink, &run.stop).await? {
                return Ok(false);
            }
            if last_of[index] == at {
                changed(run, name, stage, &tasks[*index], begun);
            }
            at += 1;
        }
    }
    Ok(true)
}

fn changed(run: &Run, node: &str, stage: &str, task: &Task, begun: Instant) {
    let Some(change) = &task.change else { return };
    run.note(|o| o.done.add(change.verdict));
    run.sink.send(Event::Changed {
        node: node.to_owned(),
        stage: stage.to_owned(),
        resource: task.resource.clone(),
        verdict: change.verdict,
        reason: change.reason.clone(),
        seconds: begun.elapsed().as_secs_f64(),
    });
}

/// One exec for a run of shell actions; each is a record, and the first failure ends it.
#[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
async fn shells(
    run: &Run,
    node: &Gathered,
    name: &str,
    stage: &str,
    tasks: &[Task],
    ops: &[(usize, Action)],
    last_of: &HashMap<usize, usize>,
    batch: &[(usize, String)],
) -> Result<bool, Failure> {
    let body = body(&run.mark, batch);
    let mut failed: Option<(usize, i32)> = None;
    let mut stopped = false;
    let mut outputs: HashMap<usize, String> = HashMap::new();
    let mut begun = Instant::now();
    let mut current = batch[0].0;
    let result = script::run(&node.session, &run.mark, &body, None, |frame| match frame {
        Frame::Begin(id) => {
            if let Ok(at) = id.parse::<usize>() {
                begun = Instant::now();
                current = at;
                run.sink.send(Event::Started {
                    node: name.to_owned(),
                    stage: stage.to_owned(),
                    resource: tasks[ops[at].0].resource.clone(),
                });
            }
        }
        Frame::End(record) if record.id == "stopped" => stopped = true,
        Frame::End(record) => {
            if let Ok(at) = record.id.parse::<usize>() {
                if record.code != 0 {
                    failed = Some((at, record.code));
                    outputs.insert(at, record.output.clone());
                } else if last_of[&ops[at].0] == at {
                    changed(run, name, stage, &tasks[ops[at].0], begun);
                }
            } else if record.code != 0 {
                failed = Some((current, record.code));
                outputs.insert(current, record.output.clone());
            }
        }
        Frame::Done => {}
    })
    .await;
    let failure = |at: usize, code, output: String| {
        let hint = hint(&output);
        let resource = tasks[ops[at].0].resource.clone();
        Failure { node: name.to_owned(), stage: stage.to_owned(), resource, code, output, hint }
    };
    if let Some((at, code)) = failed {
        return Err(failure(at, Some(code), outputs.remove(&at).unwrap_or_default().trim_end().to_owned()));
    }
    match result {
        _ if stopped => Ok(false),
        Ok(_) => Ok(true),
        Err(ScriptError::Remote(e)) => Err(failure(current, None, format!("the connection broke: {e}"))),
        Err(e) => Err(failure(current, None, e.to_string())),
    }
}

/// The script of a batch. It holds the step lock, so that the next run can wait for what this one
/// leaves behind, and looks for the stop file between resources.
fn body(mark: &str, batch: &[(usize, String)]) -> String {
    let directory = lock::DIRECTORY;
    let mut s = format!(
        "mkdir -p {directory} && exec 8>>{directory}/step && flock -n 8 || {{ begin lock; echo 'another step runs on this node'; end lock 1; return; }}
T=$(mktemp -d {directory}/run.XXXXXX) || {{ begin lock; echo 'no space in {directory}'; end lock 1; return; }}
"
    );
    for (at, script) in batch {
        let _ = write!(
            s,
            "if [ -e {directory}/stop.{mark} ]; then begin stopped; end stopped 0; rm -rf \"$T\"; return; fi
begin {at}
( exec 8>&-
{script}
) </dev/null >\"$T/out\" 2>&1
r=$?
[ $r = 0 ] || tail -c 6000 \"$T/out\"
end {at} $r
[ $r = 0 ] || {{ rm -rf \"$T\"; return; }}
"
        );
    }
    s.push_str("rm -rf \"$T\"");
    s
}

/// The next thing to try, for failures that say themselves what they are.
fn hint(output: &str) -> Option<String> {
    let has = |words: &str| output.contains(words);
    let text = if has("No space left on device") || has("not enough free space") {
        "the disk is full: look with `df -h` on the node, make room, then deploy again"
    } else if has("Read-only file system") {
        "a file system is read-only: look at `dmesg` and `mount` on the node"
    } else if has("Unable to locate package") || has("has no installation candidate") {
        "the package is in none of the node's repositories: check `pg_version` against what the distribution has, \
         or add a repository"
    } else if has("Could not get lock") || has("is held by process") {
        "another package manager runs on the node: wait for it, then deploy again"
    } else if has("Temporary failure resolving") || has("Could not resolve") {
        "the node cannot resolve its package mirror: check its `/etc/resolv.conf`"
    } else if has("Address already in use") {
        "another process has the port: `ss -ltnp` on the node names it"
    } else {
        return None;
    };
    Some(text.to_owned())
}
