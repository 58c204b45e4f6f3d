//! A plan as people read it: stages, nodes, marks, reasons, and what to type next.

use std::fmt::Write as _;

use super::{Style, count};
use crate::plan::{Line, Plan};
use crate::resource::Verdict;

/// The page of a plan. `next` is the command that makes the changes.
pub fn page(plan: &Plan, style: Style, next: &str) -> String {
    let mut s = String::new();
    let lines = plan.lines();
    let width = |f: fn(&Line) -> usize| lines.iter().map(f).max().unwrap_or(0);
    let (names, resources) =
        (width(|l| l.node.chars().count()), width(|l| l.resource.chars().count()).min(48));
    let mut stage = "";
    for line in &lines {
        if line.stage != stage {
            let _ = writeln!(s, "{}", style.bold(&line.stage));
        }
        stage = &line.stage;
        s.push_str(&self::line(line, names, resources, style));
        if style.verbose > 0
            && let Some(diff) = &line.diff
        {
            for part in diff.lines() {
                let part = match part.chars().next() {
                    Some('+') => style.green(part),
                    Some('-') => style.red(part),
                    _ => style.dim(part),
                };
                let _ = writeln!(s, "      {part}");
            }
        }
    }
    for (node, resource, why) in plan.failures() {
        let _ = writeln!(s, "{} {node} {resource}: {why}", style.red("error:"));
    }
    for (node, resource, why) in plan.notes() {
        let _ = writeln!(s, "{} {node} {resource}: {why}", style.yellow("note:"));
    }
    for (node, why) in &plan.unreachable {
        let _ = writeln!(s, "{} {node}: {why}", style.red("unreachable:"));
    }
    let _ = writeln!(s, "{}", summary(plan));
    if plan.summary().changes() > 0 && !next.is_empty() {
        let _ = writeln!(s, "{} `{next}` makes these changes", style.bold("hint:"));
        if style.verbose == 0 && lines.iter().any(|l| l.diff.is_some()) {
            let _ = writeln!(s, "{} `-v` shows the differences line by line", style.bold("hint:"));
        }
    }
    s
}

fn line(line: &Line, names: usize, resources: usize, style: Style) -> String {
    let mark = match line.verdict {
        Verdict::Create => style.green("+"),
        Verdict::Update => style.yellow("~"),
        Verdict::Restart => style.red("!"),
        Verdict::Run => style.bold(">"),
    };
    format!("  {:names$}  {mark} {:resources$}  {}\n", line.node, line.resource, line.reason)
}

/// The last line: how much differs, and what is interrupted.
pub fn summary(plan: &Plan) -> String {
    let sum = plan.summary();
    let mut s = String::new();
    let waits = plan.waits();
    if sum.changes() == 0 && sum.nodes > 0 && waits.is_empty() {
        let _ = write!(s, "No changes: {} as the inventory says.", count(sum.nodes, "node"));
    } else if sum.changes() == 0 {
        s.push_str("No changes.");
        for (node, what) in &waits {
            let _ = write!(s, " {node} is not as it should be: not yet \"{what}\".");
        }
    } else {
        let differing =
            plan.nodes.iter().filter(|n| n.items.iter().any(|i| i.step.change().is_some())).count();
        let parts = [
            (sum.create, "to create"),
            (sum.update, "to change"),
            (sum.run, "to run"),
            (sum.restart, "to restart"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        let _ = write!(s, "{differing} of {} differ: {}.", count(sum.nodes, "node"), parts.join(", "));
        let interrupted: Vec<String> =
            plan.restarts().into_iter().filter(|(_, _, pg)| *pg).map(|(node, _, _)| node).collect();
        if interrupted.is_empty() {
            s.push_str(" No restart of PostgreSQL.");
        } else {
            let _ = write!(s, " PostgreSQL restarts on {}.", interrupted.join(", "));
        }
        s.push_str(" Nothing was touched.");
    }
    if sum.unreachable > 0 {
        let _ = write!(s, " {} unreachable.", count(sum.unreachable, "node"));
    }
    if sum.failed > 0 {
        let _ = write!(s, " {} could not be looked at.", count(sum.failed, "resource"));
    }
    s
}
