//! Events as they come: a live line per node on a terminal, plain lines elsewhere, JSON lines on request.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Style, err, out};
use crate::engine::{Event, Failure};
use crate::resource::Verdict;

/// Shows events until the engine has dropped its end.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bars: Option<MultiProgress>,
    nodes: BTreeMap<String, ProgressBar>,
}

impl Progress {
    pub fn new(style: Style) -> Self {
        Self { style, bars: style.live.then(MultiProgress::new), nodes: BTreeMap::new() }
    }

    pub async fn show(mut self, mut events: UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            self.event(&event);
        }
        for bar in self.nodes.values() {
            bar.finish_and_clear();
        }
    }

    fn event(&mut self, event: &Event) {
        if self.style.json {
            if let Ok(line) = serde_json::to_string(event) {
                out(&format!("{line}\n"));
            }
            return;
        }
        if let Some((node, text)) = doing(event) {
            self.bar(&node, &text);
        }
        if let Some(text) = page(event, self.style) {
            self.line(&text, matches!(event, Event::Failed(_) | Event::Unreachable { .. }));
        }
    }

    fn bar(&mut self, node: &str, text: &str) {
        let Some(bars) = &self.bars else { return };
        let bar = self.nodes.entry(node.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            let layout = ProgressStyle::with_template("  {prefix}  {spinner} {wide_msg} {elapsed}");
            bar.set_style(layout.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(node.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.reset_elapsed();
        bar.set_message(text.to_owned());
    }

    fn line(&self, text: &str, always: bool) {
        if self.style.quiet && !always {
            return;
        }
        match &self.bars {
            Some(bars) => bars.suspend(|| err(text)),
            None => err(text),
        }
    }
}

/// What a node is at, for its live line.
fn doing(event: &Event) -> Option<(String, String)> {
    match event {
        Event::Started { node, stage, resource } => Some((node.clone(), format!("{stage}: {resource}"))),
        Event::Waiting { node, stage, what, state, .. } => {
            Some((node.clone(), format!("{stage}: until {what} ({state})")))
        }
        _ => None,
    }
}

/// The lasting line or lines of an event.
fn page(event: &Event, style: Style) -> Option<String> {
    Some(match event {
        Event::Changed { node, stage, resource, verdict, reason, seconds } => {
            let mark = match verdict {
                Verdict::Create => style.green("+"),
                Verdict::Update => style.yellow("~"),
                Verdict::Restart => style.red("!"),
                Verdict::Run => style.bold(">"),
            };
            format!(
                "{stage:14}  {node}  {mark} {resource}  {reason}  {}\n",
                style.dim(&format!("{seconds:.1}s"))
            )
        }
        Event::Unchanged { node, stage, resource } => {
            format!("{stage:14}  {node}  = {resource}  as wanted\n")
        }
        Event::Waited { node, stage, what, seconds } if *seconds > 0.5 => {
            format!("{stage:14}  {node}  … {what}  {}\n", style.dim(&format!("{seconds:.1}s")))
        }
        Event::Waiting { node, stage, what, seconds, state } if !style.live && *seconds > 5.0 => {
            format!("{stage:14}  {node}  … until {what}: {state} ({seconds:.0}s)\n")
        }
        Event::Unreachable { node, error, hint } => {
            let hint = hint.as_ref().map_or_else(String::new, |h| format!("  {} {h}\n", style.bold("hint:")));
            format!("{} {node}: {error}\n{hint}", style.red("unreachable:"))
        }
        Event::Orphan { node } => {
            format!("{node}: a step of an earlier run still runs; it is let finish\n")
        }
        Event::Failed(failure) => self::failure(failure, style),
        Event::Blocked { node, stage, why } => {
            format!("{stage:14}  {node}  {} left undone: {why}\n", style.yellow("-"))
        }
        Event::Stopping => "interrupted: what runs is finished, nothing new is begun\n".to_owned(),
        Event::Started { .. } | Event::Waited { .. } | Event::Waiting { .. } => {
            return None;
        }
    })
}

/// The error page: node, stage, resource, exit code, the last lines, the next command.
pub(super) fn failure(f: &Failure, style: Style) -> String {
    let code = f.code.map_or_else(String::new, |c| format!(" (exit code {c})"));
    let mut s = format!("{} {} on {}, stage {}{code}\n", style.red("failed:"), f.resource, f.node, f.stage);
    let lines: Vec<&str> = f.output.lines().collect();
    for line in &lines[lines.len().saturating_sub(40)..] {
        s.push_str(&format!("  | {line}\n"));
    }
    if let Some(hint) = &f.hint {
        s.push_str(&format!("  {} {hint}\n", style.bold("hint:")));
    }
    s
}
