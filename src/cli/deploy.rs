//! `pgctl deploy`.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::common::{self, Connection, Loaded, Selection, Source};
use crate::engine::apply::{Outcome, apply};
use crate::engine::lock::Holder;
use crate::engine::survey::{Question, survey};
use crate::engine::{Sink, script};
use crate::plan::Plan;
use crate::report::{Exit, Failure, Progress, Style, count, err, out, plan as page};

/// Make the nodes what the inventory says: exactly the changes that `plan` shows
///
/// Safe to run again: what is right is left alone, and a run that was cut off is finished by the next one. On
/// a terminal it shows the plan and asks first; elsewhere, or with `-y`, it begins at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    /// Only these stages (can be repeated; globs)
    #[arg(long, alias = "tags", value_name = "STAGE", help_heading = "Selection", value_delimiter = ',')]
    stage: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// Answer yes
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let loaded = args.source.load(style)?;
    common::runtime()?.block_on(deploy(args, &loaded, style))
}

async fn deploy(args: &Args, loaded: &Loaded, style: Style) -> Result<Exit, Failure> {
    let (playbook, templates, sources) = common::playbook("deploy.yml", style)?;
    let nodes = common::nodes(&loaded.topology, &args.selection)?;
    let stages =
        crate::plan::stages(&playbook, &args.stage).map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
    let options = args.connection.options(&loaded.topology);
    let mark = script::mark();
    let question = Question {
        topology: &loaded.topology,
        playbook: &playbook,
        templates: &templates,
        nodes: &nodes,
        stages: &stages,
        options: &options,
        holder: Some(Holder::this("deploy")),
    };
    let (sender, events) = mpsc::unbounded_channel();
    let sink = Sink::new(sender);
    let screen = tokio::spawn(Progress::new(style).show(events));
    let found = survey(question, &mark, &sink).await.map_err(|e| common::survey_failure(e, &sources, style));
    let found = match found {
        Ok(found) => found,
        Err(failure) => {
            drop(sink);
            let _ = screen.await;
            return Err(failure);
        }
    };
    let plan = found.plan;
    let changes = plan.summary().changes();
    if plan.is_settled() || plan.nodes.is_empty() {
        drop(sink);
        let _ = screen.await;
        return ended(args, &plan, &Outcome::default(), loaded, style);
    }
    if changes > 0 && !args.yes && std::io::stdin().is_terminal() && !style.json {
        err(&page::page(&plan, style, ""));
        if !crate::report::ask(&format!("make {}?", count(changes, "change"))) {
            err("not confirmed: nothing was touched\n");
            return Ok(Exit::Interrupted);
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let signals = tokio::spawn(interrupted(stop.clone()));
    let outcome = apply(&loaded.topology, &plan, found.nodes, &mark, &sink, &stop).await;
    signals.abort();
    drop(sink);
    let _ = screen.await;
    ended(args, &plan, &outcome, loaded, style)
}

/// The first Ctrl-C (or TERM) stops after what runs now; the second ends at once.
async fn interrupted(stop: Arc<AtomicBool>) {
    let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut term) = term else { return };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        if stop.swap(true, Ordering::Relaxed) {
            err("interrupted again: left as it is; the next deploy finishes it\n");
            std::process::exit(i32::from(Exit::Interrupted as u8));
        }
    }
}

/// The last words and the exit code.
fn ended(
    args: &Args,
    plan: &Plan,
    outcome: &Outcome,
    loaded: &Loaded,
    style: Style,
) -> Result<Exit, Failure> {
    // What the plan knew to fail has failed again in its turn, unless it never came to that.
    let failed = if outcome.failures.is_empty() { plan.failures().len() } else { outcome.failures.len() };
    let summary = plan.summary();
    let made = outcome.done;
    if style.json {
        let last = serde_json::json!({"event": "summary", "summary": {
            "nodes": summary.nodes, "unchanged": summary.unchanged, "create": made.create, "update": made.update,
            "restart": made.restart, "run": made.run, "unreachable": summary.unreachable, "failed": failed},
            "blocked": outcome.blocked.iter().map(|(n, s, w)| serde_json::json!({"node": n, "stage": s, "reason": w})).collect::<Vec<_>>()});
        out(&format!("{last}\n"));
    } else {
        // A run that changes nothing is silent about what it cannot change either; `plan` says it.
        let notes = if made.changes() > 0 || style.verbose > 0 { plan.notes() } else { Vec::new() };
        for (node, resource, why) in notes {
            err(&format!("{} {node} {resource}: {why}\n", style.yellow("note:")));
        }
        if summary.nodes == 0 {
            out("Nothing was touched.\n");
        } else if made.changes() == 0 && failed == 0 && outcome.blocked.is_empty() {
            out(&format!("No changes: {} as the inventory says.\n", count(summary.nodes, "node")));
        } else {
            out(&format!("{} made on {}.\n", count(made.changes(), "change"), count(summary.nodes, "node")));
        }
    }
    let path = loaded.path.display();
    let again = format!("`pgctl deploy{} {path}` goes on from here", args.selection.words(&args.stage));
    let left = |what: String| {
        format!(
            "{what}; {}",
            if made.changes() > 0 { "the rest was done" } else { "nothing else was to be done" }
        )
    };
    if outcome.interrupted {
        return Err(Failure::new(Exit::Interrupted, "interrupted").hint(again));
    }
    if failed > 0 {
        return Err(
            Failure::new(Exit::Failed, left(format!("{} failed", count(failed, "resource")))).hint(again)
        );
    }
    if summary.unreachable > 0 {
        let names: Vec<&str> = plan.unreachable.iter().map(|(n, _)| n.as_str()).collect();
        return Err(Failure::new(
            Exit::Unreachable,
            left(format!("{} could not be reached", names.join(", "))),
        )
        .hint(format!("bring {} back, then {again}", if names.len() == 1 { "it" } else { "them" })));
    }
    if !outcome.blocked.is_empty() {
        return Err(Failure::new(Exit::Failed, "some work was left undone").hint(again));
    }
    if !style.json && !loaded.topology.clusters.is_empty() {
        out(&format!("{} `pgctl status {path}` shows the cluster and how to connect\n", style.bold("hint:")));
    }
    Ok(Exit::Done)
}
